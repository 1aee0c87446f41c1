"""Reads audio files of many formats as mono waveforms on the int16 scale (-32768 to 32767), as in Kaldi."""

from asrkit.audio.access import AudioAccess, is_pipe
from asrkit.audio.file_formats import AUDIO_ENDINGS, UNREADABLE_AUDIO_ENDINGS
from asrkit.audio.read import (
    END_TOLERANCE,
    AudioInfo,
    AudioStream,
    Channel,
    audio_duration,
    audio_info,
    check_channel,
    open_audio,
    read_audio,
)
from asrkit.audio.resample import resample
from asrkit.audio.source import check_rate

__all__ = [
    "AUDIO_ENDINGS",
    "END_TOLERANCE",
    "UNREADABLE_AUDIO_ENDINGS",
    "AudioAccess",
    "AudioInfo",
    "AudioStream",
    "Channel",
    "audio_duration",
    "audio_info",
    "check_channel",
    "check_rate",
    "is_pipe",
    "open_audio",
    "read_audio",
    "resample",
]
