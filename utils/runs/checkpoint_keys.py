"""The keys of a checkpoint and the kinds of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, get_origin, get_type_hints

from torch import Tensor

_COUNTS_BELOW = 2**48  # a count that fits into every type that a checkpoint's counts go through


class CheckpointContent(TypedDict, total=False):
    """The content of a checkpoint; the published programs write the first block alone."""

    epoch: int  # epochs trained
    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any]
    acc: float  # test accuracy of the last epoch in percent, `acc1` in ImageNet checkpoints
    best_acc: float  # of the best epoch, `best_acc1` in ImageNet checkpoints
    acc1: float
    best_acc1: float
    arch: str  # the network of ImageNet checkpoints

    model: str  # the network of CIFAR checkpoints
    format: int  # of the keys in this block
    dataset: str
    num_classes: int
    setting: dict[str, Any]  # the neuron setting
    manualSeed: int
    args: dict[str, Any]  # all flags
    versions: dict[str, str]
    optimizer_names: list[str]  # of the parameters, in the optimizer's order
    iteration: int  # steps trained in whole epochs
    random_states: list[Any]  # one per rank
    rows: list[list[float]]  # of the log, one per epoch
    log_rows: int  # written by earlier versions, which kept the rows in the log alone
    skipped: int  # steps left out by `--on_nan skip`
    step: int  # steps trained of the next epoch, where one has begun
    steps: int  # in that epoch
    parts: list[dict[str, Any]]  # one per rank: its sums and running statistics in that epoch
    ema_state_dict: dict[str, Tensor]  # averaged weights, with `--ema`
    ema_acc: float  # their accuracy in the last epoch, in percent
    ema_best_acc: float  # and in their best epoch


@dataclass(frozen=True)
class CheckpointKeys:
    """The keys that differ between the scripts; `network` is a flag of the same name too."""

    network: str = "model"
    acc: str = "acc"
    best_acc: str = "best_acc"

    @property
    def required(self) -> tuple[str, ...]:
        """The keys without which training cannot be resumed."""
        return "epoch", "state_dict", self.acc, self.best_acc, "optimizer"


CIFAR_KEYS = CheckpointKeys()
IMAGENET_KEYS = CheckpointKeys("arch", "acc1", "best_acc1")
_KINDS = {key: get_origin(kind) or kind for key, kind in get_type_hints(CheckpointContent).items()}


def of_wrong_kind(content: dict[str, Any]) -> list[str]:
    """Return the keys of `content` whose values are not of the kind that `CheckpointContent` has.

    Counts must lie in [0, 2^48); accuracies may be tensors, as the published programs save them.
    """
    return [
        key for key, kind in _KINDS.items() if key in content and not _is_kind(kind, content[key])
    ]


def _is_kind(kind: type, value: Any) -> bool:
    if kind is int:
        return isinstance(value, int) and 0 <= value < _COUNTS_BELOW
    if kind is float:
        return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0)
    return isinstance(value, kind)
