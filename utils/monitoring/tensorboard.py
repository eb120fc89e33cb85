"""The curves of a run in the files that TensorBoard reads."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import socket
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from utils.runs.paths import ASIDE
from utils.system.atomic_write import writing
from utils.system.errors import UserError

_MISSING = "needs the package tensorboard: pip install tensorboard"
_REMEDY = "make room or choose another --tensorboard"


def tensorboard_folder(text: str) -> str:
    """Return `text`, as the type of a flag; raises where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise argparse.ArgumentTypeError(_MISSING)
    return text


class TensorBoard:
    """The curves in `folder`, which belongs to one run; the step of a value is its epoch, from 1.

    Each start of the run has a file of its own in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "unopened"

    def make_parent(self) -> None:
        """Create the folder's parent; raises `UserError` where the disk refuses."""
        with writing(self.folder, _REMEDY):
            self.folder.parent.mkdir(parents=True, exist_ok=True)

    def start(self, epoch: int, continues: bool) -> bool:
        """Begin a file after `epoch` epochs; return whether there are no curves so far.

        A run that `continues` hides what an earlier start wrote about later epochs. Any other
        renames an existing folder to the first free `<folder>.old-<n>`.
        """
        with writing(self.folder, _REMEDY):
            if self.folder.exists() and not continues:
                names = (self.folder.with_name(f"{self.folder.name}{ASIDE}{n}") for n in count(1))
                self.folder.rename(next(name for name in names if not name.exists()))
            is_new = not self.folder.exists()
            self.folder.mkdir(exist_ok=True)
        seconds = f"{time.time():.6f}"  # TensorBoard reads the files in the order of their names
        suffix = f"{seconds}.{socket.gethostname()}.{os.getpid()}"
        self.path = self.folder / f"events.out.tfevents.{suffix}"
        event_pb2, _ = _messages()
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(
            event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"),
            event_pb2.Event(wall_time=time.time(), step=epoch + 1, session_log=session),
        )
        return is_new

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Append one value to each curve; raises `UserError` where the disk refuses."""
        event_pb2, summary_pb2 = _messages()
        entries = [summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        summary = summary_pb2.Summary(value=entries)
        self._append(event_pb2.Event(wall_time=time.time(), step=epoch, summary=summary))

    def _append(self, *events: Any) -> None:
        """Append whole records: where the disk is full, the part written is removed again.

        A reader would stop at a part of a record.
        """
        from tensorboard.summary.writer.record_writer import RecordWriter

        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        with writing(self.path, _REMEDY), self.path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(records.getvalue()) < len(records.getvalue()):
                    raise OSError("the disk is full")
            except OSError:
                file.truncate(size)
                raise


def _messages() -> tuple[Any, Any]:
    """Return the modules of TensorBoard's messages; raises `UserError` where they do not load."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
    except ImportError as error:
        raise UserError(f"--tensorboard: {_MISSING}") from error
    return event_pb2, summary_pb2
