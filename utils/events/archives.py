"""The ten archives of CIFAR10-DVS: download and extract them."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from utils.system.atomic_write import folder_atomically
from utils.system.download import DownloadFailed, fetch, md5_of
from utils.system.errors import UserError
from utils.system.text import print_line

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
# The second address often returns an empty page, as a protection against robots.
ADDRESSES = (
    "https://api.figshare.com/v2/file/download/{}",
    "https://ndownloader.figshare.com/files/{}",
)
_MAX_EXPANSION = 100  # recordings compress to about a third
_SHOWN = 100  # characters of a member's name in messages
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def obtain(names: Sequence[str], root: Path) -> None:
    """Put the recordings of the classes `names` into `<root>/events`, downloading what is missing.

    A `<class>.zip` in `root` or in one of its folders is used if its md5 is right. Raises
    UserError if it is not, and if no download works, with the files to fetch by hand.
    """
    for done, name in enumerate(names):
        try:
            archive = _local_archive(name, root) or _downloaded(name, root)
        except DownloadFailed as error:
            files = (f"{ADDRESSES[-1].format(ARCHIVES[c][0])} as {c}.zip" for c in names[done:])
            raise UserError(
                f"--path {root}: {error}; run again to continue, or download by hand and save there"
                f" {', '.join(files)}"
            ) from error
        extract(archive, root / "events" / name)


def extract(archive: Path, folder: Path) -> None:
    """Extract the recordings in `archive` to `folder`, which appears once it is complete.

    Raises UserError, before anything is written, for an archive that is damaged or unsafe, and
    when the file system refuses to write.
    """
    recordings = _recordings(archive)
    print_line(f"Extracting {archive.name}")
    try:
        with (
            folder_atomically(folder, "make room") as unfinished,
            zipfile.ZipFile(archive) as members,
        ):
            for member in recordings:
                target = unfinished / PurePosixPath(member.filename).name
                with members.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _recordings(archive: Path) -> list[zipfile.ZipInfo]:
    """Return the recordings in `archive`; raises UserError if any of its members is unsafe."""
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror})") from error
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
            raise UserError(f"{archive}: {member.filename[:_SHOWN]!r} lies outside of its folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{archive}: {member.filename[:_SHOWN]!r} is a link")
    if sum(m.file_size for m in members) > _MAX_EXPANSION * archive.stat().st_size:
        raise UserError(f"{archive}: its content is more than {_MAX_EXPANSION} times as large")
    found = [m for m in members if re.search(r"\.aedat4?$", m.filename)]
    names = Counter(PurePosixPath(m.filename).name for m in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(f"{archive}: two recordings are named {twice[0][:_SHOWN]}")
    return found


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(f"{archive}: damaged ({error}); remove it and download it again")


def _local_archive(name: str, root: Path) -> Path | None:
    """Return the `<name>.zip` in `root` or directly in one of its folders."""
    candidates = [root / f"{name}.zip", *sorted(root.glob(f"*/{name}.zip"))]
    archive = next((file for file in candidates if file.is_file()), None)
    md5 = ARCHIVES[name][1]
    if archive is not None and md5_of(archive) != md5:
        raise UserError(
            f"{archive}: its md5 is not {md5}, so it is incomplete or another file; remove it, and"
            " it will be downloaded"
        )
    return archive


def _downloaded(name: str, root: Path) -> Path:
    """Download the archive of the class `name` into `root` and return its path."""
    number, md5 = ARCHIVES[name]
    archive = root / f"{name}.zip"
    fetch([address.format(number) for address in ADDRESSES], archive, md5)
    return archive
