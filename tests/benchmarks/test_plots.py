"""The chart of a report of train_step.py."""

import json

import pytest

from benchmarks import plots

ROWS = [
    {"way": way, "timesteps": 4, "batch": batch, "seconds": s, "least": s, "most": s, "peak_mib": m}
    for batch in (2, 8)
    for way, s, m in (
        ("published", 2.0, 100.0),
        ("convolutions", 0.1, 1.0),
        ("folded bf16", 0.5, 50.0),
        ("a new way", 4.0, 200.0),
    )
]
MACHINE = dict(processor="P", instructions="AVX2", device="CPU", torch="2", date="2026-01-01")


@pytest.mark.parametrize(
    ("way", "key", "words"),
    [
        ("published", "seconds", ""),
        ("folded bf16", "seconds", " (4.0x faster)"),
        ("folded bf16", "peak_mib", " (2.0x less)"),
        ("a new way", "seconds", " (2.0x slower)"),
        ("a new way", "peak_mib", " (2.0x more)"),
    ],
)
def test_a_figure_is_compared_in_words(way, key, words):
    base, row = ROWS[0], next(row for row in ROWS if row["way"] == way)
    pair = ("faster", "slower") if key == "seconds" else ("less", "more")
    assert plots.comparison(base, row, key, pair) == words


def test_a_report_is_drawn_again_beside_its_figures(tmp_path, monkeypatch):
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"title": "step", "machine": MACHINE, "rows": ROWS}))
    monkeypatch.setattr("sys.argv", ["plots.py", str(report)])
    plots.main()
    assert report.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
