"""The one table of audio file formats: the endings of their names, their first bytes, and whether asrkit reads them.

An ending says which files of a directory are audio. The first bytes tell the format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Enough of a file's beginning for `identify`.
HEAD_BYTES = 64

# The second and third byte of a header of MPEG audio: no reserved version, layer, bit rate or sampling rate.
_MPEG_SECOND = bytes(b for b in range(0xE0, 0x100) if b & 0x18 != 0x08 and b & 0x06)
_MPEG_THIRD = bytes(b for b in range(0xF0) if b & 0x0C != 0x0C)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A format of audio files.

    Attributes:
        name: what messages call it.
        endings: of file names, in lower case, with the dot.
        magic: a regular expression that its first bytes match; None for a format that has no such bytes.
        is_read: whether asrkit reads it. A corpus that has others is refused instead of read without them.
        is_certain: False when `magic` is so short that samples without a header may match it.
    """

    name: str
    endings: tuple[str, ...]
    magic: bytes | None
    is_read: bool = True
    is_certain: bool = True


def _not_read(name: str, endings: tuple[str, ...], magic: bytes | None, is_certain: bool = True) -> AudioFormat:
    return AudioFormat(name, endings, magic, False, is_certain)


WAV = AudioFormat("WAV", (".wav", ".wave", ".bwf", ".rf64"), rb"(RIFF|RIFX|RF64|BW64)....WAVE")
W64 = AudioFormat("W64", (".w64",), rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00")
AIFF = AudioFormat("AIFF", (".aif", ".aiff", ".aifc", ".afc"), rb"FORM....AIF[FC]")
SVX = AudioFormat("8SVX", (".8svx", ".svx"), rb"FORM....(8SVX|16SV)")
AU = AudioFormat("AU", (".au", ".snd"), rb"\.snd|dns\.")
CAF = AudioFormat("CAF", (".caf",), rb"caff")
VOC = AudioFormat("VOC", (".voc",), rb"Creative Voice File\x1a")
FLAC = AudioFormat("FLAC", (".flac",), rb"fLaC")
OGG = AudioFormat("Ogg", (".ogg", ".oga", ".opus"), rb"OggS")
SPHERE = AudioFormat("SPHERE", (".sph", ".nist"), rb"NIST_1A")
MPEG = AudioFormat(
    "MP3",
    (".mp3", ".mp2", ".mp1", ".mpa", ".mpga"),
    rb"\xff[" + re.escape(_MPEG_SECOND) + rb"][" + re.escape(_MPEG_THIRD) + rb"]",
    is_certain=False,
)

FORMATS = (
    *(WAV, W64, AIFF, SVX, AU, CAF, VOC, FLAC, OGG, SPHERE, MPEG),
    AudioFormat("IRCAM", (".sf", ".ircam"), rb"\x64\xa3[\x01-\x04]\x00|\x00[\x01-\x04]\xa3\x64"),
    AudioFormat("PVF", (".pvf",), rb"PVF1\n"),
    # Read by libsndfile, which tells it by the numbers in its header; .htk is more often the ending of features.
    AudioFormat("HTK", (), None),
    _not_read("MPEG-4 audio", (".m4a", ".m4b", ".3ga", ".3gp"), rb"....ftyp"),
    _not_read("AAC", (".aac",), rb"ADIF|\xff[\xf0\xf1\xf8\xf9]", is_certain=False),
    _not_read("Windows Media", (".wma", ".asf"), rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    _not_read("AMR", (".amr", ".awb"), rb"#!AMR"),
    _not_read("WebM or Matroska", (".webm", ".weba", ".mka"), rb"\x1a\x45\xdf\xa3"),
    _not_read("Speex", (".spx",), None),  # inside Ogg
    _not_read("WavPack", (".wv",), rb"wvpk"),
    _not_read("Monkey's Audio", (".ape",), rb"MAC [\x00-\xff]{2}"),
    _not_read("True Audio", (".tta",), rb"TTA[12]"),
    _not_read("Musepack", (".mpc", ".mpp"), rb"MPCK|MP\+"),
    _not_read("AC-3", (".ac3", ".eac3"), rb"\x0b\x77"),
    _not_read("DTS", (".dts",), rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80"),
    _not_read("RealAudio", (".ra", ".rm"), rb"\.ra\xfd|\.RMF"),
    _not_read("Shorten", (".shn",), rb"ajkg"),
    _not_read("DSS dictation", (".dss", ".ds2"), rb"[\x01-\x08](dss|ds2)"),
    _not_read("DSD", (".dsf", ".dff"), rb"DSD |FRM8"),
    _not_read("QOA", (".qoa",), rb"qoaf"),
    _not_read("GSM 06.10", (".gsm",), None),
    _not_read("AVI", (), rb"RIFF....AVI "),
    _not_read("AVR", (".avr",), rb"2BIT"),
    _not_read("PARIS", (".paf",), rb" paf|fap "),
    _not_read("Psion", (".wve",), rb"ALawSoundFile\*\*"),
    _not_read("FastTracker instrument", (".xi",), rb"Extended Instrument: "),
    _not_read("MATLAB", (), rb"MATLAB 5\.0 MAT-file"),
    _not_read("MIDI sample dump", (".sds",), rb"\xf0\x7e.\x01"),
)

AUDIO_ENDINGS = frozenset(ending for each in FORMATS if each.is_read for ending in each.endings)
UNREADABLE_AUDIO_ENDINGS = frozenset(ending for each in FORMATS if not each.is_read for ending in each.endings)

_MAGICS = [(re.compile(each.magic, re.DOTALL), each) for each in FORMATS if each.magic is not None]


def identify(head: bytes) -> AudioFormat | None:
    """The format of a file that begins with `head` (HEAD_BYTES of it, or all); None when it is none of the table."""
    return next((each for magic, each in _MAGICS if magic.match(head)), None)
