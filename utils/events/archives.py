"""The archives of published data sets: find or download, check and extract them."""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from utils.system.atomic_write import folder_atomically
from utils.system.download import DownloadFailed, fetch, md5_of
from utils.system.errors import UserError, first_line
from utils.system.text import print_line

_MAX_EXPANSION = 100  # recordings compress to about a third
_CHUNK = 1 << 20
_SHOWN = 100  # characters of a member's name in messages
_DAMAGE = (  # gzip's error comes before OSError, of which it is one
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Archive:
    """A published archive: where it is and what it contains.

    Its `file` has this `md5`. Programs fetch it from `addresses`, if there are any, users from
    `page`. The members whose whole name matches `members` are extracted to `folder`, relative to
    the folder of the data, under the name that the pattern's first group matches.
    """

    file: str
    md5: str
    addresses: tuple[str, ...]
    page: str
    folder: str
    members: str


def obtain(archives: Sequence[Archive], root: Path) -> None:
    """Extract `archives` below `root`, downloading those that are not there.

    One that lies in `root` or in one of its folders is used if its md5 is right. Raises UserError
    if it is not, and if no download works, with the files to fetch by hand.
    """
    for done, archive in enumerate(archives):
        try:
            file = _local_file(archive, root) or _downloaded(archive, root)
        except DownloadFailed as error:
            files = (f"{missing.file} from {missing.page}" for missing in archives[done:])
            again = "run again to continue, or " if archive.addresses else ""
            raise UserError(
                f"--path {root}: {error}; {again}download by hand into this folder: "
                f"{', '.join(files)}"
            ) from error
        extract(file, root / archive.folder, archive.members)


def extract(file: Path, folder: Path, pattern: str) -> None:
    """Extract the members of a zip or tar file that match `pattern`, see `Archive`, to `folder`.

    `folder` appears once it is complete. Raises UserError for an archive that is damaged or unsafe,
    and when the file system refuses to write.
    """
    print_line(f"Extracting {file.name}")
    list_members = _tar_members if ".tar" in file.suffixes else _zip_members
    wanted = re.compile(pattern)
    with folder_atomically(folder, "make room") as unfinished:
        for name, source in list_members(file, wanted):
            target = unfinished / wanted.fullmatch(name)[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("xb") as copy:
                _copy(source, copy, file)


def _zip_members(file: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the wanted members, after a check of all members, each with its open file."""
    with _reading(file), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            _check_member(file, member.filename, stat.S_ISLNK(member.external_attr >> 16))
        _check_size(file, sum(member.file_size for member in members))
        found = [member for member in members if wanted.fullmatch(member.filename)]
        names = Counter(wanted.fullmatch(member.filename)[1] for member in found)
        if twice := [name for name, count in names.items() if count > 1]:
            raise UserError(f"{file}: two recordings are named {twice[0][:_SHOWN]}")
        for member in found:
            yield member.filename, archive.open(member)


def _tar_members(file: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the wanted members in one pass, each with its open file after its check."""
    size, names = 0, set()
    with _reading(file), tarfile.open(file) as archive:
        for member in archive:
            _check_member(file, member.name, member.issym() or member.islnk())
            size += max(member.size, 0)
            _check_size(file, size)
            match = wanted.fullmatch(member.name)
            if not (match and member.isfile()):
                continue
            if match[1] in names:
                raise UserError(f"{file}: two recordings are named {match[1][:_SHOWN]}")
            names.add(match[1])
            yield member.name, archive.extractfile(member)


def _check_member(file: Path, name: str, is_link: bool) -> None:
    """Raise UserError for a link, or a name that leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
        raise UserError(f"{file}: {name[:_SHOWN]!r} lies outside of its folder")
    if is_link:
        raise UserError(f"{file}: {name[:_SHOWN]!r} is a link")


def _check_size(file: Path, size: int) -> None:
    """Raise UserError if members of `size` bytes are suspiciously many for the archive."""
    if size > _MAX_EXPANSION * file.stat().st_size:
        raise UserError(f"{file}: its content is more than {_MAX_EXPANSION} times as large")


def _copy(source: BinaryIO, target: BinaryIO, file: Path) -> None:
    """Copy a member of the archive `file`."""
    while True:
        with _reading(file):
            chunk = source.read(_CHUNK)
        if not chunk:
            return
        target.write(chunk)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged archive inside the context into a UserError."""
    try:
        yield
    except _DAMAGE as error:
        reason = first_line(error)
        raise UserError(f"{file}: damaged ({reason}); remove it and download it again") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def _local_file(archive: Archive, root: Path) -> Path | None:
    """Return the archive in `root` or directly in one of its folders."""
    candidates = [root / archive.file, *sorted(root.glob(f"*/{archive.file}"))]
    file = next((file for file in candidates if file.is_file()), None)
    if file is not None and md5_of(file) != archive.md5:
        again = "and it will be downloaded" if archive.addresses else f"get it from {archive.page}"
        raise UserError(
            f"{file}: its md5 is not {archive.md5}, so it is incomplete or another file; remove it,"
            f" {again}"
        )
    return file


def _downloaded(archive: Archive, root: Path) -> Path:
    """Download an archive into `root` and return its path."""
    if not archive.addresses:
        raise DownloadFailed(f"no {archive.folder}/ or {archive.file} here")
    file = root / archive.file
    fetch(archive.addresses, file, archive.md5)
    return file
