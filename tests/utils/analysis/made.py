"""Measurements made up by hand, of a network of two layers on four images."""

import torch

from utils.analysis.measurements import LayerSums, Measured, Measurements, SynapseSums
from utils.training.metrics import Scores


def measurements(frames: bool = False) -> Measurements:
    """Return measurements over three timesteps; the last image is never classified rightly."""
    return Measurements(
        layers={
            "relu1": LayerSums(
                images=4,
                has_fired=torch.tensor([[True, True], [True, False]]),
                spikes_per_step=torch.tensor([4, 6, 2]),
                silent=5,
                saturated=1,
                error=-1.0,
                squared_error=0.25,
                squared_ideal=4.0,
            ),
            "relu2": LayerSums(
                images=4,
                has_fired=torch.zeros(3, dtype=torch.bool),
                spikes_per_step=torch.tensor([0, 0, 0]),
                silent=12,
                saturated=0,
                error=0.0,
                squared_error=0.0,
                squared_ideal=0.0,
            ),
        },
        synapses=[
            SynapseSums("conv", 100, 3 if frames else 1, ()),
            SynapseSums("linear", 12, 3, ("relu1",), operations=36),
        ],
        labels=torch.tensor([0, 1, 2, 2]),
        predictions=torch.tensor([[0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 2, 1]]),
        confidences=torch.tensor(
            [[0.9, 0.5, 0.4, 0.4], [0.95, 0.8, 0.5, 0.7], [0.99, 0.9, 0.6, 0.7]]
        ),
        operations=torch.tensor([[3, 3, 3, 3], [6, 6, 3, 3], [3, 0, 3, 0]]),
        ideal_predictions=torch.tensor([0, 1, 2, 2]),
    )


def measured(frames: bool = False) -> Measured:
    """Return the same with scores and thresholds."""
    thresholds = {"relu1": 0.5, "relu2": 1.0}
    return Measured(measurements(frames), Scores(0.7, 75.0, 100.0, 4), thresholds)
