"""The table of audio file formats: their file name endings, their first bytes, and whether asrkit reads them.

The ending decides which files of a directory are audio. The first bytes decide the format of a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Number of bytes from the beginning of a file that `identify` needs.
HEAD_BYTES = 64

# The second and third byte of a header of MPEG audio: no reserved version, layer, bit rate or sampling rate.
_MPEG_SECOND = bytes(b for b in range(0xE0, 0x100) if b & 0x18 != 0x08 and b & 0x06)
_MPEG_THIRD = bytes(b for b in range(0xF0) if b & 0x0C != 0x0C)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A format of audio files.

    Attributes:
        name: the name of the format in messages.
        endings: the endings of file names, in lower case, with the dot.
        magic: a regular expression for the first bytes of a file; None if the format has no such bytes.
        is_read: whether asrkit reads the format. A corpus with files of other formats is refused.
        is_certain: False if `magic` is so short that samples without a header may match it.
    """

    name: str
    endings: tuple[str, ...]
    magic: bytes | None
    is_read: bool = True
    is_certain: bool = True


def _unreadable(name: str, endings: tuple[str, ...], magic: bytes | None, is_certain: bool = True) -> AudioFormat:
    return AudioFormat(name, endings, magic, False, is_certain)


WAV = AudioFormat("WAV", (".wav", ".wave", ".bwf", ".rf64"), rb"(RIFF|RIFX|RF64|BW64)....WAVE")
W64 = AudioFormat("W64", (".w64",), rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00")
AIFF = AudioFormat("AIFF", (".aif", ".aiff", ".aifc", ".afc"), rb"FORM....AIF[FC]")
SVX = AudioFormat("8SVX", (".8svx", ".svx"), rb"FORM....(8SVX|16SV)")
AU = AudioFormat("AU", (".au", ".snd"), rb"\.snd\x00\x00|dns\...\x00\x00")
CAF = AudioFormat("CAF", (".caf",), rb"caff\x00\x01")
VOC = AudioFormat("VOC", (".voc",), rb"Creative Voice File\x1a")
FLAC = AudioFormat("FLAC", (".flac",), rb"fLaC[\x00\x80]\x00\x00\x22")
OGG = AudioFormat("Ogg", (".ogg", ".oga", ".opus"), rb"OggS")
SPHERE = AudioFormat("SPHERE", (".sph", ".nist"), rb"NIST_1A")
MPEG = AudioFormat(
    "MP3",
    (".mp3", ".mp2", ".mp1", ".mpa", ".mpga"),
    rb"\xff[" + re.escape(_MPEG_SECOND) + rb"][" + re.escape(_MPEG_THIRD) + rb"]",
    is_certain=False,
)

AAC = _unreadable("AAC", (".aac",), rb"ADIF|\xff[\xf0\xf1\xf8\xf9]", is_certain=False)

FORMATS = (
    *(WAV, W64, AIFF, SVX, AU, CAF, VOC, FLAC, OGG, SPHERE, MPEG),
    AudioFormat("IRCAM", (".sf", ".ircam"), rb"\x64\xa3[\x01-\x04]\x00|\x00[\x01-\x04]\xa3\x64"),
    AudioFormat("PVF", (".pvf",), rb"PVF1\n"),
    # libsndfile recognises HTK by the numbers in its header. No ending: .htk files hold features more often than audio.
    AudioFormat("HTK", (), None),
    _unreadable("MPEG-4 audio", (".m4a", ".m4b", ".3ga", ".3gp"), rb"....ftyp"),
    AAC,
    _unreadable("Windows Media", (".wma", ".asf"), rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    _unreadable("AMR", (".amr", ".awb"), rb"#!AMR"),
    _unreadable("WebM or Matroska", (".webm", ".weba", ".mka"), rb"\x1a\x45\xdf\xa3"),
    _unreadable("Speex", (".spx",), None),  # inside Ogg
    _unreadable("WavPack", (".wv",), rb"wvpk"),
    _unreadable("Monkey's Audio", (".ape",), rb"MAC [\x00-\xff]{2}"),
    _unreadable("True Audio", (".tta",), rb"TTA[12]"),
    _unreadable("Musepack", (".mpc", ".mpp"), rb"MPCK|MP\+"),
    _unreadable("AC-3", (".ac3", ".eac3"), rb"\x0b\x77"),
    _unreadable("DTS", (".dts",), rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80"),
    _unreadable("RealAudio", (".ra", ".rm"), rb"\.ra\xfd|\.RMF"),
    _unreadable("Shorten", (".shn",), rb"ajkg"),
    _unreadable("DSS dictation", (".dss", ".ds2"), rb"[\x01-\x08](dss|ds2)"),
    _unreadable("DSD", (".dsf", ".dff"), rb"DSD |FRM8"),
    _unreadable("QOA", (".qoa",), rb"qoaf"),
    _unreadable("GSM 06.10", (".gsm",), None),
    _unreadable("AVI", (), rb"RIFF....AVI "),
    _unreadable("AVR", (".avr",), rb"2BIT"),
    _unreadable("PARIS", (".paf",), rb" paf|fap "),
    _unreadable("Psion", (".wve",), rb"ALawSoundFile\*\*"),
    _unreadable("FastTracker instrument", (".xi",), rb"Extended Instrument: "),
    _unreadable("MATLAB", (), rb"MATLAB 5\.0 MAT-file"),
    _unreadable("MIDI sample dump", (".sds",), rb"\xf0\x7e.\x01"),
    _unreadable("RIFF", (), rb"RIFF|RIFX|RF64"),  # of other kinds than those above
    _unreadable("IFF", (), rb"FORM"),
)

AUDIO_ENDINGS = frozenset(ending for each in FORMATS if each.is_read for ending in each.endings)
UNREADABLE_AUDIO_ENDINGS = frozenset(ending for each in FORMATS if not each.is_read for ending in each.endings)

_MAGICS = [(re.compile(each.magic, re.DOTALL), each) for each in FORMATS if each.magic is not None]


def identify(head: bytes) -> AudioFormat | None:
    """The format of a file that begins with the bytes `head`; None if the table does not have it.

    `head` is the first HEAD_BYTES bytes, or the whole file if it is shorter.
    """
    return next((each for magic, each in _MAGICS if magic.match(head)), None)


def format_of_ending(ending: str) -> AudioFormat | None:
    """The format of files whose names have the ending `ending` (in lower case, with the dot); None if unknown."""
    return next((each for each in FORMATS if ending in each.endings), None)


def not_read(name: str, kind: AudioFormat) -> str:
    """The message that asrkit does not read the file `name`, because it has the format `kind`."""
    return f"{name}: {kind.name}, which is not read; convert it to WAV or FLAC, for example with ffmpeg"
