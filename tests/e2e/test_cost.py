"""What a verb asks of the system grows as a straight line with the number of files: counted, never timed."""

import cProfile
import gc
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from asrkit.cli.main import main
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.formats.lab import format_lab

# Numbers of recordings; the same four, again and again, so that nothing but their number differs.
SIZES = (20, 40, 80)
SIZES_OF_ARCHIVES = (50, 100, 200)  # 1, 2 and 4 archives of features: what each of them costs is on the line, too
KINDS = {"files opened": 10, "entries listed": 2, "bytes read": 8192, "reads": 8, "calls of functions": 500}
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the system does not count what is read")


class Count:
    """An audit hook, which cannot be removed and counts nothing most of the time."""

    now: Counter | None = None

    def __call__(self, event: str, args: tuple) -> None:
        counts = self.now
        if counts is None:
            return
        if event == "open":
            counts["files opened"] += 1
        elif event in ("os.listdir", "os.scandir"):
            self.now = None  # not the listing that follows
            counts["entries listed"] += 1 + len(os.listdir("." if args[0] is None else args[0]))
            self.now = counts


COUNT = Count()
sys.addaudithook(COUNT)


def _read_so_far() -> tuple[int, int]:
    """Bytes that this process has read, and by how many calls."""
    rows = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(rows["rchar"]), int(rows["syscr"])


@contextmanager
def counted() -> Iterator[Counter]:
    """What is done inside, by kind."""
    gc.collect()
    gc.disable()  # what it calls is none of the verb's
    counts, calls, before = Counter(), cProfile.Profile(), _read_so_far()
    COUNT.now = counts
    calls.enable()
    try:
        yield counts
    finally:
        calls.disable()
        COUNT.now = None
        gc.enable()
        counts["bytes read"], counts["reads"] = (b - a for a, b in zip(before, _read_so_far(), strict=True))
        counts["calls of functions"] = sum(entry.callcount for entry in calls.getstats())


@pytest.fixture(scope="module")
def corpora(tones, tmp_path_factory):
    """By number of recordings: a corpus of audio with a table, one with labels, and a data directory."""
    root = tmp_path_factory.mktemp("corpora")
    source = load_data_dir(tones / "data/test").utterances()[:4]
    for size in (*SIZES, *SIZES_OF_ARCHIVES):
        place = root / str(size)
        utts, table = [], ["audio,phones,speaker,set"]
        for directory in (place / "listed", place / "labeled"):
            directory.mkdir(parents=True)
        for number in range(size):
            utt = source[number % len(source)]
            spk_id = f"s{number % 2}"
            name = f"{spk_id}-{number:03}"
            for directory in (place / "listed", place / "labeled"):
                shutil.copy(utt.audio, directory / f"{name}.wav")
            table.append(f"{name}.wav,{' '.join(utt.phones)},{spk_id},train")
            (place / f"labeled/{name}.lab").write_text(format_lab(utt.phone_times))
            utts.append(replace(utt, utt_id=name, spk_id=spk_id, audio=str(place / f"listed/{name}.wav"), sex=None))
        (place / "listed/table.csv").write_text("\n".join(table))
        write_data_dir(place / "data", utts, {utt.utt_id: 1.0 for utt in utts})
        (place / "data/utt2dur").unlink()
    return root


def light_commands(tones: Path, corpus: Path, new: Path) -> dict[str, tuple]:
    """The verbs that treat many files or utterances without PyTorch."""
    exp, data, tokens, listed = tones / "exp", corpus / "data", tones / "data/tokens.txt", corpus / "listed"
    to_stdout = ("--model", exp, "--nj", 1, "--format")
    (new / "list").write_text("".join(f"{path}\n" for path in sorted(listed.glob("*.wav"))))
    return {
        "prepare a table": ("prepare", "own", "--corpus", listed, "--out", new / "a"),
        "prepare labels": ("prepare", "own", "--corpus", corpus / "labeled", "--out", new / "b"),
        "validate": ("validate", data),
        "train-lm": ("train-lm", "--train", data, "--tokens", tokens, "--out-file", new / "lm.arpa"),
        "score": ("score", data / "text", data / "text", "--utt2spk", data / "utt2spk"),
        "compare": ("compare", data / "text", data / "text", data / "text"),
        "boundaries": ("boundaries", "--ref", data, "--hyp", data / "phones.ctm"),
        "align": ("align", "--model", exp, "--data", data, "--out", new / "aligned", "--format", "lab"),
        "transcribe": ("transcribe", "--model", exp, "--nj", 1, "--out", new / "out", listed),
        "transcribe to one stream": ("transcribe", *to_stdout, "ctm", listed),
        "transcribe a list": ("transcribe", *to_stdout, "json", "--list", new / "list"),
    }


def heavy_commands(tones: Path, corpus: Path, new: Path) -> dict[str, tuple]:
    """Those that do with PyTorch or need what these make, in an order in which each finds what it needs."""
    exp, data, tokens = tones / "exp", corpus / "data", tones / "data/tokens.txt"
    config = ("--config", tones / "config.yaml")
    train = ("--train", data, "--dev", data, "--tokens", tokens, "--lm", tones / "data/lm.arpa")
    return {
        "extract": ("extract", data, *config, "--nj", 1, "--force"),
        "extract again": ("extract", data, *config, "--nj", 1),
        "validate with features": ("validate", data),
        "train": ("train", *config, "--set", "training.num_epochs=1", *train, "--out", new / "exp"),
        "decode": ("decode", "--model", exp, "--data", data, "--out", new / "decoded", "--nj", 1, "--ctm"),
        "report": ("report", "--data", data, "--hyp", new / "decoded/hyp", "--out", new / "report"),
        "analyze": ("analyze", "--model", exp, "--data", data, "--decode-dir", new / "decoded", "--nj", 1),
    }


@pytest.mark.parametrize(
    ("commands", "sizes"),
    [(light_commands, SIZES), pytest.param(heavy_commands, SIZES_OF_ARCHIVES, marks=pytest.mark.slow)],
)
def test_cost_grows_with_the_number_of_files(tones, corpora, tmp_path, commands, sizes):
    counts: dict[int, dict[str, Counter]] = {}
    for label, size in (("before", SIZES[0]), *((str(size), size) for size in sizes)):  # the first loads what it needs
        new, counts[size] = tmp_path / label, {}
        new.mkdir()
        for verb, command in commands(tones, corpora / str(size), new).items():
            with counted() as counts[size][verb]:
                assert main([str(argument) for argument in command]) == 0, verb
    faults = []
    for verb in counts[sizes[0]]:
        for kind, unit in KINDS.items():
            few, some, many = (counts[size][verb][kind] for size in sizes)
            # A line; a twentieth of its slope is for what sorting and searching add, and a unit for what is in blocks.
            if many - some > 2.1 * max(some - few, 0) + unit:
                faults.append(f"{verb}: {kind}: {few}, {some}, {many} for {sizes} recordings")
    assert not faults, "\n".join(faults)
