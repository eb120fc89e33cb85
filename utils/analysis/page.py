"""A report as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from utils.analysis import plots
from utils.analysis.confusion import ClassScores, worst_classes
from utils.analysis.summary import Summary
from utils.analysis.svg import bar
from utils.analysis.text_report import joules, percent, three_digits

STYLE = Path(__file__).with_name("page.css")
_WORST = 10


def render(summary: Summary, title: str, subtitle: str, facts: dict[str, str]) -> str:
    """Return the page of a report; `facts` are named lines about the run."""
    sections = (
        _tiles(summary),
        _latency(summary),
        _layers(summary),
        _operations(summary),
        _classes(summary),
        _section("The run", _facts(facts)),
        _section("How it was counted", _METHOD.format(**_prices(summary))),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="subtitle">{escape(subtitle)}</p>\n'
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _tiles(summary: Summary) -> str:
    energy = summary["energy"]
    tiles = [
        (f"{summary['accuracy']:.2f} %", f"test accuracy, {summary['images']:,} images"),
        (percent(summary["firing_rate"]), "firing rate, mean over layers"),
        (_count(energy["synaptic_operations"]), "synaptic operations per image"),
        (_joules(energy["energy_pj"]), f"per image; ANN {_joules(energy['ann_energy_pj'])}"),
        (percent(summary["calibration"]["expected_error"]), "expected calibration error"),
    ]
    if chosen := summary["early_stop"]["chosen"]:
        steps = f"{chosen['mean_steps']:.2f} of {summary['timesteps']}"
        tiles.append((steps, f"steps when stopping at confidence {chosen['confidence']:g}"))
    items = (f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>" for value, name in tiles)
    return f'<ul class="tiles">{"".join(items)}</ul>'


def _latency(summary: Summary) -> str:
    curve, ideal = plots.latency(summary), summary["ideal_accuracy"]
    caption = (
        "Accuracy of the output after each number of steps, from one pass. The dashed line lets "
        "each image stop as soon as its confidence reaches a threshold, for thresholds from 0 to "
        f"1. The network of ideal representations, without spikes, reaches {ideal:.2f} %."
    )
    figures = _figure(curve, caption) + _figure(
        plots.rates(summary), "Share of neurons that fire at each step, mean over layers."
    )
    return _section("Latency", f'<div class="figures">{figures}</div>{_stops(summary)}')


def _stops(summary: Summary) -> str:
    chosen = summary["early_stop"]["chosen"]
    if not chosen:
        return ""
    rows = [
        [str(t), f"{n:,}", f"{100 * n / summary['images']:.1f} %", bar(n / summary["images"], "c2")]
        for t, n in enumerate(chosen["stopped"], start=1)
    ]
    text = (
        f"<p>With <code>--stop_confidence {chosen['confidence']:g}</code>: accuracy "
        f"{chosen['accuracy']:.2f} % after {chosen['mean_steps']:.2f} steps on average, "
        f"{_joules(chosen['energy_pj'])} per image.</p>"
    )
    return text + _table(["stopped after step", "images", "share", ""], rows)


def _layers(summary: Summary) -> str:
    head = ["layer", "shape", "Vth", "firing rate", "", "silent", "saturated", "never", "error"]
    top = max(layer["firing_rate"] for layer in summary["layers"]) or 1.0
    rows = [
        [
            escape(layer["layer"]),
            "×".join(map(str, layer["shape"])),
            f"{layer['Vth']:.4g}",
            percent(layer["firing_rate"]),
            bar(layer["firing_rate"] / top),
            percent(layer["silent"]),
            percent(layer["saturated"]),
            percent(layer["never_fired"]),
            percent(layer["representation_error"]),
        ]
        for layer in summary["layers"]
    ]
    note = (
        '<p class="note"><b>silent</b>, <b>saturated</b>: share of neurons and images without a '
        "spike, and with one at every step. <b>never</b>: share of neurons that fire for no test "
        "image. <b>error</b>: distance between the representation of the spikes and the ideal "
        "clamp of the mean input, relative to the norm of the ideal.</p>"
    )
    return _section("Neurons", _table(head, rows) + note)


def _operations(summary: Summary) -> str:
    energy = summary["energy"]
    top = max(max(row["ann_energy"], row["energy"]) for row in energy["layers"])
    rows = [
        [
            escape(row["layer"]),
            row["kind"],
            _count(row["operations"]),
            _count(row["ann_macs"]),
            _joules(row["energy"]),
            _joules(row["ann_energy"]),
            bar(row["energy"] / top, "c3", row["ann_energy"] / top),
        ]
        for row in energy["layers"]
    ]
    total = [
        "all",
        "",
        _count(energy["synaptic_operations"] + energy["macs"]),
        _count(energy["ann_macs"]),
        _joules(energy["energy_pj"]),
        _joules(energy["ann_energy_pj"]),
        "",
    ]
    head = ["weights", "kind", "operations", "MACs of the ANN", "energy", "energy of the ANN", ""]
    note = '<p class="note">Per image. Coloured: this network; grey: the ANN of the same shape.</p>'
    return _section("Operations and energy", _table(head, rows, total) + note)


def _classes(summary: Summary) -> str:
    classes = summary["classes"]
    error = percent(summary["calibration"]["expected_error"])
    figures = _figure(
        plots.reliability(summary),
        f"Accuracy of predictions of similar confidence; on the diagonal they agree. Expected "
        f"calibration error {error}.",
    )
    if matrix := plots.confusion(classes):
        caption = (
            "Test images by label (rows) and output (columns). Errors are tinted four times as "
            "strongly as hits."
        )
        figures += _figure(matrix, caption)
    scores = [ClassScores(**one) for one in classes["scores"]]
    rows = [
        [
            escape(s.name),
            f"{s.images:,}",
            f"{s.recall:.1f} %",
            "–" if s.precision is None else f"{s.precision:.1f} %",
            escape(s.taken_for or "–"),
        ]
        for s in worst_classes(scores, _WORST)
        if s.recall < 100
    ]
    head = ["worst classes", "images", "recall", "precision", "most often taken for"]
    table = _table(head, rows) if rows else "<p>All test images are classified rightly.</p>"
    return _section("Classes", f'<div class="figures">{figures}</div>{table}')


def _facts(facts: dict[str, str]) -> str:
    items = (
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{"".join(items)}</dl>'


def _prices(summary: Summary) -> dict[str, str]:
    return {key: f"{summary['energy'][key]:g}" for key in ("mac_pj", "ac_pj")}


_METHOD = (
    "<p>All counts are exact and over the whole test set. A <b>synaptic operation</b> adds one "
    "weight to one membrane potential because of one spike. A spike meets the weights of every "
    "window of a convolution that covers it, so that zero padding has no operations, and a stride "
    "skips what it skips. A spike in front of an average pool counts for every cell it belongs "
    "to. The first layer has no spikes as its input: it costs one multiply-accumulate (MAC) per "
    "connection, once for a static image and at every step for event frames. The <b>ANN of the "
    "same shape</b> has ReLUs in place of the neurons and costs one MAC per connection.</p>"
    "<p><b>Energy</b>: {mac_pj} pJ per MAC and {ac_pj} pJ per accumulate. The defaults, 4.6 and "
    "0.9, are those of 32-bit floating-point arithmetic in 45 nm CMOS (M. Horowitz, "
    "<a href='https://doi.org/10.1109/ISSCC.2014.6757323'>Computing's energy problem</a>, ISSCC "
    "2014). It is that of arithmetic at the weights alone: memory, the update of membrane "
    "potentials, BatchNorm (which can be folded into the weights), pooling and residual sums are "
    "left out on both sides.</p>"
    "<p><b>Confidence</b> is the largest softmax probability of the output. Expected calibration "
    "error as in Guo et al., <a href='https://arxiv.org/abs/1706.04599'>On calibration of modern "
    "neural networks</a>, ICML 2017, with 15 bins.</p>"
)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _figure(plot: str, caption: str) -> str:
    text = escape(caption).replace(" %", "&nbsp;%")
    return f"<figure>{plot}<figcaption>{text}</figcaption></figure>"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] | None = None
) -> str:
    """Return a table of cells in HTML, those with a bar in a class of their own."""

    def row(cells: Sequence[str]) -> str:
        return "".join(
            f'<td class="barcell">{cell}</td>' if cell.startswith("<svg") else f"<td>{cell}</td>"
            for cell in cells
        )

    body = "".join(f"<tr>{row(cells)}</tr>" for cells in rows)
    foot = f"<tfoot><tr>{row(total)}</tr></tfoot>" if total else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody>{foot}'
        "</table></div>"
    )


def _joules(picojoules: float) -> str:
    return joules(picojoules, "µ")


def _count(number: float) -> str:
    """Return a count: 360, 56.7 k, 8.90 M."""
    return f"{number:.0f}" if number < 1000 else three_digits(number, ("", "k", "M", "G"))
