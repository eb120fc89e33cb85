"""Choose the engine that drives a network, its precision, and whether it is compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.engines.folded import FoldedEngine
from models.engines.ops import dropout_mask, events
from models.engines.ops.dispatch import CompilerError, Kernels, compiled
from models.engines.ops.dropout_mask import MaskSource
from models.engines.ops.event_driven import ALWAYS, Crossings, crossings_here
from models.engines.ops.sync_batch_norm import all_reduce_sum, local
from models.engines.unrolled import UnrolledEngine

ENGINES = ("folded", "unrolled", "rate")
PRECISIONS = ("fp32", "bf16")
COMPILE = ("auto", "on", "off")
EVENT_DRIVEN = ("auto", "always", "never")

# Number of images times timesteps from which compiling saves time. Compiling the C++ passes for a
# CPU takes a second (they are cached on disk afterwards) and saves about a millisecond per image
# and timestep; the Triton kernels for a GPU take a few seconds, and are cached as well.
# torch.compile, used on other devices, takes half a minute.
COMPILE_PAYS = {"cpu": 1_000, "cuda": 1_000, "meta": 1_000}
COMPILE_PAYS_ELSEWHERE = 50_000

Engine = FoldedEngine | UnrolledEngine


@dataclass(frozen=True)
class Choice:
    """A chosen engine, for training and for evaluation; `notes` are lines for the user.

    `name` is the engine that trains. A network with dropout that trains with the unrolled engine by
    default is evaluated by the folded one, which is exact there.
    """

    name: str
    precision: str
    training: Engine
    evaluation: Engine
    exactness: str
    compiled: bool = False
    events: Crossings | None = None
    sync_bn: bool = False
    notes: tuple[str, ...] = ()

    def engine(self, training: bool) -> Engine:
        """Return the engine that drives a forward pass in this mode."""
        return self.training if training else self.evaluation

    def line(self) -> str:
        """Describe engine, precision and compilation in one line."""
        compiled = ", compiled" if self.compiled else ""
        compiled += f", {self.events.line()}" if self.events else ""
        shared = ", BatchNorm over all processes" if self.sync_bn else ""
        return (
            f"engine {self.name} ({self.exactness}{compiled}), precision {self.precision}{shared}"
        )


def choose(
    timesteps: int,
    device: torch.device,
    engine: str | None = None,
    precision: str = "fp32",
    compile: str = "auto",
    dropout: float = 0.0,
    image_steps: int = 0,
    sync_bn: bool = False,
    draw_mask: MaskSource = dropout_mask.draw_mask,
    event_driven: str = "auto",
) -> Choice:
    """Return the requested engine, or by default the fastest exact one.

    `dropout` is the network's probability in training. `image_steps` is the number of images times
    timesteps that the run will present, by which `compile="auto"` decides. `sync_bn` takes
    BatchNorm statistics over all ranks. `event_driven` tells when convolutions of spikes are
    computed so: "auto" where that is faster and the passes are compiled. Raises `ValueError` naming
    the flag for an unknown value.
    """
    _check("engine", engine or "folded", ENGINES)
    _check("precision", precision, PRECISIONS)
    _check("compile", compile, COMPILE)
    _check("event_driven", event_driven, EVENT_DRIVEN)
    precision, notes = _available_precision(precision, device)
    name = engine or ("unrolled" if dropout > 0 else "folded")
    exactness, about_dropout = _exactness(name, dropout, by_default=engine is None)
    kernels, about_compiler = None, []
    if name != "unrolled" and _worth_compiling(compile, device, image_steps):
        kernels, about_compiler = _compiled(compile, device)
    dtype = torch.bfloat16 if precision == "bf16" else None
    crossings, about_events = None, []
    if name != "unrolled" and device.type == "cpu":
        crossings, about_events = _crossings(event_driven, kernels is not None, dtype)
    unrolled = UnrolledEngine(timesteps, dtype, sync_bn)
    folded = FoldedEngine(
        timesteps,
        kernels or Kernels(),
        dtype,
        approximate=name == "rate",
        reduce=all_reduce_sum if sync_bn else local,
        draw_mask=draw_mask,
        crossings=crossings,
    )
    return Choice(
        name,
        precision,
        training=unrolled if name == "unrolled" else folded,
        evaluation=unrolled if engine == "unrolled" else folded,
        exactness=exactness,
        compiled=kernels is not None,
        events=crossings,
        sync_bn=sync_bn,
        notes=(*notes, *about_dropout, *about_compiler, *about_events),
    )


def _check(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"--{flag} must be one of {', '.join(known)}, got {value}")


def _available_precision(precision: str, device: torch.device) -> tuple[str, list[str]]:
    """Return the precision that the device supports, and notes."""
    if precision == "bf16" and not has_bf16(device):
        return "fp32", ["--precision bf16: this processor has no bf16 arithmetic; using fp32"]
    return precision, []


def _exactness(engine: str, dropout: float, by_default: bool) -> tuple[str, list[str]]:
    """Return what the engine line says about the gradients, and notes."""
    label = {"folded": "exact", "unrolled": "exact, autograd", "rate": "APPROXIMATE gradients"}
    if dropout == 0 or (engine == "unrolled" and not by_default):
        return label[engine], []
    if engine == "unrolled":
        return label[engine], [
            f"dropout {dropout:g} is exact only in the unrolled engine, which trains; "
            "--engine folded trains faster with close, not exact, gradients"
        ]
    note = f"--engine {engine}: gradients through dropout {dropout:g} are approximate"
    return "APPROXIMATE gradients", [note]


def _compiled(compile: str, device: torch.device) -> tuple[Kernels | None, list[str]]:
    """Return the compiled passes, None where there is no compiler, and notes."""
    try:
        return compiled(device), []
    except CompilerError as error:
        return None, [f"--compile {compile}: no working compiler ({error}); continuing without"]


def _crossings(
    choice: str, compiled: bool, dtype: torch.dtype | None
) -> tuple[Crossings | None, list[str]]:
    """Return when maps of spikes are computed event-driven, None for never, and notes."""
    if choice == "never" or (choice == "auto" and not compiled):
        return None, []
    try:
        events.verify()
    except CompilerError as error:
        return None, [f"convolutions of spikes are dense: no working compiler ({error})"]
    if choice == "always":
        return ALWAYS, []
    return crossings_here(dtype or torch.float32), []


def _worth_compiling(compile: str, device: torch.device, image_steps: int) -> bool:
    pays = COMPILE_PAYS.get(device.type, COMPILE_PAYS_ELSEWHERE)
    return compile == "on" or (compile == "auto" and image_steps >= pays)


def has_bf16(device: torch.device) -> bool:
    """Return whether the processor computes matrix products in bf16, without emulation.

    The `meta` device counts as a GPU that does.
    """
    if device.type == "meta":
        return True
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = (getattr(torch.cpu, f"_is_{p}_supported", None) for p in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(probe() for probe in probes if probe)
