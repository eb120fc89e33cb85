"""The baseline `spikingjelly`: SpikingJelly's DSR neurons in the same network."""

from __future__ import annotations

if __name__ == "__main__":
    raise SystemExit(
        "spikingjelly_neurons.py is a module: run benchmarks/train_step.py, which measures it"
    )

from torch import Tensor, nn  # noqa: E402

from models.neuron import IFNeuron, Neuron  # noqa: E402


def with_spikingjelly(model: nn.Module) -> nn.Module:
    """Compute the neurons of `model` by SpikingJelly, in place; return `model`.

    Thresholds remain parameters of the model. Exits where SpikingJelly, or its DSR neurons, are
    not installed.
    """
    model.configure(engine="unrolled")
    for module in model.modules():
        if isinstance(module, Neuron):
            module.forward = _forward(_node(module), module.dynamics.timesteps)
    return model


def _node(neuron: Neuron) -> nn.Module:
    try:
        from spikingjelly.activation_based.neuron import DSRIFNode, DSRLIFNode
    except ImportError as error:
        raise SystemExit(
            f"the way spikingjelly needs SpikingJelly 2 ({error}): "
            "pip install -r requirements-simulators.txt, or leave it out of --ways"
        ) from None
    d, bound = neuron.dynamics, neuron.Vth_bound
    constants = {"T": d.timesteps, "alpha": d.alpha, "v_threshold_lower_bound": bound}
    if isinstance(neuron, IFNeuron):
        node = DSRIFNode(v_threshold=1.0, **constants)
    else:
        times = {"tau": 1 / d.leak, "delta_t": 1 / d.amplitude}
        node = DSRLIFNode(v_threshold=1.0, **times, **constants)
    node.v_threshold = neuron.Vth
    return node


def _forward(node: nn.Module, timesteps: int):
    def forward(z: Tensor) -> Tensor:
        return node(z.unflatten(0, (timesteps, -1))).flatten(0, 1)

    return forward
