"""Random damage to the bytes of a file, for Hypothesis."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]


def _cut(share: float) -> Damage:
    return lambda content: content[: int(share * len(content))]


def _flip(share: float, mask: int) -> Damage:
    def damage(content: bytes) -> bytes:
        place = min(int(share * len(content)), len(content) - 1)
        return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]

    return damage


def _write(share: float, piece: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        place = int(share * len(content))
        return content[:place] + piece + content[place + len(piece) :]

    return damage


def _insert(share: float, piece: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        place = int(share * len(content))
        return content[:place] + piece + content[place:]

    return damage


def _repeat(share: float, length: int) -> Damage:
    def damage(content: bytes) -> bytes:
        place = int(share * len(content))
        return content[: place + length] + content[place:]

    return damage


_SHARE = st.floats(0, 1, exclude_max=True)
_PIECE = st.binary(min_size=1, max_size=64)
_ONE = st.one_of(
    st.builds(_cut, _SHARE),
    st.builds(_flip, _SHARE, st.integers(1, 255)),
    st.builds(_write, _SHARE, _PIECE),
    st.builds(_insert, _SHARE, _PIECE),
    st.builds(_repeat, _SHARE, st.integers(1, 64)),
)


@st.composite
def damaged(draw, wholes: list[bytes]) -> bytes:
    """Return one of `wholes`, damaged in up to four places, or random bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=400))
    content = draw(st.sampled_from(wholes))
    for damage in draw(st.lists(_ONE, min_size=1, max_size=4)):
        content = damage(content) or b"\0"
    return content
