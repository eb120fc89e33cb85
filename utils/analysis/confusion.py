"""Which classes are taken for which."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ClassScores(NamedTuple):
    """Scores of one class in percent; None where they have no denominator.

    `recall` is the share of its `images` that were found, `precision` the share of its predictions
    that are right; `taken_for` is the class it is most often taken for, None if it never is.
    """

    name: str
    images: int
    recall: float | None
    precision: float | None
    taken_for: str | None


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Return how often label (row) met prediction (column), `(classes, classes)` in int64."""
    pairs = torch.bincount(labels * classes + predictions, minlength=classes**2)
    return pairs.view(classes, classes)


def class_scores(matrix: Tensor, names: list[str]) -> list[ClassScores]:
    """Return the scores of each class of a confusion matrix."""
    images, predicted = matrix.sum(1).tolist(), matrix.sum(0).tolist()
    hits = matrix.diagonal().tolist()
    errors = matrix - torch.diag(matrix.diagonal())
    most, taken_for = errors.max(1)
    return [
        ClassScores(
            name,
            images[i],
            100 * hits[i] / images[i] if images[i] else None,
            100 * hits[i] / predicted[i] if predicted[i] else None,
            names[taken_for[i]] if most[i] else None,
        )
        for i, name in enumerate(names)
    ]


def worst_classes(scores: list[ClassScores], count: int) -> list[ClassScores]:
    """Return the `count` classes of lowest recall, the worst first."""
    present = [s for s in scores if s.recall is not None]
    return sorted(present, key=lambda s: s.recall)[:count]


def worst_confusions(matrix: Tensor, names: list[str], count: int) -> list[tuple[str, str, int]]:
    """Return the most frequent pairs of label and wrong prediction, with their number."""
    errors = (matrix - torch.diag(matrix.diagonal())).flatten()
    found, index = errors.topk(min(count, len(errors)))
    pairs = [divmod(i, len(names)) for i in index.tolist()]
    return [(names[a], names[b], n) for (a, b), n in zip(pairs, found.tolist(), strict=True) if n]
