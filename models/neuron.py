"""IF and LIF layers, for the networks of this project and for any other PyTorch module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.dynamics import Dynamics, weighted_mean
from models.engines import folded, unrolled
from models.engines.folded import Current, SpikeTrain
from models.setting import NeuronSetting


class Neuron(nn.Module):
    """A layer of spiking neurons with one threshold `Vth`, a 0-dim parameter where it is trained.

    In a PyTorch module of your own, the input is `(T, N, ...)`: at least three dimensions, the
    first of which is time. With `merged` it is `(T*N, ...)`, time and batch in one dimension,
    sample n at step t in row `t*N + n`, as convolutions need it. A `SpikingNetwork` sets `merged`
    for its layers when it presents its input.

    The output has the shape of the input: `s_t` is the amplitude where a neuron fires and 0
    elsewhere. The amplitude is `Vth` for IF and `Vth / delta_t` for LIF.
    """

    # Called in place of the neurons if set (see `models.recording.means`).
    substitute: Callable[[Tensor], Tensor] | None = None

    def __init__(self, setting: NeuronSetting, dynamics: Dynamics, merged: bool) -> None:
        super().__init__()
        self.dynamics, self.merged = dynamics, merged
        self.Vth_bound, self.rate_stat = setting.Vth_bound, setting.rate_stat
        Vth = torch.tensor(float(setting.Vth))
        if setting.train_Vth:
            self.Vth = nn.Parameter(Vth)
        else:
            self.register_buffer("Vth", Vth, persistent=False)
        self.reset_rate()

    @torch.no_grad()
    def project_(self) -> None:
        """Raise the threshold to its floor, in place: `Vth <- max(Vth - bound, 0) + bound`."""
        self.Vth.sub_(self.Vth_bound).clamp_(min=0).add_(self.Vth_bound)

    def forward(self, x: Tensor | SpikeTrain | Current) -> Tensor | SpikeTrain:
        """Return the spikes of the input; the threshold is raised to its floor first.

        Raises `ValueError` for an input whose first dimension is not time.
        """
        if self.substitute is not None:
            return self.substitute(x)
        self.project_()
        if isinstance(x, Tensor):
            z = self._merge(x)
            train = fired = unrolled.fire(z, self.Vth, self.dynamics).view(x.shape)
        else:
            train = folded.fire(x, self.Vth, self.dynamics)
            fired = train.values
        if self.rate_stat and not self.training:
            self._fired = self._fired + torch.count_nonzero(fired)
            self._seen += fired.numel()
        return train

    def representation(self, s: Tensor) -> Tensor:
        """Return the weighted mean over time of spikes as `forward` returns them, `(N, ...)`."""
        steps = self._merge(s).unflatten(0, (self.dynamics.timesteps, -1))
        return weighted_mean(steps, self.dynamics)

    def _merge(self, x: Tensor) -> Tensor:
        """Return a tensor `(T*N, ...)`; raises `ValueError` if its first dimension is not time."""
        T, shape = self.dynamics.timesteps, tuple(x.shape)
        if self.merged:
            if x.dim() < 2 or len(x) % T:
                raise ValueError(
                    f"a neuron layer with {T} timesteps expects time and batch in the first "
                    f"dimension, (T*N, ...), got {shape}"
                )
            return x
        if x.dim() < 3 or len(x) != T:
            raise ValueError(
                f"a neuron layer with {T} timesteps expects (T, N, ...), at least three dimensions "
                f"with T = {T} first, got {shape}; for (T*N, ...) build the layer with merged=True"
            )
        return x.flatten(0, 1)

    def reset_rate(self) -> None:
        """Reset the spike count."""
        self._fired: Tensor | int = 0
        self._seen = 0

    def rate(self) -> tuple[Tensor | int, int]:
        """Return spikes and neurons times steps since the last reset; their ratio is the rate."""
        return self._fired, self._seen

    def extra_repr(self) -> str:
        """Describe the layer in the representation of a module."""
        return f"timesteps={self.dynamics.timesteps}, alpha={self.dynamics.alpha:g}"


class IFNeuron(Neuron):
    """Integrate-and-fire (docs/method.md, section 2).

    Constants are those of `setting`, by default of `NeuronSetting()`, with those given by keyword
    in their place: `IFNeuron(timesteps=5, Vth=1.0)`. `Vth_scale` scales the gradient of `Vth`.
    """

    def __init__(
        self,
        setting: NeuronSetting | None = None,
        Vth_scale: float = 1.0,
        merged: bool = False,
        **constants,
    ) -> None:
        setting = replace(setting or NeuronSetting(), **constants)
        super().__init__(setting, Dynamics.integrate_and_fire(setting, Vth_scale), merged)


class LIFNeuron(Neuron):
    """Leaky integrate-and-fire (docs/method.md, section 2).

    Constants are those of `setting`, by default of `NeuronSetting()`, with those given by keyword
    in their place: `LIFNeuron(timesteps=4, tau=2.0, delta_t=0.1)`.
    """

    def __init__(
        self, setting: NeuronSetting | None = None, merged: bool = False, **constants
    ) -> None:
        setting = replace(setting or NeuronSetting(), **constants)
        super().__init__(setting, Dynamics.leaky_integrate_and_fire(setting), merged)
