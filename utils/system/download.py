"""Download files over HTTP from one of several addresses, resuming partial downloads."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from utils.system.errors import UserError
from utils.system.progress_counter import ProgressCounter
from utils.system.regular_file import open_regular

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


class DownloadFailed(UserError):
    """No address provided the file."""


class _WrongResponse(Exception):
    """The server answered with something other than the file."""


def fetch(urls: Sequence[str], target: Path, md5: str) -> None:
    """Download `target` from the first of `urls` that provides a file with this `md5`.

    What has arrived is kept in `<target>.part`, from which the next address and the next call
    continue. Raises DownloadFailed when no address works.
    """
    partial = target.with_name(target.name + ".part")
    faults = []
    for url in urls:
        try:
            if not (partial.exists() and md5_of(partial) == md5):
                _download(url, partial, target.name)
            if md5_of(partial) == md5:
                partial.replace(target)
                return
            partial.unlink()
            faults.append(f"{url}: another file (md5 differs)")
        except (OSError, ValueError, http.client.HTTPException, _WrongResponse) as error:
            faults.append(f"{url}: {error}")
    raise DownloadFailed(f"{target.name} could not be downloaded ({'; '.join(faults)})")


def md5_of(path: Path) -> str:
    """Return the MD5 checksum of a file in hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(url: str, partial: Path, label: str) -> None:
    """Append the missing rest of the file at `url` to `partial`."""
    have = partial.stat().st_size if partial.exists() else 0
    with _open(url, have) as response:
        if response.status not in (200, 206):
            raise _WrongResponse(f"status {response.status} without a file")
        if response.status == 200:  # the server starts from the beginning
            have = 0
        total = have + int(response.headers.get("Content-Length", 0))
        with (
            partial.open("ab" if have else "wb") as file,
            ProgressCounter(label, total, have) as counter,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                counter.add(len(chunk))
    if partial.stat().st_size < total:
        raise _WrongResponse(f"ended after {partial.stat().st_size:,} of {total:,} bytes")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """Request the file from byte `start`, or from 0 where it is shorter than that."""
    request = urllib.request.Request(url, headers={"User-Agent": "dsr"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        return _open(url, 0)
