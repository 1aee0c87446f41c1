"""Damage to files, of the kinds that cables, editors and strangers do; the same for the same random numbers."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

MAX_BYTES = 2**15

Files = dict[str, bytes]  # by the path below the directory of an input

_NUMBER = re.compile(rb"[-+]?\d+(\.\d+)?")
_TOKEN = re.compile(rb"[^ \t\r\n,;:={}\[\]\"]+")
# Numbers that readers believe or stumble over.
NUMBERS = (
    *b"0 -1 1 2 0.5 -0.0 1e-400 1e5 1e9 1e10 1e308 1e999 -1e999 nan inf -inf 0x10 1_000 1,5 +3 00012".split(),
    *("٣".encode(), "²".encode()),
    *b"255 32768 65536 2147483647 2147483648 4294967295 1000000000000".split(),
    *b"9223372036854775807 9223372036854775808 -9223372036854775809".split(),
    *(b"9" * 20, b"9" * 350, b"9" * 5000, b"0" * 400 + b"1"),
)
# What text is made of elsewhere, and what is no text.
_WORDS = (
    *(b"\0", b"\xff", b"\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\x1a", b"\r", b"\n", b"\r\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x85", b"\x1b[2J"),
    *("\u2028".encode(), "\u00a0".encode()),
    *(b"a" * 300, b"b" * 5000, b"/" + b"c" * 300, b"../" * 100, b"cat |"),
    *b".. . / | - -- ~ * \" ' \\ # % & ;; , : = < > { } [ ] () !".split(),
    *("é".encode(), "e\u0301".encode(), "\u200b".encode(), "\U0001f600".encode(), b"<eps>", b"<s>", b"</s>", b"<blk>"),
)
_PACKED = (
    *(b"\0", b"\x01", b"\x7f", b"\x80", b"\xff"),
    *(struct.pack(form, value) for form in ("<H", ">H") for value in (0, 1, 2, 0x7FFF, 0x8000, 0xFFFF)),
    *(
        struct.pack(form, value)
        for form in ("<I", ">I")
        for value in (0, 1, 16, 1000, 10**6 + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
    ),
    *(struct.pack(form, value) for form in ("<q", ">q") for value in (0, -1, 2**40, 2**63 - 1, -(2**63))),
    *(struct.pack(form, value) for form in ("<d", ">d") for value in (float("nan"), float("inf"), 1e300, -1.0, 0.5)),
)


def damaged(content: bytes, rng: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One file with one to six faults. `others`: other inputs to take parts of; `words`: those of the format."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        content = rng.choice(_FAULTS)(content, rng, (others, words))[:MAX_BYTES]
    return content


def made_up(rng: random.Random, words: Sequence[bytes]) -> bytes:
    """A text of the format's words and of numbers that has hardly more than its lines in common with a right one."""
    lines = []
    for _ in range(rng.randrange(9)):
        fields = [
            _word(rng, words) if rng.random() < 0.7 else rng.choice(NUMBERS[:20]) for _ in range(rng.randrange(7))
        ]
        lines.append(rng.choice((b" ", b" ", b"\t", b",", b": ")).join(fields))
    return rng.choice((b"\n", b"\n", b"\r\n")).join(lines)[:MAX_BYTES]


_Material = tuple[Sequence[bytes], Sequence[bytes]]


def _word(rng: random.Random, words: Sequence[bytes]) -> bytes:
    return rng.choice(words) if words and rng.random() < 0.6 else rng.choice(_WORDS)


def _part(content: bytes, rng: random.Random) -> tuple[int, int]:
    """First byte and end of a part, more often a short one."""
    size = min(int(2 ** rng.uniform(0, 12)), len(content))
    begin = rng.randrange(len(content) - size + 1)
    return begin, begin + size


def _place(content: bytes, rng: random.Random) -> int:
    """A byte, more often one of the header."""
    return rng.randrange(min(len(content), rng.choice((48, 160, MAX_BYTES))) + 1)


def _flip(content: bytes, rng: random.Random, material: _Material) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8)) if content else 0):
        changed[min(_place(content, rng), len(content) - 1)] ^= rng.choice((1, 2, 4, 8, 16, 32, 64, 128, 255))
    return bytes(changed)


def _cut(content: bytes, rng: random.Random, material: _Material) -> bytes:
    begin, end = _part(content, rng)
    return content[:begin] + content[end:]


def _truncate(content: bytes, rng: random.Random, material: _Material) -> bytes:
    return content[: _place(content, rng)]


def _repeat(content: bytes, rng: random.Random, material: _Material) -> bytes:
    begin, end = _part(content, rng)
    return content[:end] + content[begin:end] * rng.choice((1, 1, 1, 2, 10, 1000)) + content[end:]


def _move(content: bytes, rng: random.Random, material: _Material) -> bytes:
    begin, end = _part(content, rng)
    rest = content[:begin] + content[end:]
    place = rng.randrange(len(rest) + 1)
    return rest[:place] + content[begin:end] + rest[place:]


def _insert(content: bytes, rng: random.Random, material: _Material) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + _word(rng, material[1]) + content[place:]


def _put_number(content: bytes, rng: random.Random, material: _Material) -> bytes:
    """Another number in place of one."""
    return _replace(_NUMBER, content, rng, rng.choice(NUMBERS))


def _put_word(content: bytes, rng: random.Random, material: _Material) -> bytes:
    """Another word in place of one."""
    return _replace(_TOKEN, content, rng, _word(rng, material[1]))


def _replace(pattern: re.Pattern[bytes], content: bytes, rng: random.Random, new: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    match = pattern.search(content, start) or pattern.search(content)
    return content[: match.start()] + new + content[match.end() :] if match else content + new


def _put_packed(content: bytes, rng: random.Random, material: _Material) -> bytes:
    """Another binary number in a place."""
    place, value = _place(content, rng), rng.choice(_PACKED)
    return content[:place] + value + content[place + len(value) :]


def _lines(content: bytes, rng: random.Random, material: _Material) -> bytes:
    """A line in another place, twice, or not at all."""
    lines = content.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def _splice(content: bytes, rng: random.Random, material: _Material) -> bytes:
    """The beginning of one input and the end of another."""
    other = rng.choice(material[0]) if material[0] else content
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


_FAULTS: tuple[Callable[[bytes, random.Random, _Material], bytes], ...] = (
    *(_flip, _cut, _truncate, _repeat, _move, _insert, _put_number, _put_number, _put_word, _put_packed),
    *(_lines, _splice),
)
