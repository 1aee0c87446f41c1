"""Small trees in FarsDat's layout: tones for phones, in recordings of several sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

# Raw transcriptions: a pause, phones with closures, a pause.
SENTENCES: tuple[str, ...] = (
    "j(]a-tAj",
    "j`bu*ksij",
    "jS^qo=dej",
    "j@ci!;$'aj",
    "j#,e&gm\\pj",
    "=du`b-Z(",
)
PHONES_OF: Mapping[str, str] = {
    "j(]a-tAj": "sil ] a t A sil",
    "j`bu*ksij": "sil b u k s i sil",
    "jS^qo=dej": "sil S q o d e sil",
    "j@ci!;$'aj": "sil k i g ' a sil",
    "j#,e&gm\\pj": "sil , e g m p sil",
    "=du`b-Z(": "d u b t Z ]",
}


def same(name: str) -> str:
    return name


@dataclass(frozen=True)
class Style:
    """How the corpus is written: the sampling rate in Hz, what `case` makes of every name, how long phones are."""

    rate: int = 22050
    case: Callable[[str], str] = same
    phone_seconds: float = 0.03


def make_tree(
    root: Path,
    speakers: Sequence[int] = (1, 2, 9, 10, 103, 304),
    *,
    style: Style = Style(),
    num_sentences: int = 2,
    sentence_number: Callable[[int, int, int], int] = lambda speaker, session, index: 20 * session + index,
) -> Path:
    """Two sessions a speaker, of `num_sentences` each. Odd speakers are on CD1, even ones on CD2; odd ones are men.

    Sentence `index` of a session reads SENTENCES, in turn; its number is `sentence_number` of speaker, session and
    index. Each phone is a tone whose pitch belongs to its symbol.
    """
    rng, case = np.random.default_rng(1), style.case
    for disc in ("CD1", "CD2"):
        for part in ("SENTENCE", "wave", "PHONEME", "Information"):
            (root / case(disc) / case(part)).mkdir(parents=True)
    rows: dict[str, list[str]] = {"CD1": [], "CD2": []}
    for speaker in speakers:
        disc = "CD1" if speaker % 2 else "CD2"
        rows[disc].append(f"{speaker}  30  {'M' if speaker % 2 else 'F'}  Tehrani\r\n")
        for session in (1, 2):
            write_recording(
                root / case(disc),
                speaker,
                session,
                {
                    sentence_number(speaker, session, index): SENTENCES[(speaker + index) % len(SENTENCES)]
                    for index in range(num_sentences)
                },
                style,
                rng,
            )
    for disc, lines in rows.items():
        path = root / case(disc) / case("Information") / case("Speaker.txt")
        path.write_bytes("".join(["Code  Age  Sex  Dialect\r\n", *lines]).encode("latin-1"))
    return root


def write_recording(
    disc: Path,
    speaker: int,
    session: int,
    sentences: Mapping[int, str],
    style: Style,
    rng: np.random.Generator,
) -> None:
    """S<session><speaker>.WAV, its .SNT in bytes, and a PH file for each sentence."""
    name, rate, case = f"{session}{speaker:03d}", style.rate, style.case
    gap = rng.normal(0, 100, round(0.02 * rate))
    pieces, position, table = [gap], len(gap), []
    for number, text in sentences.items():
        lines, start = [], position
        for symbol in text:
            length = round(style.phone_seconds * rate * rng.uniform(0.9, 1.1))
            pieces.append(tone(symbol, length, rate, rng))
            lines.append(f"{symbol} {position - start} {position - start + length}\r\n")
            position += length
        table.append(f"{number:4d} {2 * start:9d} {2 * position:9d}\r\n")
        pieces.append(gap)
        position += len(gap)
        path = disc / case("PHONEME") / case(f"PH{name}.{number}")
        path.write_bytes("".join([*lines, "\x1a"]).encode("latin-1"))
    (disc / case("SENTENCE") / case(f"S{name}.SNT")).write_bytes("".join(table).encode("latin-1"))
    samples = np.concatenate(pieces).astype(np.int16)
    soundfile.write(disc / case("wave") / case(f"S{name}.WAV"), samples, rate, format="WAV", subtype="PCM_16")


def tone(symbol: str, length: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """(length,) noise for a pause or closure, else two tones that tell the symbol."""
    noise = rng.normal(0, 30, length)
    if symbol in "j\\`-=@*!&^#$(":
        return noise
    place = "aeoAiupbtdkgq,']fvszSZxhmnlryc;".index(symbol)
    time = np.arange(length) / rate
    low, high = 300 + 250 * (place % 6), 2000 + 700 * (place // 6)
    return noise + 4000 * np.sin(2 * np.pi * low * time) + 3000 * np.sin(2 * np.pi * high * time)
