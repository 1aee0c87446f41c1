"""A whole recipe on a few seconds of tones, for tests that break its files or run its verbs against each other.

Every verb runs in a process of its own, forked from one that has loaded PyTorch, so that it begins within milliseconds,
and within the limits of limits.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from tests.faults.limits import MAX_MEMORY, MAX_SECONDS, MAX_WAIT_S, in_memory, limit_memory

ROOT = Path(__file__).parents[2]
TONES_HZ = {"a": 400, "b": 1000, "c": 2500}
CONFIG = """\
features: {cmvn: speaker}
model: {bidirectional: true, num_layers: 1, hidden_size: 12, dropout: 0.0, self_conditioning: false, stack: 3, skip: 3}
training: {num_epochs: 3, batch_size: 4, max_lr: 0.02, warmup: 0.12, keep_best: 2,
  augment: {speeds: [], vtlp: 0, time_masks: 0}}
decoding: {beam: 4, lm_weight: 0.3, insertion_bonus: 0.0}
"""
# The state of a training, which nothing reads once it is done; it has times in it.
STATE = ("tensorboard/", "train.log", "checkpoint.pt", "/best.")


@dataclass(frozen=True)
class Done:
    """How a verb ended."""

    status: int  # as a shell has it; negative: the signal that killed it
    output: str  # both streams
    memory: int  # bytes in use at most, by it or by a process that it started

    @property
    def last_line(self) -> str:
        return self.output.rstrip("\n").rpartition("\n")[2]

    @property
    def fault(self) -> str | None:
        """What no run may do, whatever it finds; None where it did not."""
        if "Traceback" in self.output:
            return "a traceback"
        if self.status in (-signal.SIGXCPU, -signal.SIGALRM):
            return f"more than {MAX_SECONDS} seconds"
        return f"{self.memory} bytes of memory" if self.memory > MAX_MEMORY else None


class Tree:
    """Directories `corpus` (audio and a table) and, once `make` was called, `data` and `exp` below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.work = self.root / "work"  # what verbs write; corpus and config stay as they are
        self.corpus, self.data, self.exp = self.root / "corpus", self.work / "data", self.work / "exp"
        self.config, self.temporary = self.root / "config.yaml", self.root / "tmp"
        self.made_by: dict[str, str] = {}  # file below `work` -> the stage of the recipe that made it first

    def make(self) -> None:
        """Make the corpus and run the whole recipe; the work is saved before each stage, under that one's name."""
        self.corpus.mkdir(parents=True)
        self.temporary.mkdir()
        self.work.mkdir()
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
            self.save(name)
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
            "prepare": ["prepare", "own", "--corpus", self.corpus, "--out", data],
            "extract": ["extract", *sets, *config, "--nj", 1],
            "train-lm": ["train-lm", "--train", train, "--dev", data / "dev", *tokens, "--order", 2, "--out-file", lm],
            "train": self.train(),
            "decode dev": self.decode("dev"),
            "tune": ["tune", "--model", exp, "--data", data / "dev", "--decode-dir", exp / "decode_dev", "--nj", 1],
            "decode dev again": self.decode("dev"),
            "decode test": [*self.decode("test"), "--nbest", 2, "--ctm"],
            "report": self.report("test"),
            "analyze": self.analyze("test"),
        }
        return {name: [*map(str, command)] for name, command in commands.items()}

    def train(self, *options: object) -> list[object]:
        data = self.data
        sets = ("--train", data / "train", "--dev", data / "dev", "--tokens", data / "tokens.txt")
        return ["train", "--config", self.config, *sets, "--lm", data / "lm.arpa", "--out", self.exp, *options]

    def decode(self, name: str, *options: object) -> list[object]:
        out = ("--out", self.exp / f"decode_{name}")
        return ["decode", "--model", self.exp, "--data", self.data / name, *out, "--nj", 1, *options]

    def report(self, name: str, *options: object) -> list[object]:
        out = self.exp / f"decode_{name}"
        return ["report", "--data", self.data / name, "--hyp", out / "hyp", "--out", out, *options]

    def analyze(self, name: str, *options: object) -> list[object]:
        out = ("--decode-dir", self.exp / f"decode_{name}")
        return ["analyze", "--model", self.exp, "--data", self.data / name, *out, "--nj", 1, *options]

    def save(self, name: str = "saved") -> None:
        """Keep the work as it is, for `restore`."""
        shutil.copytree(self.work, self.root / "states" / name, symlinks=True)

    def restore(self, name: str = "saved") -> None:
        """Bring the work back to what it was when it was saved, times and all."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.root / "states" / name, self.work, symlinks=True)

    def contents(self, *, hidden: bool = False) -> dict[str, bytes]:
        """The bytes of every file of the work that should be the same in every run; `hidden` ones, too, if asked for.

        A directory has an entry as well, so that an empty one is seen.
        """
        found = {}
        for path in sorted(self.work.rglob("*")):
            name = path.relative_to(self.work).as_posix() + ("/" if path.is_dir() else "")
            is_hidden = any(part.startswith(".") and part.endswith((".stamp", ".notes")) for part in path.parts)
            if (hidden or not is_hidden) and not _is_state(name):
                found[name] = b"" if path.is_dir() else _reproducible(path)
        return found

    def start(self, command: Sequence[object]) -> Run:
        """Begin a verb, or a program that is given by its whole path."""
        return Run([*map(str, command)], self.temporary)

    def run(self, command: Sequence[object]) -> Done:
        """Run it to its end."""
        return self.start(command).wait()


class Run:
    """A verb that runs in a process of its own."""

    def __init__(self, command: Sequence[str], temporary: Path) -> None:
        self._output = os.memfd_create("output")
        _load()
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if not self.process:
            os._exit(_child(command, self._output, temporary))
        with contextlib.suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(self.process, self.process)

    def kill(self, *, with_workers: bool) -> None:
        """End it at once, with the processes that it started, or leave those to themselves."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if with_workers else os.kill)(self.process, signal.SIGKILL)
        while with_workers and _is_one_running(self.process):
            time.sleep(0.01)  # a signal takes effect when the process has its turn

    def wait(self) -> Done:
        _, status, used = os.wait4(self.process, 0)
        output = os.pread(self._output, os.fstat(self._output).st_size, 0).decode(errors="replace")
        os.close(self._output)
        return Done(os.waitstatus_to_exitcode(status), output, used.ru_maxrss * 1024)


def _is_one_running(group: int) -> bool:
    """Whether a process of this group has not ended."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(own_group) == group and state not in "ZX":
                return True
    return False


def _child(command: Sequence[str], output: int, temporary: Path) -> int:
    from asrkit.cli.main import main

    status = 70
    with contextlib.suppress(BaseException):
        os.setpgid(0, 0)
        signal.alarm(MAX_WAIT_S)
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS + 5))
        limit_memory()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        os.environ["PYTHONPATH"] = str(ROOT)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))  # pytest's are not those
        if os.path.isabs(command[0]):
            os.execv(command[0], command)
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
    """Load what verbs load, once; also what they load only when they come to it."""
    import importlib
    import pkgutil

    import asrkit

    for module in pkgutil.walk_packages(asrkit.__path__, "asrkit."):
        if not module.name.startswith(("asrkit.__main__", "asrkit._native")):
            importlib.import_module(module.name)
    for name in ("jiwer", "matplotlib.figure", "onnx", "onnxruntime", "PIL.PngImagePlugin", "torch._dynamo"):
        importlib.import_module(name)


def _tones(rng: np.random.Generator, phones: Sequence[str]) -> np.ndarray:
    pieces = [np.zeros(800)]
    for phone in phones:
        length = int(rng.integers(1200, 2400))
        pieces += [0.3 * np.sin(2 * np.pi * TONES_HZ[phone] * np.arange(length) / 16000), np.zeros(400)]
    samples = np.concatenate(pieces)
    return samples + rng.normal(0, 0.003, len(samples))


def _is_state(name: str) -> bool:
    """Whether a file is of the state of a training; one under a temporary name, which has to go, is not."""
    return any(part in name for part in STATE) and ".tmp-" not in name


def _reproducible(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "history.csv":  # its last column is of seconds
        return b"\n".join(line.rpartition(b",")[0] for line in content.split(b"\n"))
    if path.name == ".train.stamp":
        stamp = json.loads(content)
        timed = {name for name in stamp["outputs"] if _is_state(f"/{name}") or name == "history.csv"}
        outputs = {name: output for name, output in stamp["outputs"].items() if name not in timed}
        return json.dumps({**stamp, "outputs": outputs}).encode()
    return content


def difference(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Names of the files in which two trees differ."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


@contextlib.contextmanager
def new_tree(parent: Path | None = None) -> Iterator[Tree]:
    """A tree that was made and saved, in a temporary directory, in `parent`. Its training set has four archives."""
    from asrkit.features import extract

    few = mock.patch.object(extract, "_UTTS_PER_ARCHIVE", 5)
    with tempfile.TemporaryDirectory(prefix="asrkit-faults-", dir=parent or in_memory()) as directory, few:
        tree = Tree(Path(directory))
        tree.make()
        tree.save()
        yield tree
