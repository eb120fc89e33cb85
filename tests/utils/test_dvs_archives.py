import hashlib
import zipfile

import pytest

from tests.utils.recordings import make_events
from utils import dvs_archives
from utils.download import DownloadFailed
from utils.dvs_archives import ARCHIVES, obtain
from utils.errors import UserError
from utils.events import encode_aedat2, read_events


@pytest.fixture
def cat_zip(tmp_path, monkeypatch):
    """An archive of three recordings, as the published ones are laid out, and its md5."""
    path = tmp_path / "given" / "cat.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(3):
            archive.writestr(f"cat/cifar10_cat_{k}.aedat", encode_aedat2(make_events(50, k)))
        archive.writestr("cat/../../readme.txt", "no recording")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(ARCHIVES, "cat", (1, md5))
    return path


@pytest.fixture
def offline(monkeypatch):
    def fail(urls, target, md5):
        raise DownloadFailed(f"{target.name} could not be downloaded (no network)")

    monkeypatch.setattr(dvs_archives, "fetch", fail)


@pytest.mark.parametrize("folder", ["", "download"])
def test_a_hand_placed_archive_is_used(tmp_path, cat_zip, offline, folder):
    root = tmp_path / "root"
    (root / folder).mkdir(parents=True)
    cat_zip.rename(root / folder / "cat.zip")
    obtain(["cat"], root)
    files = sorted((root / "events" / "cat").iterdir())
    assert [file.name for file in files] == [f"cifar10_cat_{k}.aedat" for k in range(3)]
    assert all(len(read_events(file)) == 50 for file in files)


def test_an_archive_with_another_md5_is_named_and_left_alone(tmp_path, offline):
    (tmp_path / "dog.zip").write_bytes(b"half a file")
    with pytest.raises(UserError, match="dog.zip: its md5 is not"):
        obtain(["dog"], tmp_path)
    assert (tmp_path / "dog.zip").read_bytes() == b"half a file"


def test_without_a_network_all_that_is_missing_is_named(tmp_path, cat_zip, offline):
    with pytest.raises(UserError) as error:
        obtain(["cat", "ship", "truck"], cat_zip.parent)
    line = str(error.value)
    assert f"--path {cat_zip.parent}" in line and "\n" not in line
    assert "files/7712836 as ship.zip" in line and "files/7712839 as truck.zip" in line
    assert "cat.zip" not in line
    assert (cat_zip.parent / "events" / "cat").is_dir()


def test_downloads_try_the_working_address_first(tmp_path, cat_zip, monkeypatch):
    asked = []

    def fetch(urls, target, md5):
        asked.append((urls, target.name, md5))
        cat_zip.rename(target)

    monkeypatch.setattr(dvs_archives, "fetch", fetch)
    (tmp_path / "root").mkdir()
    obtain(["cat"], tmp_path / "root")
    [(urls, name, md5)] = asked
    assert urls[0] == "https://api.figshare.com/v2/file/download/1"
    assert urls[1] == "https://ndownloader.figshare.com/files/1"
    assert (name, md5) == ("cat.zip", ARCHIVES["cat"][1])


def test_an_interrupted_extraction_starts_again(tmp_path, cat_zip):
    unfinished = cat_zip.parent / "events" / ".cat.partial"
    unfinished.mkdir(parents=True)
    (unfinished / "cifar10_cat_9.aedat").write_bytes(b"half")
    obtain(["cat"], cat_zip.parent)
    assert len(list((cat_zip.parent / "events" / "cat").iterdir())) == 3
    assert not unfinished.exists()


def test_the_ten_classes_are_in_label_order():
    assert list(ARCHIVES) == sorted(ARCHIVES) and len(ARCHIVES) == 10
