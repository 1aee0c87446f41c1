"""Write scalars to the event files that TensorBoard reads.

tensorboardX knows the format, but it writes in its own thread. A full disk would end that thread, and later block the
training. Here it is an error immediately.
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
    """A new event file in a directory, which is created if necessary. Raises OSError if the file cannot be written."""

    def __init__(self, directory: Path, first_step: int) -> None:
        """Begin a file. TensorBoard then hides the events from `first_step` on in other files of the directory."""
        # Imported here, because it is needed only for training.
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
        """Close the file."""
        self._stream.close()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.record_writer import masked_crc32c

        event = self._event(wall_time=time.time(), **fields).SerializeToString()
        size = struct.pack("<Q", len(event))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (size, event))
        self._stream.write(b"".join((size, next(sums), event, next(sums))))
