"""Choose the engine that drives a network, its precision, and whether it is compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.engines.folded import FoldedEngine
from models.engines.ops import dropout_mask
from models.engines.ops.dispatch import CompilerError, Kernels, compiled
from models.engines.ops.dropout_mask import MaskSource
from models.engines.ops.sparse import events
from models.engines.ops.sparse.event_driven import ALWAYS, Crossings, crossings_here
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


@dataclass(frozen=True)
class Request:
    """Options of `choose`, named after the flags.

    `engine` None is the fastest exact one. `dropout` is the network's probability in training.
    `image_steps` is the number of images times timesteps that the run will present, by which
    `compile="auto"` decides. `sync_bn` takes BatchNorm statistics over all ranks. `event_driven`
    tells when convolutions of spikes are event-driven: "auto" where that is faster and the passes
    are compiled. Raises `ValueError` naming the flag for an unknown value.
    """

    engine: str | None = None
    precision: str = PRECISIONS[0]
    compile: str = COMPILE[0]
    dropout: float = 0.0
    image_steps: int = 0
    sync_bn: bool = False
    draw_mask: MaskSource = dropout_mask.draw_mask
    event_driven: str = EVENT_DRIVEN[0]

    def __post_init__(self) -> None:
        _check("engine", self.name, ENGINES)
        _check("precision", self.precision, PRECISIONS)
        _check("compile", self.compile, COMPILE)
        _check("event_driven", self.event_driven, EVENT_DRIVEN)

    @property
    def name(self) -> str:
        """The engine that trains."""
        return self.engine or ("unrolled" if self.dropout > 0 else "folded")


def choose(timesteps: int, device: torch.device, **options) -> Choice:
    """Return the engine for the options of a `Request`."""
    request = Request(**options)
    precision, notes = _available_precision(request.precision, device)
    dtype = torch.bfloat16 if precision == "bf16" else None
    exactness, about_dropout = _exactness(request)
    folded, compiled, about_compiler = _folded_engine(timesteps, device, dtype, request)
    unrolled = UnrolledEngine(timesteps, dtype, request.sync_bn)
    return Choice(
        request.name,
        precision,
        training=unrolled if request.name == "unrolled" else folded,
        evaluation=unrolled if request.engine == "unrolled" else folded,
        exactness=exactness,
        compiled=compiled,
        events=folded.crossings,
        sync_bn=request.sync_bn,
        notes=(*notes, *about_dropout, *about_compiler),
    )


def _folded_engine(
    timesteps: int, device: torch.device, dtype: torch.dtype | None, request: Request
) -> tuple[FoldedEngine, bool, list[str]]:
    """Return the folded engine, whether it is compiled, and notes.

    It is compiled only where it is to train.
    """
    kernels, crossings, notes = None, None, []
    if request.name != "unrolled":
        if _worth_compiling(request.compile, device, request.image_steps):
            kernels, notes = _compile(request.compile, device)
        if device.type == "cpu":
            crossings, about_events = _crossings(request.event_driven, kernels is not None, dtype)
            notes = notes + about_events
    engine = FoldedEngine(
        timesteps,
        kernels or Kernels(),
        dtype,
        approximate=request.name == "rate",
        reduce=all_reduce_sum if request.sync_bn else local,
        draw_mask=request.draw_mask,
        crossings=crossings,
    )
    return engine, kernels is not None, notes


def _check(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"--{flag} must be one of {', '.join(known)}, got {value}")


def _available_precision(precision: str, device: torch.device) -> tuple[str, list[str]]:
    """Return the precision that the device supports, and notes."""
    if precision == "bf16" and not has_bf16(device):
        return "fp32", ["--precision bf16: this processor has no bf16 arithmetic; using fp32"]
    return precision, []


def _exactness(request: Request) -> tuple[str, list[str]]:
    """Return what the engine line says about the gradients, and notes."""
    labels = {"folded": "exact", "unrolled": "exact, autograd", "rate": "APPROXIMATE gradients"}
    label, name, dropout = labels[request.name], request.name, request.dropout
    if dropout == 0 or request.engine == "unrolled":
        return label, []
    if name == "unrolled":
        return label, [
            f"dropout {dropout:g} is exact only in the unrolled engine, which trains; "
            "--engine folded trains faster with close, not exact, gradients"
        ]
    note = f"--engine {name}: gradients through dropout {dropout:g} are approximate"
    return "APPROXIMATE gradients", [note]


def _compile(compile: str, device: torch.device) -> tuple[Kernels | None, list[str]]:
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
