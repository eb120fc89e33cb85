import numpy as np
import pytest

from utils.datasets.validation_split import hold_out
from utils.system.errors import UserError

LABELS = np.repeat([2, 0, 1, 3], [50, 7, 30, 13])


@pytest.mark.parametrize("share", [0.05, 0.1, 0.333, 0.5, 0.9])
def test_the_parts_are_disjoint_complete_and_stratified(share):
    kept, held = hold_out(LABELS, share, 3)
    assert sorted([*kept, *held]) == list(range(100))
    assert len(held) == round(100 * share)
    assert kept.tolist() == sorted(kept) and held.tolist() == sorted(held)
    wanted = np.bincount(LABELS) * share
    assert np.abs(np.bincount(LABELS[held], minlength=4) - wanted).max() < 1


def test_the_seed_alone_chooses():
    first, again, other = (hold_out(LABELS, 0.2, seed)[1].tolist() for seed in (3, 3, 4))
    assert first == again != other


def test_within_a_class_the_samples_are_drawn_at_random():
    chosen = np.concatenate([hold_out(LABELS, 0.1, seed)[1] for seed in range(400)])
    counts = np.bincount(chosen, minlength=100)
    assert counts.min() >= 15 and counts.max() <= 75  # 40 on average, 6 standard deviations


@pytest.mark.parametrize(("share", "part"), [(0.004, "validation"), (0.996, "training")])
def test_an_empty_part_is_refused(share, part):
    with pytest.raises(UserError, match=f"--val_split {share}.*none is for {part}"):
        hold_out(LABELS, share, 3)


def test_nothing_is_held_out_by_default():
    kept, held = hold_out(LABELS, 0, 3)
    assert len(kept) == 100 and len(held) == 0
