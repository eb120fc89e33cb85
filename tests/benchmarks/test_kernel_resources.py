"""The Triton kernels, compiled for GPUs that are not here."""

import pytest

kernel_resources = pytest.importorskip("benchmarks.kernel_resources", exc_type=ImportError)


@pytest.mark.parametrize("sm", kernel_resources.ARCHITECTURES)
@pytest.mark.parametrize("name", kernel_resources.KERNELS)
def test_kernels_compile_without_spills(name: str, sm: int) -> None:
    for dtype in ("bf16", "fp32"):
        found = kernel_resources.compile_kernel(name, dtype, sm)
        assert found.stack == 0
        assert found.occupancy(sm) >= 0.25
