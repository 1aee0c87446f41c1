"""Audio files of any format to mono waveforms on the int16 scale, which is Kaldi's."""

from asrkit.audio.read import (
    AUDIO_SUFFIXES,
    END_TOLERANCE,
    AudioStream,
    Channel,
    audio_duration,
    audio_info,
    check_channel,
    entry_duration,
    entry_info,
    is_pipe,
    load_entry,
    open_audio,
    read_audio,
    resample,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "END_TOLERANCE",
    "AudioStream",
    "Channel",
    "audio_duration",
    "audio_info",
    "check_channel",
    "entry_duration",
    "entry_info",
    "is_pipe",
    "load_entry",
    "open_audio",
    "read_audio",
    "resample",
]
