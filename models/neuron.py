"""IF and LIF layers: a threshold, its dynamics, and the firing rate seen in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.dynamics import Dynamics
from models.engines import unrolled
from models.engines.folded.spike_train import Current, Train
from models.setting import NeuronSetting


class Neuron(nn.Module):
    """A layer of spiking neurons with one threshold `Vth`, a 0-dim parameter where it is trained.

    Takes a train `(T*N, ...)` of the unrolled engine, or what stands for one in the folded engine.
    """

    def __init__(self, setting: NeuronSetting, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics, self.Vth_bound, self.rate_stat = (
            dynamics,
            setting.Vth_bound,
            setting.rate_stat,
        )
        Vth = torch.tensor(float(setting.Vth))
        if setting.train_Vth:
            self.Vth = nn.Parameter(Vth)
        else:
            self.register_buffer("Vth", Vth, persistent=False)
        self.reset_rate()

    @torch.no_grad()
    def project_(self) -> None:
        """`Vth <- max(Vth - bound, 0) + bound`, in place: the floor is no part of the graph."""
        self.Vth.sub_(self.Vth_bound).clamp_(min=0).add_(self.Vth_bound)

    def forward(self, x: Tensor | Train | Current) -> Tensor | Train:
        if isinstance(x, Tensor):
            train = unrolled.fire(x, self.Vth, self.dynamics)
            fired = train
        else:
            train = x.as_current().fire(self.Vth, self.dynamics)
            fired = train.values
        if self.rate_stat and not self.training:
            self._fired = self._fired + torch.count_nonzero(fired)
            self._seen += fired.numel()
        return train

    def reset_rate(self) -> None:
        """Forget the spikes counted so far."""
        self._fired: Tensor | int = 0
        self._seen = 0

    def rate(self) -> tuple[Tensor | int, int]:
        """`(spikes, neuron-steps)` since the last reset; their ratio is the firing rate."""
        return self._fired, self._seen

    def extra_repr(self) -> str:
        return f"timesteps={self.dynamics.timesteps}, alpha={self.dynamics.alpha:g}"


class IFNeuron(Neuron):
    """Integrate-and-fire (method.md section 2); `Vth_scale` scales the threshold's gradient."""

    def __init__(self, setting: NeuronSetting, Vth_scale: float = 1.0) -> None:
        super().__init__(setting, Dynamics.integrate_and_fire(setting, Vth_scale))


class LIFNeuron(Neuron):
    """Leaky integrate-and-fire (method.md section 2)."""

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__(setting, Dynamics.leaky_integrate_and_fire(setting))
