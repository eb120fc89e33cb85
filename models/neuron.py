"""IF and LIF layers: a threshold, its dynamics, and the firing rate in evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.dynamics import Dynamics
from models.engines import folded, unrolled
from models.engines.folded import Current, SpikeTrain
from models.setting import NeuronSetting


class Neuron(nn.Module):
    """A layer of spiking neurons with one threshold `Vth`, a 0-dim parameter where it is trained.

    Takes the input `(T*N, ...)` in the unrolled engine, or what stands for it in the folded engine.
    `substitute`, if set, is called in place of the neurons (see `models.recording.means`).
    """

    substitute: Callable[[Tensor], Tensor] | None = None

    def __init__(self, setting: NeuronSetting, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics
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
        if self.substitute is not None:
            return self.substitute(x)
        if isinstance(x, Tensor):
            train = fired = unrolled.fire(x, self.Vth, self.dynamics)
        else:
            train = folded.fire(x, self.Vth, self.dynamics)
            fired = train.values
        if self.rate_stat and not self.training:
            self._fired = self._fired + torch.count_nonzero(fired)
            self._seen += fired.numel()
        return train

    def reset_rate(self) -> None:
        """Reset the spike count."""
        self._fired: Tensor | int = 0
        self._seen = 0

    def rate(self) -> tuple[Tensor | int, int]:
        """Return spikes and neurons times steps since the last reset; their ratio is the rate."""
        return self._fired, self._seen

    def extra_repr(self) -> str:
        return f"timesteps={self.dynamics.timesteps}, alpha={self.dynamics.alpha:g}"


class IFNeuron(Neuron):
    """Integrate-and-fire (docs/method.md, section 2); `Vth_scale` scales the gradient of `Vth`."""

    def __init__(self, setting: NeuronSetting, Vth_scale: float = 1.0) -> None:
        super().__init__(setting, Dynamics.integrate_and_fire(setting, Vth_scale))


class LIFNeuron(Neuron):
    """Leaky integrate-and-fire (docs/method.md, section 2)."""

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__(setting, Dynamics.leaky_integrate_and_fire(setting))
