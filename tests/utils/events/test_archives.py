import hashlib
import zipfile

import pytest

from tests.utils.events.recordings import make_events
from utils.events import archives
from utils.events.aedat2 import encode_aedat2
from utils.events.archives import ARCHIVES, obtain
from utils.events.reader import read_events
from utils.system.download import DownloadFailed
from utils.system.errors import UserError


@pytest.fixture
def cat_zip(tmp_path, monkeypatch):
    """An archive of three recordings, as the published ones are laid out, and its md5."""
    path = tmp_path / "given" / "cat.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(3):
            archive.writestr(f"cat/cifar10_cat_{k}.aedat", encode_aedat2(make_events(50, k)))
        archive.writestr("cat/readme.txt", "no recording")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(ARCHIVES, "cat", (1, md5))
    return path


@pytest.fixture
def offline(monkeypatch):
    def fail(urls, target, md5):
        raise DownloadFailed(f"{target.name} could not be downloaded (no network)")

    monkeypatch.setattr(archives, "fetch", fail)


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

    monkeypatch.setattr(archives, "fetch", fetch)
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


def _zip(path, *members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name",
    ["../cat_0.aedat", "cat/../../x.aedat", "/etc/x.aedat", "..\\x.aedat", "C:\\x.aedat"],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    archive = _zip(tmp_path / "a.zip", ("cat/ok.aedat", b"1"), (name, b"2"))
    _is_refused(archive, tmp_path, "leads out of its folder")


def test_an_archive_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("cat/cifar10_cat_0.aedat")
    link.external_attr = 0o120777 << 16
    _is_refused(_zip(tmp_path / "a.zip", (link, "/etc/passwd")), tmp_path, "is a link")


def test_an_archive_that_would_grow_out_of_all_proportion_is_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("cat/cifar10_cat_0.aedat", bytes(10**7)))
    _is_refused(archive, tmp_path, "100 times")


def test_two_recordings_of_one_name_are_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("a/x.aedat", b"1"), ("b/x.aedat", b"2"))
    _is_refused(archive, tmp_path, "x.aedat twice")


@pytest.mark.parametrize("cut", [0, 1, 30, 60, 90, 99])
def test_a_truncated_archive_is_refused(tmp_path, cut):
    archive = _zip(tmp_path / "a.zip", ("cat/x.aedat", bytes(range(256)) * 9))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * cut // 100])
    _is_refused(archive, tmp_path, "damaged")


def test_an_archive_with_other_bytes_is_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("cat/x.aedat", b"recording"), method=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"recording", b"recorded!"))
    _is_refused(archive, tmp_path, "damaged")


def _is_refused(archive, tmp_path, why):
    with pytest.raises(UserError, match=why) as error:
        archives.extract(archive, tmp_path / "events" / "cat")
    assert str(archive) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "events" / "cat").exists()
    assert not list(tmp_path.rglob("*.aedat")) or why == "damaged"
