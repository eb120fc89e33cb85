import hashlib
import re
import zipfile
from dataclasses import replace

import pytest

from tests.utils.events.recordings import make_events
from utils.events import archives
from utils.events.archives import obtain
from utils.events.cifar10_dvs import ARCHIVES
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.formats.reader import read_events
from utils.system.download import DownloadFailed
from utils.system.errors import UserError


@pytest.fixture
def cat_zip(tmp_path, monkeypatch):
    """An archive of three recordings with the layout of the published ones."""
    path = tmp_path / "given" / "cat.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(3):
            archive.writestr(f"cat/cifar10_cat_{k}.aedat", encode_aedat2(make_events(50, k)))
        archive.writestr("cat/readme.txt", "not a recording")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(ARCHIVES, "cat", replace(ARCHIVES["cat"], md5=md5))
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
    obtain([ARCHIVES["cat"]], root)
    files = sorted((root / "events" / "cat").iterdir())
    assert [file.name for file in files] == [f"cifar10_cat_{k}.aedat" for k in range(3)]
    assert all(len(read_events(file)) == 50 for file in files)


def test_an_archive_with_another_md5_is_named_and_kept(tmp_path, offline):
    (tmp_path / "dog.zip").write_bytes(b"half a file")
    with pytest.raises(UserError, match="dog.zip: its md5 is not"):
        obtain([ARCHIVES["dog"]], tmp_path)
    assert (tmp_path / "dog.zip").read_bytes() == b"half a file"


def test_without_a_network_all_missing_archives_are_named(tmp_path, cat_zip, offline):
    with pytest.raises(UserError) as error:
        obtain([ARCHIVES["cat"], ARCHIVES["ship"], ARCHIVES["truck"]], cat_zip.parent)
    line = str(error.value)
    assert f"--path {cat_zip.parent}" in line and "\n" not in line
    for name, number in (("ship", 7712836), ("truck", 7712839)):
        assert re.search(rf"{name}\.zip from \S+/{number}\b", line)
    assert "cat.zip" not in line
    assert (cat_zip.parent / "events" / "cat").is_dir()


def test_a_missing_archive_is_downloaded(tmp_path, cat_zip, monkeypatch):
    requests = []

    def fetch(urls, target, md5):
        requests.append((urls, target.name, md5))
        cat_zip.rename(target)

    monkeypatch.setattr(archives, "fetch", fetch)
    (tmp_path / "root").mkdir()
    cat = ARCHIVES["cat"]
    obtain([cat], tmp_path / "root")
    assert requests == [(cat.addresses, "cat.zip", cat.md5)]


def test_an_interrupted_extraction_is_repeated(tmp_path, cat_zip):
    unfinished = cat_zip.parent / "events" / ".cat.partial"
    unfinished.mkdir(parents=True)
    (unfinished / "cifar10_cat_9.aedat").write_bytes(b"half")
    obtain([ARCHIVES["cat"]], cat_zip.parent)
    assert len(list((cat_zip.parent / "events" / "cat").iterdir())) == 3
    assert not unfinished.exists()


def _zip(path, *members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name",
    ["../cat_0.aedat", "cat/../../x.aedat", "/etc/x.aedat", "..\\x.aedat", "C:\\x.aedat"],
)
def test_an_archive_with_a_member_outside_of_its_folder_is_refused(tmp_path, name):
    archive = _zip(tmp_path / "a.zip", ("cat/ok.aedat", b"1"), (name, b"2"))
    _is_refused(archive, tmp_path, "lies outside of its folder")


def test_an_archive_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("cat/cifar10_cat_0.aedat")
    link.external_attr = 0o120777 << 16
    _is_refused(_zip(tmp_path / "a.zip", (link, "/etc/passwd")), tmp_path, "is a link")


def test_an_archive_that_expands_too_much_is_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("cat/cifar10_cat_0.aedat", bytes(10**7)))
    _is_refused(archive, tmp_path, "100 times")


def test_two_recordings_with_one_name_are_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("a/x.aedat", b"1"), ("b/x.aedat", b"2"))
    _is_refused(archive, tmp_path, "named x.aedat")


def test_a_member_without_parts_in_its_name_is_harmless(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("cat/x.aedat", b"1"), (".", b"2"))
    archives.extract(archive, tmp_path / "events" / "cat", ARCHIVES["cat"].members)
    assert [file.name for file in (tmp_path / "events" / "cat").iterdir()] == ["x.aedat"]


def test_a_name_too_long_for_the_disk_is_one_line_and_leaves_nothing(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("cat/" + "x" * 300 + ".aedat", b"1"))
    with pytest.raises(UserError, match="cannot write .*cat .File name too long.: make room"):
        archives.extract(archive, tmp_path / "events" / "cat", ARCHIVES["cat"].members)
    assert list((tmp_path / "events").iterdir()) == []


@pytest.mark.parametrize("link", ["cat", ".cat.partial"])
def test_a_dangling_link_is_one_line_or_replaced(tmp_path, link):
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / link).symlink_to("nowhere")
    archive = _zip(tmp_path / "a.zip", ("cat/x.aedat", b"1"))
    if link == "cat":
        _is_refused(archive, tmp_path, "cannot write .*events/cat .*make room")
        return
    archives.extract(archive, tmp_path / "events" / "cat", ARCHIVES["cat"].members)
    assert [file.name for file in (tmp_path / "events").iterdir()] == ["cat"]


@pytest.mark.parametrize("cut", [0, 1, 30, 60, 90, 99])
def test_a_truncated_archive_is_refused(tmp_path, cut):
    archive = _zip(tmp_path / "a.zip", ("cat/x.aedat", bytes(range(256)) * 9))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * cut // 100])
    _is_refused(archive, tmp_path, "damaged")


def test_an_archive_with_changed_bytes_is_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", ("cat/x.aedat", b"recording"), method=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"recording", b"recorded!"))
    _is_refused(archive, tmp_path, "damaged")


def _is_refused(archive, tmp_path, why):
    with pytest.raises(UserError, match=why) as error:
        archives.extract(archive, tmp_path / "events" / "cat", ARCHIVES["cat"].members)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "events" / "cat").exists()
    assert not list(tmp_path.rglob("*.aedat")) or why == "damaged"
