"""Operations and energy per image, beside those of the ANN of the same shape.

An operation of the spiking network is one weight added to one membrane potential because of one
spike (an accumulate, AC). A dense input, as that of the first layer, and every layer of the ANN,
costs one multiply-accumulate (MAC) per connection. The default energies are those of 32-bit
floating-point arithmetic in 45 nm CMOS, 0.9 pJ an addition and 3.7 pJ a multiplication: Horowitz,
Computing's Energy Problem, ISSCC 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from utils.analysis.measurements import Measurements, SynapseSums

MAC_PJ, AC_PJ = 4.6, 0.9


class LayerEnergy(NamedTuple):
    """Operations per image of one layer, and their energies in picojoules."""

    layer: str
    kind: str  # AC or MAC
    operations: float
    ann_macs: int
    energy: float
    ann_energy: float


@dataclass(frozen=True)
class Prices:
    """The energy of a multiply-accumulate and of an accumulate, in picojoules."""

    mac: float = MAC_PJ
    ac: float = AC_PJ

    def layer(self, synapses: SynapseSums, images: int) -> LayerEnergy:
        """Return operations and energies of a layer observed on a number of images."""
        operations = _operations(synapses, images)
        return LayerEnergy(
            synapses.layer,
            "AC" if synapses.spiking else "MAC",
            operations,
            synapses.connections,
            operations * (self.ac if synapses.spiking else self.mac),
            synapses.connections * self.mac,
        )

    def layers(self, m: Measurements) -> list[LayerEnergy]:
        """Return operations and energies of all layers."""
        return [self.layer(synapses, m.images) for synapses in m.synapses]

    def stopped(self, m: Measurements, acs: float, steps: float) -> float:
        """Return the energy of an image that stops after `steps` steps, of `acs` accumulates.

        Both may be means over images. Inputs presented once are paid for in full.
        """
        dense = [s for s in m.synapses if not s.spiking]
        macs = sum(s.connections * (steps if s.presentations > 1 else 1) for s in dense)
        return acs * self.ac + macs * self.mac


def _operations(synapses: SynapseSums, images: int) -> float:
    if synapses.spiking:
        return synapses.operations / images
    return float(synapses.connections * synapses.presentations)
