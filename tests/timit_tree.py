"""Small made-up copies of TIMIT in the layouts that circulate. The "speech" is a tone for each phone."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrkit.corpora.timit import CORE_TEST_SPEAKERS, DEV_SPEAKERS

RATE = 16000
TRAIN_SPEAKERS = ("fcjf0", "mdac0", "mcpm0", "fvmh0", "mtrr0", "fsah0")
SENTENCES = ("sa1", "sa2", "si648", "si1027", "si1657", "sx37", "sx127", "sx217", "sx307", "sx397")
TONES_HZ = {"h#": 0, "aa": 400, "iy": 1000, "tcl": 0, "t": 2500, "q": 0, "pau": 0}


def sphere(samples: np.ndarray, **fields: str) -> bytes:
    """NIST SPHERE with the 1024-byte header of TIMIT; `fields` replace what the header says."""
    header = {
        "database_id": "-s5 TIMIT",
        "channel_count": "-i 1",
        "sample_count": f"-i {len(samples)}",
        "sample_rate": f"-i {RATE}",
        "sample_n_bytes": "-i 2",
        "sample_byte_format": "-s2 01",
        "sample_sig_bits": "-i 16",
        **fields,
    }
    text = "NIST_1A\n   1024\n" + "".join(f"{key} {value}\n" for key, value in header.items()) + "end_head\n"
    return text.encode().ljust(1024) + samples.astype("<i2").tobytes()


def riff(samples: np.ndarray) -> bytes:
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@dataclass(frozen=True)
class Speech:
    """One utterance: samples and its labels in samples."""

    samples: np.ndarray
    labels: Sequence[tuple[int, int, str]]

    def phn(self) -> str:
        return "".join(f"{start} {end} {phone}\n" for start, end, phone in self.labels)


def speak(rng: np.random.Generator, phones: Sequence[str] | None = None, *, length: int = 1600) -> Speech:
    """Phones between silences, each of about `length` samples."""
    if phones is None:
        middle: list[str] = []
        for phone in rng.choice(["aa", "iy", "t"], rng.integers(3, 6)):
            middle += ["tcl", "t"] if phone == "t" else [str(phone)]
        phones = ("h#", *middle, "h#")
    pieces, labels, now = [], [], 0
    for phone in phones:
        size = int(rng.integers(length, 2 * length))
        pieces.append(6000 * np.sin(2 * np.pi * TONES_HZ.get(phone, 700) * np.arange(size) / RATE))
        labels.append((now, now + size, phone))
        now += size
    samples = np.concatenate(pieces)
    return Speech(np.round(samples + rng.normal(0, 50, now)), labels)


@dataclass(frozen=True)
class Layout:
    """How a copy looks on disk."""

    upper: bool = True
    above: str = ""  # directories between the corpus directory and TRAIN
    container: str = "sphere"  # or "riff", under the same .WAV
    riff_beside: bool = False  # X.WAV.wav beside X.WAV
    speaker_table: bool = True
    nltk: bool = False

    def directory(self, root: Path, part: str, spk: str) -> Path:
        if self.nltk:
            return root / f"dr1-{spk}"
        names = (part, "dr1", spk)
        return root.joinpath(self.above, *(name.upper() if self.upper else name for name in names))


LAYOUTS = {
    "upper": Layout(),
    "lower": Layout(upper=False),
    "data-upper": Layout(above="data"),
    "timit-timit-lower": Layout(upper=False, above="TIMIT/timit"),
    "riff": Layout(container="riff"),
    "riff-beside": Layout(above="data", riff_beside=True),
    "no-table": Layout(upper=False, speaker_table=False),
}
NLTK = Layout(upper=False, nltk=True, container="riff")


def files_of(layout: Layout, root: Path, part: str, spk: str, sentence: str) -> dict[str, Path]:
    """Paths of one utterance: "wav", "phn", "txt", "wrd", and "wav.wav" where the layout has it."""
    endings = ["wav", "phn", "txt", "wrd"]
    folder = layout.directory(root, part, spk)
    paths = {}
    for ending in endings:
        name = f"{sentence}.{ending}"
        paths[ending] = folder / (name.upper() if layout.upper else name)
    if layout.riff_beside:
        paths["wav.wav"] = Path(f"{paths['wav']}.wav")
    return paths


def write_utterance(layout: Layout, root: Path, part: str, spk: str, sentence: str, speech: Speech) -> None:
    paths = files_of(layout, root, part, spk, sentence)
    paths["wav"].parent.mkdir(parents=True, exist_ok=True)
    paths["wav"].write_bytes((sphere if layout.container == "sphere" else riff)(speech.samples))
    paths["phn"].write_text(speech.phn())
    paths["txt"].write_text(f"0 {len(speech.samples)} Some words.\n")
    paths["wrd"].write_text(f"0 {len(speech.samples)} some\n")
    if layout.riff_beside:
        paths["wav.wav"].write_bytes(riff(speech.samples))


def write_speaker_table(layout: Layout, root: Path, spks: Sequence[tuple[str, str]]) -> None:
    """SPKRINFO.TXT with the ids as the corpus has them there: without the sex. `spks`: (part, speaker)."""
    folder = root / layout.above / ("" if layout.nltk else "DOC" if layout.upper else "doc")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [";; ID  Sex DR Use  RecDate   BirthDate  Ht    Race Edu\n;\n"]
    for part, spk in spks:
        use = {"train": "TRN", "test": "TST"}[part]
        rows.append(f"{spk[1:].upper()}  {spk[0].upper()}  1  {use}  01/01/86  01/01/60  5'10\"  WHT  BS\n")
    (folder / ("SPKRINFO.TXT" if layout.upper else "spkrinfo.txt")).write_text("".join(rows))


def plan(layout: Layout, num_train: int, num_dev: int, num_core: int) -> Iterator[tuple[str, str]]:
    """(part, speaker) of a small copy."""
    yield from (("train", spk) for spk in TRAIN_SPEAKERS[:num_train])
    if not layout.nltk:
        yield from (("test", spk) for spk in (*DEV_SPEAKERS[:num_dev], *CORE_TEST_SPEAKERS[:num_core]))


def make_tree(
    root: Path,
    layout: Layout,
    *,
    num_train: int = 2,
    num_dev: int = 1,
    num_core: int = 1,
    length: int = 400,
) -> list[tuple[str, str]]:
    """Write a copy with some speakers of each set; gives their (part, speaker)."""
    rng = np.random.default_rng(7)
    spks = list(plan(layout, num_train, num_dev, num_core))
    for part, spk in spks:
        for sentence in SENTENCES:
            write_utterance(layout, root, part, spk, sentence, speak(rng, length=length))
    if layout.speaker_table:
        write_speaker_table(layout, root, spks)
    return spks


def make_complete_tree(root: Path) -> None:
    """As many speakers, utterances and labels as the published corpus has; the extra speakers' ids are made up."""
    layout = LAYOUTS["lower"]
    audio = riff(np.zeros(1700))
    train = [f"{'mf'[number % 2]}a{chr(97 + number // 26)}{chr(97 + number % 26)}9" for number in range(462)]
    other = [f"{'mf'[number % 2]}z{chr(97 + number // 26)}{chr(97 + number % 26)}9" for number in range(168 - 74)]
    spks = [("train", spk) for spk in train]
    spks += [("test", spk) for spk in (*DEV_SPEAKERS, *CORE_TEST_SPEAKERS, *other)]
    # 15057 = 400 * 37 + 257 tokens in dev, 7215 = 192 * 37 + 111 in core; a q is no token.
    left = {"dev": 257, "core": 111}
    for part, spk in spks:
        folder = layout.directory(root, part, spk)
        folder.mkdir(parents=True)
        name = "dev" if spk in DEV_SPEAKERS else "core" if spk in CORE_TEST_SPEAKERS else ""
        for sentence in SENTENCES:
            num_tokens = 37
            if name and not sentence.startswith("sa") and left[name]:
                left[name] -= 1
                num_tokens += 1
            phones = ["h#", "q", *["aa"] * (num_tokens - 2), "h#"]
            labels = [(40 * index, 40 * index + 40, phone) for index, phone in enumerate(phones)]
            (folder / f"{sentence}.wav").write_bytes(audio)
            (folder / f"{sentence}.phn").write_text(Speech(np.zeros(0), labels).phn())
    write_speaker_table(layout, root, spks)
