import io
import os

import numpy as np
import pytest
from PIL import Image

from utils.datasets.image_folder import load_folder, open_rgb
from utils.system.errors import UserError


def save_image(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file)


@pytest.fixture
def folder(tmp_path):
    """Two classes, two training images and one test image each; a class has one grey level."""
    for part, count in (("train", 2), ("test", 1)):
        for level, name in ((50, "cat"), (200, "dog")):
            for k in range(count):
                save_image(tmp_path / part / name / f"{k}.png", np.full((40, 20, 3), level))
    return tmp_path


@pytest.mark.parametrize("workers", [0, 3])
def test_images_keep_their_labels_with_any_number_of_threads(folder, workers):
    train, test, classes = load_folder(folder, 32, workers, quiet=True)
    assert classes == ("cat", "dog")
    assert train.images.shape == (4, 3, 32, 32) and test.images.shape == (2, 3, 32, 32)
    assert train.images[:, 0, 5, 5].tolist() == [50, 50, 200, 200]
    assert train.labels.tolist() == [0, 0, 1, 1] and test.labels.tolist() == [0, 1]


def test_images_of_the_right_size_are_unchanged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    for part in ("train", "val"):
        save_image(tmp_path / part / "only" / "a.png", pixels)
    train, test, _ = load_folder(tmp_path, quiet=True)
    assert np.array_equal(train.images[0].permute(1, 2, 0), pixels)
    assert np.array_equal(test.images[0].permute(1, 2, 0), pixels)


def test_grey_images_become_rgb(folder):
    save_image(folder / "train" / "cat" / "grey.png", np.full((8, 8), 77))
    train, _, _ = load_folder(folder, quiet=True)
    assert train.images[2, :, 0, 0].tolist() == [77, 77, 77]


def test_decoding_prints_progress_unless_quiet(folder, capsys):
    load_folder(folder, quiet=True)
    assert capsys.readouterr().out == ""
    load_folder(folder)
    printed = capsys.readouterr().out
    assert "Decoding training images 4/4" in printed and "Decoding test images " in printed


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_half_is_named(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(UserError, match=f"--path .*no folder {missing}.*expected"):
        load_folder(folder, quiet=True)


def test_a_folder_without_classes_is_named(folder):
    (folder / "train").rename(folder / "old")
    (folder / "train").mkdir()
    with pytest.raises(UserError, match=r"--path.*train.*expected train/<class>/"):
        load_folder(folder, quiet=True)


def test_a_class_without_images_is_named(folder):
    (folder / "test" / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match=r"--path.*cat.*expected"):
        load_folder(folder, quiet=True)


def test_classes_that_differ_are_listed(folder):
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    with pytest.raises(UserError, match=r"--path.*train/ and test/: dog, wolf"):
        load_folder(folder, quiet=True)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_named(folder, content):
    damaged = folder / "train" / "dog" / "1.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) - 30] if content is None else content)
    with pytest.raises(UserError, match=r"cannot read image .*dog.1\.png") as caught:
        load_folder(folder, quiet=True)
    assert "\n" not in str(caught.value)


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
def test_the_formats_of_image_data_sets_are_read(tmp_path, kind):
    (tmp_path / "image.png").write_bytes(encoded(kind))
    assert abs(open_rgb(str(tmp_path / "image.png")).getpixel((4, 4))[0] - 77) < 3


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX"])
def test_no_other_format_is_opened(tmp_path, monkeypatch, kind):
    def started(*args, **kwargs):
        pytest.fail("an external program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    (tmp_path / "image.png").write_bytes(encoded(kind))
    with pytest.raises(UserError, match="cannot read image .*image.png .not one of PNG, JPEG"):
        open_rgb(str(tmp_path / "image.png"))


def test_only_regular_files_are_opened(folder):
    (folder / "train" / "cat" / "0.png").unlink()
    os.mkfifo(folder / "train" / "cat" / "0.png")
    with pytest.raises(UserError, match="cannot read image .*0.png .not a regular file"):
        load_folder(folder, quiet=True)


def test_many_classes_that_differ_are_not_all_listed(folder):
    for number in range(100):
        save_image(folder / "train" / f"x{number:03d}" / "a.png", np.zeros((4, 4, 3)))
    with pytest.raises(UserError, match="x000, .*x007 and 92 more; both"):
        load_folder(folder, quiet=True)
