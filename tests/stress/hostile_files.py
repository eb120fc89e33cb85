"""A folder of files that no program should choke on: truncated, foreign, malicious or not files."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.stress import hostile_configs
from tests.utils.events import layouts
from tests.utils.events.layouts import AEDAT3_HEADER, aedat3_packet, atis_bytes
from tests.utils.events.recordings import make_events
from utils.events.cifar10_dvs import ARCHIVES
from utils.events.formats.aedat2 import encode_aedat2

HEADER = b"#!AER-DAT2.0\r\n"


class Malicious:
    """Unpickled, it would create the file `executed` in the working directory."""

    def __reduce__(self):
        return (open, ("executed", "w"))


def _saved(save: Callable, *arguments, **options) -> bytes:
    buffer = io.BytesIO()
    save(*arguments, buffer, **options)
    return buffer.getvalue()


def _image(kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def _huge_png() -> bytes:
    """A PNG of a few bytes that claims a thousand megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    size = struct.pack(">IIBBBBB", 32_000, 32_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")


def _npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _zip(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _npy(header: str) -> bytes:
    """An array without values, with this header."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


# ---------------------------------------------------------------------------------------- digits

_IMAGES, _LABELS = np.zeros((4, 8, 8), np.uint8), np.arange(4)
_HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000, 8, 8), }"

DIGITS = {  # folder: what its digits.npz contains
    "empty": b"",
    "text": b"digits\n",
    "truncated": _npz(images=_IMAGES, labels=_LABELS)[:200],
    "no-labels": _npz(images=_IMAGES),
    "no-images": _npz(images=_IMAGES[:0], labels=_LABELS[:0]),
    "other-counts": _npz(images=_IMAGES, labels=_LABELS[:3]),
    "flat": _npz(images=_IMAGES.reshape(4, 64), labels=_LABELS),
    "floats": _npz(images=_IMAGES.astype(float), labels=_LABELS),
    "white": _npz(images=_IMAGES + 17, labels=_LABELS),
    "eleventh": _npz(images=_IMAGES, labels=_LABELS + 7),
    "negative": _npz(images=_IMAGES, labels=_LABELS - 1),
    "words": _npz(images=_IMAGES, labels=_LABELS.astype("U")),
    "bomb": _npz(images=np.zeros((1 << 19, 8, 8), np.uint8), labels=_LABELS),
    "objects": _npz(images=np.array([Malicious()]), labels=_LABELS),
    "huge-shape": _zip(**{"images.npy": _npy(_HUGE), "labels.npy": _npy(_HUGE)}),
    "not-arrays": _zip(**{"images.npy": b"x", "labels.npy": b"y"}),
    "code": pickle.dumps(Malicious()),
}


# ---------------------------------------------------------------------------------- image folders

IMAGES = {  # folder: one of its images
    "empty": b"",
    "text": b"<html>not an image</html>",
    "truncated": _image()[:1000],
    "huge": _huge_png(),
    "eps": _image("EPS"),
    "pdf": _image("PDF"),
    "zip": _zip(x=b"y"),
    "cut-jpeg": _image("JPEG")[:500],
}


def _write_image_folders(root: Path) -> None:
    """Write folders with the classes `a` and `b`; what is wrong is an image of the first."""
    good = _image()

    def write(name: str, *halves: str, labels: Sequence[str] = "ab", content: bytes = good) -> None:
        for half in halves:
            for label in labels:
                folder = root / name / half / label
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "0.png").write_bytes(content)

    for name in (
        "good",
        *IMAGES,
        "pipe",
        "zero",
        "dangling",
        "folder",
        "escape",
        "many",
        "missing",
    ):
        write(name, "train", "val")
    for name, content in IMAGES.items():
        write(name, "train", "val", labels="a", content=content)
    for label in "ab":
        (root / "good" / "train" / label / "1.png").write_bytes(good)
    write("untested", "train")
    write("escape", "train", labels=["two\n\x1b[2Jlines"])
    write("many", "train", labels=[f"class{number}" for number in range(40)])
    (root / "missing" / "val" / "b" / "0.png").unlink()
    for name in ("pipe", "zero", "dangling", "folder"):
        for half in ("train", "val"):
            file = root / name / half / "a" / "0.png"
            file.unlink()
            if name == "pipe":
                os.mkfifo(file)
            elif name == "folder":
                file.mkdir()
            else:
                file.symlink_to("/dev/zero" if name == "zero" else "nowhere")
    for half in ("train", "val"):
        (root / "flat" / half).mkdir(parents=True)
        (root / "flat" / half / "0.png").write_bytes(good)


# ------------------------------------------------------------------------------------- recordings

_EVENTS = encode_aedat2(make_events(50))

RECORDINGS = {
    "empty": b"",
    "text": b"hello\n",
    "png": _image(),
    "version1": b"#!AER-DAT1.0\r\n" + bytes(6),
    "version3": b"#!AER-DAT3.1\r\n" + bytes(28),
    "version99": b"#!AER-DAT99999999999999999999\r\n",
    "camera": HEADER + "# AEChip: \u202eDAVIS\r\n".encode() + bytes(8),
    "truncated": _EVENTS[:-3],
    "header": HEADER,
    "unfinished": b"#!AER-DAT2.0\r\n# no end",
    "few": encode_aedat2(make_events(3)),
    "backwards": HEADER + np.array([[0, 9], [0, 5]], ">u4").tobytes() * 20,
    "aedat4": b"#!AER-DAT4.0\r\n",
    "aedat4-garbage": b"#!AER-DAT4.0\r\n" + bytes(range(256)),
}


def _write_recordings(root: Path) -> None:
    root.mkdir()
    for name, content in RECORDINGS.items():
        (root / f"{name}.aedat").write_bytes(content)
    (root / "good.aedat").write_bytes(_EVENTS)
    (root / "damaged3.aedat").write_bytes(AEDAT3_HEADER + aedat3_packet([(0, 0, 0, 0)])[:-1])
    (root / "truncated.bin").write_bytes(bytes(9))
    (root / "row.bin").write_bytes(atis_bytes([(0, 0, 200, 0)]))
    (root / "empty.bin").write_bytes(b"")
    os.mkfifo(root / "pipe.aedat")
    (root / "dangling.aedat").symlink_to("nowhere")
    with (root / "sparse.aedat").open("wb") as file:
        file.truncate(1 << 40)


# ------------------------------------------------------------------- CIFAR and its event recordings

CIFAR10 = "cifar-10-batches-py"


def _write_cifar(root: Path) -> None:
    for name, content in (
        ("empty", b""),
        ("text", b"not a batch"),
        ("malicious", pickle.dumps(Malicious())),
        ("truncated", pickle.dumps({"data": b"x" * 1000})[:500]),
    ):
        folder = root / name / CIFAR10
        folder.mkdir(parents=True)
        for batch in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"]:
            (folder / batch).write_bytes(content)
    for name, content in (("archive", b"not a tar file"), ("cut-archive", b"\x1f\x8b\x08" * 9)):
        (root / name).mkdir()
        (root / name / "cifar-10-python.tar.gz").write_bytes(content)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "cifar-10-python.tar.gz")


def _write_dvs(root: Path) -> None:
    for name in ("recording", "pipe", "few", "cache"):
        for label in ARCHIVES:
            folder = root / name / "events" / label
            folder.mkdir(parents=True)
            (folder / f"cifar10_{label}_0.aedat").write_bytes(_EVENTS)
    bad = root / "recording" / "events" / "dog" / "cifar10_dog_0.aedat"
    bad.write_bytes(RECORDINGS["truncated"])
    bad = root / "pipe" / "events" / "dog" / "cifar10_dog_0.aedat"
    bad.unlink()
    os.mkfifo(bad)
    for name, content in (("zip", b"not a zip file"), ("bomb", _zip(x=bytes(10**7)))):
        (root / name).mkdir()
        (root / name / "airplane.zip").write_bytes(content)
    cache = root / "cache" / "frames_num_2_split_by_number_normalization_None"
    for label in ("airplane", "cat"):
        (cache / label).mkdir(parents=True)
    (cache / "airplane" / "cifar10_airplane_7.npz").write_bytes(DIGITS["objects"])


def _write_other_layouts(root: Path) -> None:
    """Write what is wrong with the files of the other event data sets."""
    layouts.write_n_mnist(root / "n-mnist", per_class=1)
    (root / "n-mnist" / "Train" / "0" / "00001.bin").write_bytes(bytes(9))
    layouts.write_n_mnist(root / "n-mnist-empty", per_class=0)
    layouts.write_n_caltech101(root / "n-caltech-pipe")
    bad = root / "n-caltech-pipe" / "Caltech101" / "accordion" / "image_0001.bin"
    bad.unlink()
    os.mkfifo(bad)
    for name, file in (("n-caltech", "Caltech101.zip"), ("gesture-archive", "DvsGesture.tar.gz")):
        (root / name).mkdir()
        (root / name / file).write_bytes(b"not an archive")
    for name, file, content in (
        ("path", "trials_to_train.txt", b"../../recording.aedat\n"),
        ("labels", "user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n1,2\n"),
        ("none", "user01_led.aedat", layouts.AEDAT3_HEADER),
    ):
        layouts.write_gesture(root / f"gesture-{name}")
        (root / f"gesture-{name}" / "DvsGesture" / file).write_bytes(content)
    for name in ("gesture-empty", "gesture-pipe"):
        (root / name / "DvsGesture").mkdir(parents=True)
    os.mkfifo(root / "gesture-pipe" / "DvsGesture" / "trials_to_train.txt")


# ------------------------------------------------------------------------------------ checkpoints


def _changed(**entries) -> Callable[[dict], bytes]:
    return lambda whole: _saved(torch.save, whole | entries)


def _with_tensors(change: Callable[[dict], dict]) -> Callable[[dict], bytes]:
    return lambda whole: _saved(torch.save, whole | {"state_dict": change(whole["state_dict"])})


def _first(change: Callable) -> Callable[[dict], bytes]:
    """Change the first tensor of a checkpoint."""

    def changed(state: dict) -> dict:
        key = next(iter(state))
        return state | {key: change(state[key])}

    return _with_tensors(changed)


def _flipped(whole: dict) -> bytes:
    """Return a checkpoint with one bit flipped within its largest tensor, not between members."""
    content = bytearray(_saved(torch.save, whole))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = max(archive.infolist(), key=lambda member: member.file_size)
    lengths = struct.unpack_from("<HH", content, member.header_offset + 26)  # of name and extra
    content[member.header_offset + 30 + sum(lengths) + member.file_size // 2] ^= 1
    return bytes(content)


CHECKPOINTS = {  # name: the content of a file that is no checkpoint to go on from, given a good one
    "empty": lambda whole: b"",
    "text": lambda whole: b"weights\n",
    "truncated": lambda whole: _saved(torch.save, whole)[:3000],
    "flipped": _flipped,
    "malicious": lambda whole: pickle.dumps(Malicious()),
    "malicious-zip": lambda whole: _saved(torch.save, {"state_dict": Malicious()}),
    "zip": lambda whole: _zip(x=b"y"),
    "compressed": lambda whole: _zip(**{"x/data.pkl": bytes(10**6)}),
    "list": lambda whole: _saved(torch.save, [1, 2]),
    "tensor": lambda whole: _saved(torch.save, torch.ones(3)),
    "no-state": lambda whole: _saved(torch.save, {"epoch": 1}),
    "state-list": _changed(state_dict=[1]),
    "state-numbers": _changed(state_dict={"a": 1}),
    "keys-numbers": _changed(state_dict={1: torch.ones(1)}),
    "shape": _first(lambda tensor: torch.ones(7)),
    "sparse": _first(lambda tensor: tensor.flatten(1).to_sparse()),
    "missing": _with_tensors(lambda state: dict(list(state.items())[1:])),
    "escape": _with_tensors(lambda state: state | {"\x1b[2J\nnew": torch.ones(1)}),
    "thousand": _with_tensors(lambda state: state | {f"k{i}": torch.ones(1) for i in range(1000)}),
    "epoch-text": _changed(epoch="one"),
    "epoch-negative": _changed(epoch=-1),
    "epoch-huge": _changed(epoch=10**30),
    "rows-text": _changed(rows="none"),
    "rows-ragged": _changed(rows=[[1.0]]),
    "rows-strings": _changed(rows=[["a"] * 5]),
    "optimizer-list": _changed(optimizer=[1]),
    "optimizer-empty": _changed(optimizer={}),
    "setting-list": _changed(setting=[1]),
    "random-states": _changed(random_states=[1]),
    "seed-text": _changed(manualSeed="x"),
}


def write(root: Path) -> None:
    """Write all of these files below `root`, checkpoints aside."""
    for name, content in DIGITS.items():
        folder = root / "digits" / name
        folder.mkdir(parents=True)
        (folder / "digits.npz").write_bytes(content)
    _write_image_folders(root / "images")
    _write_recordings(root / "events")
    _write_cifar(root / "cifar")
    _write_dvs(root / "dvs")
    _write_other_layouts(root / "dvs")
    hostile_configs.write(root / "configs")
    (root / "file").write_text("a file\n")
    (root / "folder").mkdir()
    (root / "link").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
