"""How the audio that wav.scp names is reached: where paths start, whether pipes are run, which channel is taken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio.read import Channel, entry_duration, entry_info, is_pipe, load_entry
from asrkit.types import Waveform


@dataclass(frozen=True)
class AudioAccess:
    """Passed whole to whatever reads the audio of a data directory.

    Attributes:
        root: where relative paths of wav.scp start and commands run; None is the current directory.
        allow_pipes: run the commands that wav.scp holds. Only for data whose origin is trusted.
        channel: which of several channels is taken, as in read_audio.
    """

    root: Path | None = None
    allow_pipes: bool = False
    channel: Channel = "error"

    def load(
        self, entry: str, *, sample_rate: int | None = None, start: float | None = None, end: float | None = None
    ) -> Waveform:
        """Decode what a line of wav.scp names; arguments and errors are load_entry's."""
        return load_entry(
            entry,
            root=self.root,
            allow_pipes=self.allow_pipes,
            sample_rate=sample_rate,
            channel=self.channel,
            start=start,
            end=end,
        )

    def info(self, entry: str) -> tuple[int, int, int]:
        """Samples a channel, sampling rate in Hz and number of channels. Raises AudioError as `load`."""
        return entry_info(entry, root=self.root, allow_pipes=self.allow_pipes)

    def duration(self, entry: str) -> float:
        """Length in seconds. Raises AudioError as `load`."""
        return entry_duration(entry, root=self.root, allow_pipes=self.allow_pipes)

    def path(self, entry: str) -> str:
        """The file that an entry names, or the pipe as it is."""
        return entry if is_pipe(entry) else os.path.join(self.root or "", entry)
