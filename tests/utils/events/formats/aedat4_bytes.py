"""A writer of the smallest AEDAT 4 file that holds one packet of events, for the tests."""

import struct

import numpy as np

_INFO = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/">
<attr key="compression" type="string">NONE</attr>
<attr key="typeIdentifier" type="string">{kind}</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/">
<attr key="sizeX" type="int">{size}</attr><attr key="sizeY" type="int">{size}</attr>
</node></node></node></dv>"""
_EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "on"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)


def aedat4_bytes(t, x, y, p, size=128):
    events = np.zeros(len(t), _EVENT)
    events["t"], events["x"], events["y"], events["on"] = t, x, y, p
    packet = _events_buffer(events.tobytes(), len(events))
    header = _header_buffer(_INFO.format(kind="EVTS", size=size).encode())
    return b"#!AER-DAT4.0\r\n" + header + struct.pack("<ii", 0, len(packet)) + packet


def _header_buffer(text):
    """A size-prefixed flatbuffer IOHeader {compression: int = 0, dataTablePosition, infoNode}."""
    vtable = struct.pack("<HHHHH2x", 10, 16, 0, 8, 4)  # at 12
    table = struct.pack("<iIq", 12, 12, -1)  # at 24; the string follows at 40
    body = struct.pack("<I", 20) + b"IOHE" + vtable + table
    body += struct.pack("<I", len(text)) + text + b"\0"
    return struct.pack("<I", len(body)) + body


def _events_buffer(events, count):
    """A size-prefixed flatbuffer EventPacket {elements: [Event]}."""
    vtable = struct.pack("<HHH2x", 6, 8, 4)  # at 12
    table = struct.pack("<iI", 8, 4)  # at 20; the vector's length at 28, its items at 32
    body = struct.pack("<I", 16) + b"EVTS" + vtable + table + struct.pack("<I", count) + events
    return struct.pack("<I", len(body)) + body
