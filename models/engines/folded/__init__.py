"""The folded engine: exact DSR gradients from tensors of batch N (docs/method.md, section 4)."""

from models.engines.folded.engine import FoldedEngine
from models.engines.folded.layer import fire
from models.engines.folded.spike_train import Current, SpikeTrain

__all__ = ["Current", "FoldedEngine", "SpikeTrain", "fire"]
