"""Reads text files from any program: in UTF-8, UTF-16 or UTF-32, with the line ends of any system."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import BinaryIO

from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.io.files import open_file

# The message about a character that no text and no path may contain.
NUL_FAULT = "a NUL character; the file is damaged, or not a text file"
_UTF8_MARK = codecs.BOM_UTF8
# Longer marks first, because the mark of UTF-32 begins with that of UTF-16.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def open_text(path: str | Path) -> BinaryIO:
    """Open a text file for reading. The stream gives its bytes in UTF-8, without a byte-order mark.

    asrkit opens all text files that other programs may have written here. UTF-8 is not checked. A file in UTF-16 or
    UTF-32 is decoded as a whole. An offset from `tell` is valid for `seek` of the stream of a later call.

    Raises:
        OSError: the file cannot be read.
        DataError: its first bytes promise UTF-16 or UTF-32, but it is not.
    """
    stream = open_file(path)
    try:
        head = stream.peek(4)  # without seeking, because it may be a pipe
        encodings = [name for mark, name in _ENCODINGS if head.startswith(mark)]
        encoding = encodings[0] if encodings else None
        if encoding is None and b"\0" in head[:2]:
            encoding = "utf-16-be" if head[0] == 0 else "utf-16-le"
        if encoding is None:
            if head.startswith(_UTF8_MARK):
                stream.read(len(_UTF8_MARK))
            return stream
        with stream:
            return io.BytesIO(stream.read().decode(encoding).encode())
    except UnicodeError as error:
        raise DataError(
            f"{location(path)}not {encoding}, which its first bytes promise ({error}); save it as UTF-8"
        ) from None
    except OSError:
        stream.close()
        raise


class TextFile:
    """A text file that is opened repeatedly, to read parts at their offsets. A file in UTF-16 is decoded only once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._decoded: bytes | None = None

    def open(self) -> BinaryIO:
        """Open the file as `open_text` does. Raises OSError and DataError as `open_text`."""
        if self._decoded is not None:
            return io.BytesIO(self._decoded)
        stream = open_text(self.path)
        if isinstance(stream, io.BytesIO):
            self._decoded = stream.getvalue()
        return stream


def read_text(path: str | Path, findings: Findings) -> str | None:
    """The text of a file in UTF-8 or UTF-16. Every line end becomes "\\n"; a byte-order mark is removed.

    If the file cannot be read, the error is added to `findings`, and the result is None.
    """
    try:
        with open_text(path) as stream:
            raw = stream.read()
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror})", path)
        return None
    except DataError as error:
        findings.error(str(error))
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        findings.error(
            f"neither UTF-8 nor UTF-16 (byte 0x{raw[error.start]:02x}); save it as UTF-8, since any other encoding "
            "would give other characters",
            path,
            raw.count(b"\n", 0, error.start) + 1,
        )
        return None
    if (place := text.find("\0")) >= 0:
        findings.error(NUL_FAULT, path, text.count("\n", 0, place) + 1)
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")
