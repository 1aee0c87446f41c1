"""phones.ctm of large data directories: an index in memory, an utterance's times read when asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

from asrkit.errors import DataError, location, raise_if_any
from asrkit.io.scp import split_fields
from asrkit.io.tables import Keys
from asrkit.types import PhoneTime


class PhoneTimes(Mapping[str, tuple[PhoneTime, ...]]):
    """Phones with times by utterance, in seconds from the utterance's beginning; some tens of bytes an utterance."""

    def __init__(self, path: str | Path) -> None:
        """Raises DataError when the file is missing, or the lines of an utterance do not stand together."""
        self.path = Path(path)
        self._starts = array("q")  # where each utterance begins, and the end of the file
        try:
            with open(path, "rb") as stream:
                self.keys_by_row = Keys(self._scan(stream))
        except FileNotFoundError:
            raise DataError(f"{location(path)}no such file; frame labels need the times of phones") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{location(path)}cannot be read ({error})") from None
        faults = [
            f"{location(path)}lines of {utt_id} in two places; sort them" for utt_id in self.keys_by_row.repeated()
        ]
        raise_if_any(faults)

    def _scan(self, stream: Iterator[bytes]) -> Iterator[str]:
        offset, beginnings = 0, (b"\n",)
        for line in stream:
            if not line.startswith(beginnings):
                utt_id = line.split(None, 1)[0] if line.strip() else b""
                beginnings = utt_id + b" ", utt_id + b"\t"
                self._starts.append(offset)
                yield utt_id.decode()
            offset += len(line)
        self._starts.append(offset)

    def __getitem__(self, utt_id: str) -> tuple[PhoneTime, ...]:
        """Raises KeyError, and DataError for lines that are not `utt channel start duration phone` in order of time."""
        row = self.keys_by_row.row(utt_id)
        start, end = self._starts[row : row + 2]
        times: list[PhoneTime] = []
        with open(self.path, "rb") as stream:
            stream.seek(start)
            for line in stream.read(end - start).decode("utf-8", "replace").splitlines():
                try:
                    found, _, begin, duration, phone = split_fields(line)[:5]
                    time = PhoneTime(phone, float(begin), float(begin) + float(duration))
                except ValueError:
                    found = ""
                if found != utt_id or not (times[-1].start if times else 0.0) <= time.start <= time.end:
                    expected = "`utt channel start duration phone`, sorted by start"
                    raise DataError(f"{location(self.path)}{utt_id}: expected {expected}, found {line!r}")
                times.append(time)
        return tuple(times)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self.keys_by_row
