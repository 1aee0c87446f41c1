"""Scalars in the files that TensorBoard shows.

tensorboardX has the format, but it writes in a thread of its own, where a full disk ends the thread and in time stops
the training. Here it is an error at once.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asrkit.io.files import NamedFile, writer


class EventFile:
    """A new file of events in a directory, which is made when missing. Raises OSError when it cannot be written."""

    def __init__(self, directory: Path, first_step: int) -> None:
        """What other files of the directory have from `first_step` on is not shown any more."""
        # Imported here, so that those who only take a model's parts do not need it.
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event: Any = Event
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.{first_step:06}"
        self._file = NamedFile(directory / name, "wb")
        self._stream = writer(self._file, "wb")
        self._write(file_version="brain.Event:2")
        self._write(session_log=SessionLog(status=SessionLog.START), step=first_step)

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write scalars by their tags."""
        self._write(
            summary={"value": [{"tag": tag, "simple_value": value} for tag, value in scalars.items()]}, step=step
        )
        self._stream.flush()
        self._file.sync()

    def close(self) -> None:
        self._stream.close()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.record_writer import masked_crc32c

        event = self._event(wall_time=time.time(), **fields).SerializeToString()
        size = struct.pack("<Q", len(event))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (size, event))
        self._stream.write(b"".join((size, next(sums), event, next(sums))))
