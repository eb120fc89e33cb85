import pytest
import torch

from utils.runs.checkpoint_keys import CIFAR_KEYS, IMAGENET_KEYS, of_wrong_kind


def test_the_keys_needed_to_resume_are_the_published_ones():
    assert CIFAR_KEYS.required == ("epoch", "state_dict", "acc", "best_acc", "optimizer")
    assert IMAGENET_KEYS.required == ("epoch", "state_dict", "acc1", "best_acc1", "optimizer")


@pytest.mark.parametrize("accuracy", [12.5, 12, torch.tensor(12.5)])
def test_numbers_and_tensors_are_accuracies(accuracy):
    content = {"epoch": 7, "acc": accuracy, "best_acc1": accuracy, "rows": [], "unknown": print}
    assert of_wrong_kind(content) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", "seven"),
        ("epoch", None),
        ("epoch", -1),
        ("step", 2**48),
        ("acc", "high"),
        ("best_acc", torch.zeros(2)),
        ("setting", [1]),
        ("rows", 5),
        ("model", 3),
    ],
)
def test_a_value_of_another_kind_is_named(key, value):
    assert of_wrong_kind({"state_dict": {}, key: value}) == [key]
