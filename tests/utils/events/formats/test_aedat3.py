import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.utils.events.formats.test_atis import rows
from tests.utils.events.layouts import AEDAT3_HEADER, aedat3_packet, random_rows
from utils.events.formats.aedat3 import decode_aedat3, encode_aedat3
from utils.events.formats.reader import read_events
from utils.system.errors import UserError

ROW = (7, 127, 3, 1)


def decoded(*packets):
    return rows(decode_aedat3(AEDAT3_HEADER + b"".join(packets), "file.aedat"))


@given(st.integers(1, 60), st.integers(0, 99))
def test_files_written_byte_by_byte_are_read(n, seed):
    written = random_rows(np.random.default_rng(seed), n, 128, 2**31 - 50_000)
    early = [row for row in written if row[0] < 2**31]
    late = [(t - 2**31, *row) for t, *row in written if t >= 2**31]
    content = AEDAT3_HEADER + aedat3_packet(early) + aedat3_packet(late, overflows=1)
    events = decode_aedat3(content)
    assert rows(events) == written
    assert rows(decode_aedat3(encode_aedat3(events))) == written


def test_packets_of_other_types_are_passed_over():
    assert decoded(aedat3_packet([ROW], kind=0), aedat3_packet([ROW]), aedat3_packet([])) == [ROW]


def test_invalid_events_and_unused_room_are_no_events():
    content = aedat3_packet([ROW, (8, 1, 1, 0), (9, 2, 2, 0)], invalid={1}, room=5)
    assert decoded(content) == [ROW, (9, 2, 2, 0)]


def test_another_public_reader_agrees(tmp_path):
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    rng = np.random.default_rng(0)
    path = tmp_path / "user01_led.aedat"
    packets = aedat3_packet(random_rows(rng, 300, 128)), aedat3_packet([ROW], overflows=2)
    path.write_bytes(AEDAT3_HEADER + b"".join(packets))
    theirs, events = utils.load_aedat_v3(path), read_events(path)
    for field in "txyp":
        np.testing.assert_array_equal(theirs[field], getattr(events, field))
    path.write_bytes(encode_aedat3(events))
    np.testing.assert_array_equal(utils.load_aedat_v3(path)["t"], events.t)


PACKET = aedat3_packet([ROW])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#!AER-DAT3.1\r\n" + PACKET, "damaged .*no end"),
        (AEDAT3_HEADER, "no events"),
        (AEDAT3_HEADER + PACKET[:20], "damaged .*header of a packet"),
        (AEDAT3_HEADER + PACKET[:-1], "damaged .*7 bytes of a packet of 8"),
        (AEDAT3_HEADER + PACKET[:20] + b"\2" + PACKET[21:], "damaged .*contradicts itself"),
        (AEDAT3_HEADER + aedat3_packet([ROW], overflows=2**31), "damaged .*contradicts itself"),
        (AEDAT3_HEADER + aedat3_packet([(0, 128, 0, 0)]), "larger than 128x128"),
        (AEDAT3_HEADER + aedat3_packet([(0, 0, 200, 0)]), "larger than 128x128"),
    ],
)
def test_faults_are_named(content, said):
    with pytest.raises(UserError, match=f"file.aedat: .*{said}"):
        decode_aedat3(content, "file.aedat")
