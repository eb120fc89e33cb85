"""The layout of CIFAR10-DVS: ten classes of a thousand recordings of a DVS128.

H. Li et al., CIFAR10-DVS: an event-stream dataset for object classification, Front. Neurosci. 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.events.archives import Archive
from utils.events.collection import Collection, Sample
from utils.events.frame_cache import FrameKind
from utils.system.errors import UserError

# The second address often returns an empty page, as a protection against robots.
_ADDRESSES = (
    "https://api.figshare.com/v2/file/download/{}",
    "https://ndownloader.figshare.com/files/{}",
)
_RECORDINGS = r"(?:.*/)?([^/]+\.aedat4?)"  # members of the archives; folders in these are dropped


def _archive(name: str, number: int, md5: str) -> Archive:
    """Return the archive of the class `name`, which has this number at figshare."""
    addresses = tuple(address.format(number) for address in _ADDRESSES)
    return Archive(f"{name}.zip", md5, addresses, addresses[-1], f"events/{name}", _RECORDINGS)


ARCHIVES = {  # in label order
    "airplane": _archive("airplane", 7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": _archive("automobile", 7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": _archive("bird", 7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": _archive("cat", 7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": _archive("deer", 7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": _archive("dog", 7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": _archive("frog", 7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": _archive("horse", 7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": _archive("ship", 7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": _archive("truck", 7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}
CLASSES = tuple(ARCHIVES)
_FILE = re.compile(r"cifar10_(?P<name>[a-z]+)_(?P<number>\d+)\.(?:aedat4?|npz)")


class CIFAR10DVS(Collection):
    """CIFAR10-DVS, or a collection with the same layout."""

    name = "CIFAR10DVS"

    def classes(self, root: Path) -> tuple[str, ...]:
        return CLASSES

    def missing(self, root: Path, kind: FrameKind) -> list[Archive]:
        present = {sample.label for sample in self.samples(root, kind)}
        return [ARCHIVES[name] for label, name in enumerate(CLASSES) if label not in present]

    def samples(self, root: Path, kind: FrameKind) -> list[Sample]:
        """Return the samples by class and number, also those with cached frames only."""
        labels = range(len(CLASSES))
        return [sample for label in labels for sample in _class_samples(root, kind, label)]

    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Return the first 90 % of each class by number for training, and the others.

        Raises UserError if either would be empty.
        """
        train, test = [], []
        for label in range(len(CLASSES)):
            members = sorted((s for s in samples if s.label == label), key=lambda s: s.number)
            cut = len(members) * 9 // 10
            train += members[:cut]
            test += members[cut:]
        if not train or not test:
            raise UserError(
                f"--path: {len(samples)} recordings are too few for a 90 % split per class"
            )
        return train, test


def _class_samples(root: Path, kind: FrameKind, label: int) -> Iterator[Sample]:
    name = CLASSES[label]
    recordings = _numbered(root / "events" / name, name)
    cache = root / kind.folder / name
    for number in sorted(recordings.keys() | _numbered(cache, name).keys()):
        frames = cache / f"cifar10_{name}_{number}.npz"
        yield Sample(label, number, recordings.get(number), frames)


def _numbered(folder: Path, name: str) -> dict[int, Path]:
    """Return the files of class `name` in `folder`, by number."""
    files = folder.iterdir() if folder.is_dir() else ()
    matches = ((_FILE.fullmatch(file.name), file) for file in files)
    return {int(m["number"]): file for m, file in matches if m and m["name"] == name}
