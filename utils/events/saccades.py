"""The layouts of N-MNIST and N-Caltech101: images recorded by an ATIS during saccades.

G. Orchard et al., Converting static image datasets to spiking neuromorphic datasets using saccades,
Front. Neurosci. 2015.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from utils.events.archives import Archive
from utils.events.collection import Collection, Sample
from utils.events.formats import atis
from utils.events.frame_cache import FrameKind
from utils.system.errors import UserError

_N_MNIST = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/{}/file_downloaded"
_N_MNIST_PAGE = "https://www.garrickorchard.com/datasets/n-mnist"
N_MNIST_ARCHIVES = {
    "Train": Archive(
        "Train.zip",
        "20959b8e626244a1b502305a9e6e2031",
        (_N_MNIST.format("39c25547-014b-4137-a934-9d29fa53c7a0"),),
        _N_MNIST_PAGE,
        "Train",
        r"Train/(\d/\d+\.bin)",
    ),
    "Test": Archive(
        "Test.zip",
        "69ca8762b2fe404d9b9bad1103e97832",
        (_N_MNIST.format("05a4d654-7e03-4c15-bdfa-9bb2bcbea494"),),
        _N_MNIST_PAGE,
        "Test",
        r"Test/(\d/\d+\.bin)",
    ),
}
N_CALTECH101_ARCHIVE = Archive(
    "Caltech101.zip",
    "66201824eabb0239c7ab992480b50ba3",
    (),
    "https://www.garrickorchard.com/datasets/n-caltech101",
    "Caltech101",
    r"Caltech101/(\w+/image_\d+\.bin)",
)
_DIGITS = tuple("0123456789")
_NUMBER = re.compile(r"(?:image_)?(\d{1,9})\.bin")


class NMNIST(Collection):
    """N-MNIST: `Train/<digit>/<k>.bin` and `Test/<digit>/<k>.bin`, 34x34 pixels."""

    name = "NMNIST"
    sensor = atis.N_MNIST
    size = 34
    padding = 2  # digits fill the frame

    def classes(self, root: Path) -> tuple[str, ...]:
        return _DIGITS

    def missing(self, root: Path, kind: FrameKind) -> list[Archive]:
        return [a for half, a in N_MNIST_ARCHIVES.items() if not (root / half).is_dir()]

    def samples(self, root: Path, kind: FrameKind) -> list[Sample]:
        found = []
        for half in N_MNIST_ARCHIVES:
            for label, digit in enumerate(_DIGITS):
                cache = root / kind.folder / half / digit
                found += _recordings(root / half / digit, cache, label, half.lower())
        return found

    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Return the samples below `Train/` and those below `Test/`."""
        train, test = ([s for s in samples if s.half == half] for half in ("train", "test"))
        if not train or not test:
            raise UserError(
                "--path: no recordings <digit>/<number>.bin in Train/ or none in Test/; remove"
                " that folder, and its archive will be extracted"
            )
        return train, test


class NCaltech101(Collection):
    """N-Caltech101: `Caltech101/<class>/image_<k>.bin`, up to 240x180 pixels.

    Frames have 48x48 pixels, each of which counts the events of 5x5 pixels of a square of 240x240.
    """

    name = "NCaltech101"
    sensor = atis.N_CALTECH101
    binning = 5

    def classes(self, root: Path) -> tuple[str, ...]:
        folder = root / N_CALTECH101_ARCHIVE.folder
        folders = folder.iterdir() if folder.is_dir() else ()
        return tuple(sorted(entry.name for entry in folders if _is_class(entry)))

    def missing(self, root: Path, kind: FrameKind) -> list[Archive]:
        return [] if (root / N_CALTECH101_ARCHIVE.folder).is_dir() else [N_CALTECH101_ARCHIVE]

    def samples(self, root: Path, kind: FrameKind) -> list[Sample]:
        found = []
        for label, name in enumerate(self.classes(root)):
            folder = root / N_CALTECH101_ARCHIVE.folder / name
            found += _recordings(folder, root / kind.folder / name, label)
        return found

    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Return 90 % of each class for training, and the others; the data set has no own split.

        The order within a class is that of the SHA-256 sums of `<class>/<file name>`, so that the
        half of a recording depends on nothing but its class's other members. Raises UserError if
        either half would be empty.
        """
        train, test = [], []
        for label in sorted({sample.label for sample in samples}):
            members = [sample for sample in samples if sample.label == label]
            first = set(sorted(members, key=_draw)[: len(members) * 9 // 10])
            train += [sample for sample in members if sample in first]
            test += [sample for sample in members if sample not in first]
        if not train or not test:
            raise UserError(
                f"--path: {len(samples)} recordings Caltech101/<class>/image_<number>.bin are too"
                " few for a 90 % split per class"
            )
        return train, test


def _draw(sample: Sample) -> bytes:
    """Return the number by which the recordings of a class are ordered."""
    name = f"{sample.events.parent.name}/{sample.events.name}"
    return hashlib.sha256(name.encode()).digest()


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and re.fullmatch(r"\w+", entry.name) is not None


def _recordings(folder: Path, cache: Path, label: int, half: str = "") -> list[Sample]:
    """Return the recordings in `folder`, by number."""
    files = folder.iterdir() if folder.is_dir() else ()
    numbered = ((_NUMBER.fullmatch(file.name), file) for file in files)
    found = [
        Sample(label, int(match[1]), file, cache / f"{file.stem}.npz", half)
        for match, file in numbered
        if match
    ]
    return sorted(found, key=lambda sample: (sample.number, sample.events.name))
