import numpy as np
import pytest
import torch

from utils.datasets.digits import EMBEDDED, digit_images, load_digits, split_digits
from utils.system.errors import UserError


def test_the_embedded_file_holds_all_digits():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_split_is_fixed_stratified_and_complete():
    _, labels = load_digits()
    train, test = split_digits(labels)
    assert sorted([*train, *test]) == list(range(1797))
    assert (len(train), len(test)) == (1438, 359)
    for digit in range(10):
        share = (labels[test] == digit).sum() / (labels == digit).sum()
        assert share == pytest.approx(0.2, abs=0.003)
    # Accuracies can only be compared on the same split, so it must never change.
    assert test[:8].tolist() == [3, 7, 13, 19, 36, 38, 43, 48]


def test_images_are_upsampled_and_labels_kept():
    images, labels = load_digits()
    _, test_rows = split_digits(labels)
    train, test = digit_images()
    assert train.images.shape == (1438, 3, 32, 32) and test.images.shape == (359, 3, 32, 32)
    assert train.images.dtype == torch.uint8 and train.labels.dtype == torch.int64
    assert test.labels.tolist() == labels[test_rows].tolist()
    assert torch.equal(test.images[:, 0], test.images[:, 2])
    shrunk = test.images[:, 0].float().unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4)) * 16 / 255
    correlation = np.corrcoef(shrunk.flatten(), images[test_rows].ravel())[0, 1]
    assert correlation > 0.97


def test_a_file_at_the_given_path_takes_precedence(tmp_path):
    np.savez(tmp_path / "digits.npz", images=np.zeros((1, 8, 8), np.uint8), labels=np.array([3]))
    assert load_digits(tmp_path)[1].tolist() == [3]
    assert len(load_digits(tmp_path / "nowhere")[1]) == 1797


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "digits.npz").write_bytes((EMBEDDED / "digits.npz").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"--path.*digits\.npz"):
        load_digits(tmp_path)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.datasets.digits.EMBEDDED", tmp_path)
    with pytest.raises(UserError, match=r"--path.*digits\.npz.*git"):
        load_digits(tmp_path)
