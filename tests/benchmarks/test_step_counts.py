"""Counts of training steps, against those of the published way."""

from benchmarks.step_counts import WAYS, Case, count


def test_ways_compare_as_expected() -> None:
    found = {way: count(Case("vgg.vgg11_lif", 4, 128, 32), way) for way in WAYS}
    published, folded = found["published"], found["folded bf16"]
    assert folded.peak < found["folded fp32"].peak < found["unrolled fp32"].peak < published.peak
    for precision in ("fp32", "bf16"):
        fused, eager = found[f"folded {precision}"], found[f"folded {precision}, compile off"]
        assert fused.bytes_moved < eager.bytes_moved / 2
        assert fused.total < eager.total / 2
