"""A whole recipe on a few seconds of tones, for tests that break its files or run its verbs against each other.

Every verb runs in a process of its own, forked from one that has loaded PyTorch, so that it begins within milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

TONES_HZ = {"a": 400, "b": 1000, "c": 2500}
CONFIG = """\
features: {cmvn: speaker}
model: {bidirectional: true, num_layers: 1, hidden_size: 12, dropout: 0.0, self_conditioning: false, stack: 3, skip: 3}
training: {num_epochs: 3, batch_size: 4, max_lr: 0.02, warmup: 0.12, keep_best: 2,
  augment: {speeds: [], vtlp: 0, time_masks: 0}}
decoding: {beam: 4, lm_weight: 0.3, insertion_bonus: 0.0}
"""
# The state of a training, which nothing reads once it is done; it has times in it.
STATE = ("tensorboard/", "checkpoint.pt", "/best.")


@dataclass(frozen=True)
class Done:
    """How a verb ended."""

    status: int  # as a shell has it; negative: the signal that killed it
    output: str  # both streams

    @property
    def last_line(self) -> str:
        return self.output.rstrip("\n").rpartition("\n")[2]


class Tree:
    """Directories `corpus` (audio and a table) and, once `make` was called, `data` and `exp` below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.work = self.root / "work"  # what verbs write; corpus and config stay as they are
        self.corpus, self.data, self.exp = self.root / "corpus", self.work / "data", self.work / "exp"
        self.config = self.root / "config.yaml"
        self.made_by: dict[str, str] = {}  # file below `work` -> the stage of the recipe that made it first

    def make(self) -> None:
        """Make the corpus and run the whole recipe."""
        self.corpus.mkdir(parents=True)
        self.config.write_text(CONFIG)
        rng = np.random.default_rng(0)
        rows = ["audio,phones,speaker,set"]
        for name, speakers, num_utts in (("train", 4, 5), ("dev", 2, 4), ("test", 2, 4)):
            for speaker in range(speakers):
                for number in range(num_utts):
                    phones = [str(phone) for phone in rng.choice(list(TONES_HZ), rng.integers(2, 5))]
                    file = f"{name}{speaker}-{number}.wav"
                    soundfile.write(self.corpus / file, _tones(rng, phones), 16000)
                    rows.append(f"{file},{' '.join(phones)},{name}{speaker},{name}")
        (self.corpus / "table.csv").write_text("\n".join(rows) + "\n")
        for name, command in self.recipe().items():
            done = self.run(command)
            assert done.status == 0, (command, done)
            for path in self.work.rglob("*"):
                if path.is_file():
                    self.made_by.setdefault(path.relative_to(self.work).as_posix(), name)

    def recipe(self) -> dict[str, list[str]]:
        """The commands of the stages, by name, in their order."""
        data, exp, lm = self.data, self.exp, self.data / "lm.arpa"
        sets, train = [data / name for name in ("train", "dev", "test")], data / "train"
        config, tokens = ["--config", self.config], ["--tokens", data / "tokens.txt"]
        commands: dict[str, Sequence[object]] = {
            "prepare": ["prepare", "own", "--corpus", self.corpus, "--data", data],
            "extract": ["extract", *sets, *config, "--nj", 1],
            "train-lm": ["train-lm", train, "--dev", data / "dev", *tokens, "--order", 2, "--out", lm],
            "train": self.train(),
            "decode dev": self.decode("dev"),
            "tune": ["tune", "--dir", exp, "--ref", data / "dev", "--decode-dir", exp / "decode_dev", "--nj", 1],
            "decode dev again": self.decode("dev"),
            "decode test": [*self.decode("test"), "--nbest", 2, "--ctm"],
            "report": self.report("test"),
            "analyze": self.analyze("test"),
        }
        return {name: [*map(str, command)] for name, command in commands.items()}

    def train(self, *options: object) -> list[object]:
        data = self.data
        sets = ("--train", data / "train", "--dev", data / "dev", "--tokens", data / "tokens.txt")
        return ["train", "--config", self.config, *sets, "--lm", data / "lm.arpa", "--dir", self.exp, *options]

    def decode(self, name: str, *options: object) -> list[object]:
        out = ("--out", self.exp / f"decode_{name}")
        return ["decode", "--dir", self.exp, "--data", self.data / name, *out, "--nj", 1, *options]

    def report(self, name: str, *options: object) -> list[object]:
        out = self.exp / f"decode_{name}"
        return ["report", "--ref", self.data / name, "--hyp", out / "hyp", "--out", out, *options]

    def analyze(self, name: str, *options: object) -> list[object]:
        out = ("--decode-dir", self.exp / f"decode_{name}")
        return ["analyze", "--dir", self.exp, "--ref", self.data / name, *out, "--nj", 1, *options]

    def save(self) -> None:
        """Keep the work as it is, for `restore`."""
        shutil.copytree(self.work, self.root / "saved", symlinks=True)

    def restore(self) -> None:
        """Bring the work back to what it was when it was saved, times and all."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.root / "saved", self.work, symlinks=True)

    def contents(self, *, hidden: bool = False) -> dict[str, bytes]:
        """The bytes of every file of the work that should be the same in every run; `hidden` ones, too, if asked for.

        A directory has an entry as well, so that an empty one is seen.
        """
        found = {}
        for path in sorted(self.work.rglob("*")):
            name = path.relative_to(self.work).as_posix() + ("/" if path.is_dir() else "")
            is_hidden = any(part.startswith(".") and part.endswith(".stamp") for part in path.parts)
            if (hidden or not is_hidden) and not any(part in name for part in STATE):
                found[name] = b"" if path.is_dir() else _reproducible(path)
        return found

    def start(self, command: Sequence[object]) -> Run:
        """Begin a verb."""
        return Run([*map(str, command)], self.root)

    def run(self, command: Sequence[object]) -> Done:
        """Run a verb to its end."""
        return self.start(command).wait()


class Run:
    """A verb that runs in a process of its own."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._output = directory / f"output-{os.urandom(6).hex()}"
        _load()
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if not self.process:
            os._exit(_child(command, self._output))

    def wait(self) -> Done:
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        output = self._output.read_text(errors="replace") if self._output.exists() else ""
        self._output.unlink(missing_ok=True)
        return Done(status, output)


def _child(command: Sequence[str], output: Path) -> int:
    from asrkit.cli.main import main

    status = 70
    with contextlib.suppress(BaseException):
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        try:
            status = main(command)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def _load() -> None:
    """Load what verbs load, once."""
    import importlib
    import pkgutil

    import asrkit

    for module in pkgutil.walk_packages(asrkit.__path__, "asrkit."):
        if not module.name.startswith(("asrkit.__main__", "asrkit._native")):
            importlib.import_module(module.name)


def _tones(rng: np.random.Generator, phones: Sequence[str]) -> np.ndarray:
    pieces = [np.zeros(800)]
    for phone in phones:
        length = int(rng.integers(1200, 2400))
        pieces += [0.3 * np.sin(2 * np.pi * TONES_HZ[phone] * np.arange(length) / 16000), np.zeros(400)]
    samples = np.concatenate(pieces)
    return samples + rng.normal(0, 0.003, len(samples))


def _reproducible(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "history.csv":  # its last column is of seconds
        return b"\n".join(line.rpartition(b",")[0] for line in content.split(b"\n"))
    return content


def difference(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Names of the files in which two trees differ."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


@contextlib.contextmanager
def new_tree() -> Iterator[Tree]:
    """A tree that was made and saved, in a temporary directory."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="asrkit-faults-") as directory:
        tree = Tree(Path(directory))
        tree.make()
        tree.save()
        yield tree
