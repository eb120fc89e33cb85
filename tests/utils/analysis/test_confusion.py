import torch

from utils.analysis.confusion import (
    class_scores,
    confusion_matrix,
    worst_classes,
    worst_confusions,
)

NAMES = ["a", "b", "c", "d"]
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
PREDICTIONS = torch.tensor([0, 1, 1, 1, 0, 2])


def test_rows_are_labels_and_columns_predictions():
    matrix = confusion_matrix(LABELS, PREDICTIONS, 4)
    assert matrix.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_scores_of_each_class():
    a, b, c, d = class_scores(confusion_matrix(LABELS, PREDICTIONS, 4), NAMES)
    assert a == ("a", 3, 100 / 3, 50.0, "b")
    assert b == ("b", 2, 50.0, 100 / 3, "a")
    assert c == ("c", 1, 100.0, 100.0, None)
    assert d == ("d", 0, None, None, None)
    assert worst_classes([a, b, c, d], 2) == [a, b]


def test_the_most_frequent_confusions():
    matrix = confusion_matrix(LABELS, PREDICTIONS, 4)
    assert worst_confusions(matrix, NAMES, 5) == [("a", "b", 2), ("b", "a", 1)]
