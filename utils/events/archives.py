"""The ten archives of CIFAR10-DVS: where they are fetched from, and how they are unpacked."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from utils.system.download import DownloadFailed, fetch, md5_of
from utils.system.errors import UserError

ARCHIVES = {  # class, in label order: figshare file number, md5
    "airplane": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}
# The second often answers with an empty page meant to stop robots.
ADDRESSES = (
    "https://api.figshare.com/v2/file/download/{}",
    "https://ndownloader.figshare.com/files/{}",
)
_MOST_EXPANSION = 100  # recordings shrink to a third or so
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def obtain(names: Sequence[str], root: Path) -> None:
    """Put the recordings of the classes `names` into `<root>/events`, downloading what is missing.

    A `<class>.zip` in `root` or a folder of it is used if its md5 fits. Raises UserError where it
    does not, and where no download works, saying what to fetch by hand.
    """
    for done, name in enumerate(names):
        try:
            archive = _placed(name, root) or _downloaded(name, root)
        except DownloadFailed as error:
            files = (f"{ADDRESSES[-1].format(ARCHIVES[c][0])} as {c}.zip" for c in names[done:])
            raise UserError(
                f"--path {root}: {error}; run again to go on, or fetch by hand and save there"
                f" {', '.join(files)}"
            ) from error
        extract(archive, root / "events" / name)


def extract(archive: Path, folder: Path) -> None:
    """Unpack the recordings in `archive` into `folder`, which appears once it is complete.

    Raises UserError for an archive that is damaged or not what it seems, before it writes any of
    it, and where the disk refuses.
    """
    recordings = _recordings(archive)
    unfinished = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    print(f"Extracting {archive.name}", flush=True)
    try:
        with zipfile.ZipFile(archive) as members:
            for member in recordings:
                target = unfinished / PurePosixPath(member.filename).name
                with members.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
        unfinished.rename(folder)
    except _DAMAGE as error:
        raise UserError(f"{archive}: damaged ({error}); remove it and fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}): make room") from error


def _recordings(archive: Path) -> list[zipfile.ZipInfo]:
    """Return the recordings in `archive`, all of whose members are harmless."""
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
    except _DAMAGE as error:
        raise UserError(f"{archive}: damaged ({error}); remove it and fetch it again") from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror})") from error
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise UserError(f"{archive}: refused, {member.filename!r} leads out of its folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{archive}: refused, {member.filename!r} is a link")
    if sum(m.file_size for m in members) > _MOST_EXPANSION * archive.stat().st_size:
        raise UserError(
            f"{archive}: refused, it would grow more than {_MOST_EXPANSION} times when unpacked"
        )
    found = [m for m in members if re.search(r"\.aedat4?$", m.filename)]
    names = [PurePosixPath(m.filename).name for m in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{archive}: refused, it holds {min(twice)} twice")
    return found


def _placed(name: str, root: Path) -> Path | None:
    """Return the `<name>.zip` that lies in `root` or directly in one of its folders."""
    here = [root / f"{name}.zip", *sorted(root.glob(f"*/{name}.zip"))]
    archive = next((file for file in here if file.is_file()), None)
    md5 = ARCHIVES[name][1]
    if archive is not None and md5_of(archive) != md5:
        raise UserError(
            f"{archive}: its md5 is not {md5}, so it is incomplete or another file; remove it, and"
            " it will be downloaded"
        )
    return archive


def _downloaded(name: str, root: Path) -> Path:
    number, md5 = ARCHIVES[name]
    archive = root / f"{name}.zip"
    fetch([address.format(number) for address in ADDRESSES], archive, md5)
    return archive
