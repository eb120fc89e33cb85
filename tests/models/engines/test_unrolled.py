"""The unrolled engine: the gradient of docs/method.md, section 3, and how input is presented."""

from __future__ import annotations

import pytest
import torch

from models import NeuronSetting
from models.dynamics import Dynamics
from models.engines import unrolled
from models.engines.unrolled import UnrolledEngine

SETTING = NeuronSetting(timesteps=4, alpha=0.5, tau=2.0, delta_t=0.5)
KINDS = (Dynamics.integrate_and_fire(SETTING, 0.1), Dynamics.leaky_integrate_and_fire(SETTING))


@pytest.mark.parametrize("d", KINDS, ids=("if", "lif"))
def test_gradients_are_those_of_the_page(d: Dynamics) -> None:
    generator = torch.Generator().manual_seed(0)
    z, g = torch.randn(2, 4, 50, 3, generator=generator, dtype=torch.float64)
    z, Vth = (2 * z).requires_grad_(), torch.tensor(0.4).double().requires_grad_()
    s = unrolled.fire(z.flatten(0, 1), Vth, d).unflatten(0, (4, 50))
    assert set(s.unique().tolist()) == {0.0, (d.amplitude * Vth).item()}
    dz, dVth = torch.autograd.grad(s, (z, Vth), g)
    v = torch.tensor(d.weights, dtype=torch.float64).view(4, 1, 1)
    x, R = (v * z).sum(0), 4 * (v * g).sum(0)
    inside, above = (x > 0) & (x < d.ceiling * Vth), x > d.ceiling * Vth
    assert inside.any() and above.any()
    torch.testing.assert_close(dz, (d.leak / 4 * R * inside).expand_as(z))
    torch.testing.assert_close(dVth, d.Vth_scale * (R * above).sum())


def test_images_are_repeated_and_frames_are_put_in_the_order_of_time() -> None:
    engine = UnrolledEngine(4)
    images, frames = torch.rand(2, 3, 5, 5), torch.rand(2, 4, 3, 5, 5)
    assert torch.equal(engine.present(images), images.repeat(4, 1, 1, 1))
    assert torch.equal(engine.present(frames).view(4, 2, 3, 5, 5)[1], frames[:, 1])


def test_the_context_sets_the_type_of_products() -> None:
    a = torch.rand(2, 2)
    for dtype in (None, torch.bfloat16):
        with UnrolledEngine(4, dtype).forward_context(a.device):
            assert (a @ a).dtype == (dtype or torch.float32)
