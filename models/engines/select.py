"""Which engine drives a network, in which precision, compiled or not - and what to tell of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.engines.folded.spike_train import FoldedEngine
from models.engines.ops.dispatch import CompilerError, Kernels, compiled
from models.engines.ops.sync_batch_norm import alone, over_processes

ENGINES = ("folded", "unrolled", "rate")
PRECISIONS = ("fp32", "bf16")
COMPILE = ("auto", "on", "off")

# From about how many images times timesteps on a run pays for compiling. A CPU's passes take a
# second (cached on disk afterwards) and save a millisecond an image and timestep; torch's compiler,
# for other devices, takes half a minute.
COMPILE_PAYS = {"cpu": 1_000}
COMPILE_PAYS_ELSEWHERE = 50_000


@dataclass(frozen=True)
class Choice:
    """An engine in force; `notes` are for the user.

    The unrolled engine, chosen by itself for dropout in training, leaves evaluation to the folded
    one (`evaluates_folded`): there both are exact.
    """

    name: str
    precision: str
    folded: FoldedEngine
    compiled: bool
    notes: tuple[str, ...] = ()
    evaluates_folded: bool = True
    sync_bn: bool = False

    def driver(self, training: bool) -> FoldedEngine | None:
        """What drives a forward pass: the folded engine, or None for the unrolled one."""
        unrolled = self.name == "unrolled" and (training or not self.evaluates_folded)
        return None if unrolled else self.folded

    def line(self) -> str:
        """The engine, precision and compiler in one line."""
        labels = {"folded": "exact", "unrolled": "exact, autograd", "rate": "APPROXIMATE gradients"}
        fused = ", compiled" if self.compiled else ""
        shared = ", BatchNorm over all processes" if self.sync_bn else ""
        return (
            f"engine {self.name} ({labels[self.name]}{fused}), precision {self.precision}{shared}"
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
) -> Choice:
    """The engine asked for, or by default the fastest exact one.

    `dropout` is the network's probability while it trains; `image_steps` how many images times
    timesteps the run will present, by which `compile="auto"` decides; `sync_bn` takes BatchNorm
    statistics over all processes. Raises `ValueError` naming the flag for a value that is not
    offered.
    """
    for flag, value, known in (
        ("engine", engine or "folded", ENGINES),
        ("precision", precision, PRECISIONS),
        ("compile", compile, COMPILE),
    ):
        if value not in known:
            raise ValueError(f"--{flag} must be one of {', '.join(known)}, got {value}")
    notes: list[str] = []
    if precision == "bf16" and not has_bf16(device):
        notes.append("--precision bf16: this processor has no bf16 arithmetic; using fp32")
        precision = "fp32"
    asked = engine is not None
    if not asked:
        engine = "unrolled" if dropout > 0 else "folded"
        if dropout > 0:
            notes.append(
                f"dropout {dropout:g} is exact only in the unrolled engine, which trains; "
                "--engine folded trains faster with close, not exact, gradients"
            )
    elif dropout > 0 and engine != "unrolled":
        notes.append(f"--engine {engine}: gradients through dropout {dropout:g} are approximate")
    kernels = None
    if engine != "unrolled" and _worth_compiling(compile, device, image_steps):
        try:
            kernels = compiled(device)
        except CompilerError as fault:
            notes.append(f"--compile {compile}: no working compiler ({fault}); going on without")
    folded = FoldedEngine(
        timesteps,
        kernels or Kernels(),
        torch.bfloat16 if precision == "bf16" else None,
        approximate=engine == "rate",
        sum=over_processes if sync_bn else alone,
    )
    compiles = kernels is not None
    return Choice(engine, precision, folded, compiles, tuple(notes), not asked, sync_bn)


def _worth_compiling(compile: str, device: torch.device, image_steps: int) -> bool:
    pays = COMPILE_PAYS.get(device.type, COMPILE_PAYS_ELSEWHERE)
    return compile == "on" or (compile == "auto" and image_steps >= pays)


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are done by the processor rather than emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = (getattr(torch.cpu, f"_is_{p}_supported", None) for p in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(probe() for probe in probes if probe)
