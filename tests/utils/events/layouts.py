"""Recordings of other data sets, written byte by byte without the project's encoders."""

import struct

import numpy as np


def atis_bytes(events):
    """Return `(t, x, y, p)` rows as an ATIS file."""
    return b"".join(
        bytes([x, y]) + (p << 23 | t & 0x7FFFFF).to_bytes(3, "big") for t, x, y, p in events
    )


def aedat3_packet(events, overflows=0, kind=1, invalid=(), room=0):
    """Return `(t, x, y, p)` rows as a packet; those with the numbers `invalid` are marked so."""
    room = max(room, len(events))
    count = len(events), len(events) - len(invalid)
    header = struct.pack("<HHIIIIII", kind, 1, 8, 4, overflows, room, *count)
    rows = [
        struct.pack("<II", x << 17 | y << 2 | p << 1 | (number not in invalid), t)
        for number, (t, x, y, p) in enumerate(events)
    ]
    return header + b"".join(rows) + bytes(8 * (room - len(events)))


AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def random_rows(rng, n, size, first=0, duration=100_000):
    """Return `n` rows `(t, x, y, p)` of events in a corner of `size` x `size` pixels."""
    t = np.sort(rng.integers(first, first + duration, n))
    x, y = rng.integers(0, size, (2, n))
    return list(zip(*(v.tolist() for v in (t, x, y, rng.integers(0, 2, n))), strict=True))


def write_n_mnist(root, per_class=2, n=60):
    rng = np.random.default_rng(0)
    for half in ("Train", "Test"):
        for digit in range(10):
            folder = root / half / str(digit)
            folder.mkdir(parents=True)
            for k in range(per_class):
                content = atis_bytes(random_rows(rng, n, 34))
                (folder / f"{10 * k + digit + 1:05d}.bin").write_bytes(content)


def write_n_caltech101(root, classes=("accordion", "BACKGROUND_Google", "yin_yang"), per_class=10):
    rng = np.random.default_rng(0)
    for name in classes:
        folder = root / "Caltech101" / name
        folder.mkdir(parents=True)
        for k in range(per_class):
            content = atis_bytes(random_rows(rng, 60, 180))
            (folder / f"image_{k + 1:04d}.bin").write_bytes(content)


def write_gesture(root, users=(("user01", "train"), ("user02", "train"), ("user24", "test"))):
    """Write recordings of eleven gestures of 60 events in a second, a second apart."""
    rng = np.random.default_rng(0)
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    lists = {"train": [], "test": []}
    for user, half in users:
        stem = f"{user}_led"
        lists[half].append(f"{stem}.aedat\n")
        content, rows = AEDAT3_HEADER, ["class,startTime_usec,endTime_usec"]
        for k in range(11):
            first = (2 * k + 1) * 1_000_000
            content += aedat3_packet(random_rows(rng, 60, 128, first, 1_000_000))
            rows.append(f"{k + 1},{first},{first + 1_000_000}")
        (folder / f"{stem}.aedat").write_bytes(content)
        (folder / f"{stem}_labels.csv").write_text("\n".join(rows) + "\n")
    for half, names in lists.items():
        (folder / f"trials_to_{half}.txt").write_text("".join(names))
