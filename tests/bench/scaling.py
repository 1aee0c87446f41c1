"""How training opens and mixes the index of a big corpus: `python -m tests.bench.scaling`.

Simulates the indexes of sharded data directories of 10, 100, 1,000 and 10,000 times TIMIT's 3,700 utterances: on disk,
with all columns, but without the tables and features that they come from. A new process opens each one as training does
and plans a window. The time is CPU time, which what else the machine does hardly changes; memory is what the process
has more than before, VmRSS and VmHWM of Linux. 37 million utterances take 3.7 GB of disk, which are freed at the end.

How near to uniform the order is:

- `place`: for utterances of 200 shards, how far the distribution of their places over up to 200 epochs is from uniform
  (the largest difference of distribution functions), divided by the same of places that are drawn uniformly. 1 is
  uniform.
- `apart`: the standard deviation of the places of a shard's utterances within an epoch, divided by that of a uniform
  order. 1 is uniform; 0: they are all in one place.
- `mates`: the share of the corpus that is mixed with an utterance in an epoch, in its window. 1 is uniform.

`--stages VERB ...` runs verbs instead (split, extract, train-lm, score), on simulated data directories of --utts
utterances of 3 s, whose audio is one file. It prints the CPU seconds of each, and the peak memory of its first process.

The last line is JSON: {"opened": {utterances: figures}}.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.io.atomic import recording
from asrkit.io.columns import text_column, write_columns
from asrkit.io.stamp import Output
from asrkit.lang.tokens import TokenTable
from tests.bench import print_versions

SIZES = (37_000, 370_000, 3_700_000, 37_000_000)
PER_SHARD, PER_SPEAKER, NUM_TOKENS, BATCH_SIZE = 10_000, 10, 38, 8
CONFIG, TOKENS = FeatureConfig(), TokenTable([f"p{number}" for number in range(48)])
SECONDS = 3.0
NUM_WATCHED = NUM_EPOCHS = 200


def simulate(directory: Path, num_utts: int) -> None:
    """Write the indexes of shards with `num_utts` utterances together."""
    from asrkit.training.index import INDEX, index_stamp

    rng = np.random.default_rng(0)
    num_shards = max(num_utts // PER_SHARD, 4)
    size, width = num_utts // num_shards, 18
    num_frames = np.clip(rng.normal(100 * SECONDS, 80, size), 60, 800).astype(np.int32)
    columns = {
        "key_bounds": np.arange(size + 1) * width,
        "key_order": np.empty(0, np.int32),
        "archive": np.zeros(size, np.int32),
        "offset": np.cumsum(num_frames * 52, dtype=np.int64),
        "archives": text_column("feats.1.ark"),
        "num_frames": num_frames,
        "speaker": (np.arange(size) // PER_SPEAKER).astype(np.int32),
        "tokens": rng.integers(1, 49, NUM_TOKENS * size, np.uint8),
        "token_start": np.arange(size) * NUM_TOKENS,
        "token_count": np.full(size, NUM_TOKENS, np.int32),
        "num_steps": np.full(size, NUM_TOKENS + 1, np.int32),
        "stats": np.ones((2, CONFIG.num_static + 1)) * size,
    }
    keys = np.frombuffer("".join(f"utt-00000-{row:08d}" for row in range(size)).encode(), np.uint8).reshape(size, width)
    keys = keys.copy()
    for number in range(num_shards):
        shard = directory / str(number + 1)
        shard.mkdir(parents=True)
        keys[:, 4:9] = text_column(f"{number:05d}")  # only the keys differ
        columns["keys"] = keys.ravel()
        with recording() as written:
            write_columns(shard / INDEX, columns)
        outputs = {path: Output.of(path, each) for path, each in written.items()}
        index_stamp(shard, CONFIG, TOKENS).write(outputs)


def memory(kind: str) -> float:
    """The memory of this process in MB: VmRSS now, VmHWM at most so far."""
    found = re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


class Thirds:
    """A model that takes three frames a step."""

    def num_steps(self, num_frames: int) -> int:
        return (num_frames + 2) // 3


def open_all(directory: Path) -> dict[str, float]:
    """Open the shards in `directory` as training does. Returns: the figures."""
    from asrkit.training.config import AugmentConfig, TrainingConfig
    from asrkit.training.shards import Reading, ShardedSet

    shards = sorted(directory.iterdir(), key=lambda path: int(path.name))
    before, cpu, start = memory("VmRSS"), time.process_time(), time.perf_counter()
    reading = Reading(CONFIG, TOKENS, AugmentConfig(speeds=(), vtlp=0.0))
    sharded = ShardedSet([(shards, 1.0)], reading, TrainingConfig().shuffle_window)
    sharded.split_infeasible(Thirds())
    opened = time.process_time() - cpu
    figures = {"open_s": opened, "open_wall_s": time.perf_counter() - start, "open_mb": memory("VmRSS") - before}
    cpu = time.process_time()
    window = next(sharded.windows(BATCH_SIZE, (1, 1)))
    figures |= {"window_s": time.process_time() - cpu, "window_mb": memory("VmRSS") - before}
    figures |= {"peak_mb": memory("VmHWM"), "before_mb": before, "mates": len(window.data) / len(sharded)}
    print(f"opened: {json.dumps(figures)}", file=sys.stderr, flush=True)
    return {**figures, **quality(sharded)}


def quality(sharded) -> dict[str, float]:
    """`place` and `apart`, as above."""
    watched = np.linspace(0, len(sharded.shards) - 1, min(NUM_WATCHED, len(sharded.shards))).astype(int)
    num_epochs = min(max(100_000_000 // len(sharded), 3), NUM_EPOCHS)
    places, spread = [], []
    rng, num_batches = np.random.default_rng(0), -(-len(sharded) // BATCH_SIZE)
    for epoch in range(1, num_epochs + 1):
        order = list(sharded.order(BATCH_SIZE, (1, epoch)))
        begins = [begin for begin, _ in order] + [num_batches]
        drawn: dict[int, list[np.ndarray]] = {}
        of_first: dict[int, float] = {}
        for (begin, chosen), end in zip(order, begins[1:], strict=True):
            for shard, rows in chosen.items():
                where = rng.uniform(begin / num_batches, end / num_batches, len(rows))  # batches are shuffled
                drawn.setdefault(shard, []).append(where)
                if len(first := np.flatnonzero(rows == 0)):
                    of_first[shard] = float(where[first[0]])
        places.append([of_first[shard] for shard in watched])
        spread += [np.concatenate(drawn[shard]).std() for shard in watched]
    found = distance(np.array(places))
    uniform = np.mean([distance(rng.uniform(size=(num_epochs, 200))) for _ in range(20)])
    return {"place": float(found / uniform), "apart": float(np.mean(spread) * np.sqrt(12))}


def distance(places: np.ndarray) -> float:
    """The mean over columns of the largest difference of the distribution of `places` (epochs, n) from uniform."""
    ranks = np.arange(1, len(places) + 1)[:, None] / len(places)
    sorted_places = np.sort(places, axis=0)
    return float(np.maximum(ranks - sorted_places, sorted_places - ranks + 1 / len(places)).max(axis=0).mean())


def measure(num_utts: int, directory: Path) -> dict[str, float]:
    """Simulate and open an index. Returns: the figures."""
    simulate(directory, num_utts)
    size = sum(path.stat().st_size for path in directory.glob("*/.index")) / 1e6
    command = [sys.executable, "-m", "tests.bench.scaling", "--open", str(directory)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"disk_mb": size, **json.loads(done.stdout)}


def cpu_of_children() -> float:
    """The CPU seconds of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_stages(num_utts: int, directory: Path, wanted: Sequence[str]) -> None:
    """Run the `wanted` verbs on a simulated data directory, and print what each costs."""
    import soundfile

    rng = np.random.default_rng(0)
    soundfile.write(directory / "one.wav", rng.normal(0, 0.1, int(16000 * SECONDS)), 16000)
    data = directory / "train"
    data.mkdir()
    TOKENS.write(directory / "tokens.txt")
    rows: dict[str, list[str]] = {name: [] for name in ("wav.scp", "text", "utt2spk", "utt2dur")}
    for number in range(num_utts):
        spk = f"spk{number // PER_SPEAKER:06d}"
        utt = f"{spk}-{number % PER_SPEAKER}"
        rows["wav.scp"].append(f"{utt} {directory}/one.wav\n")
        rows["text"].append(f"{utt} {' '.join(f'p{phone}' for phone in rng.integers(0, 48, NUM_TOKENS))}\n")
        rows["utt2spk"].append(f"{utt} {spk}\n")
        rows["utt2dur"].append(f"{utt} {SECONDS}\n")
    for name, lines in rows.items():
        (data / name).write_text("".join(lines))
    del rows
    text, tokens = data / "text", directory / "tokens.txt"
    verbs = {
        "split": ["split", data, "--shards", "4"],
        "extract": ["extract", data, "--nj", "1"],
        "train-lm": ["train-lm", "--train", data, "--tokens", tokens, "--out-file", directory / "lm.arpa"],
        "score": ["score", text, text],
    }
    for name in wanted:
        args, before = verbs[name], cpu_of_children()
        done = subprocess.run(
            [sys.executable, "-m", "asrkit", *map(str, args), "--verbose"], capture_output=True, text=True
        )
        spent = cpu_of_children() - before
        told = re.search(r"at most \d+ MB", done.stderr)
        print(
            f"{num_utts:9d} utterances: {name:9s} {spent:.1f} CPU seconds, {told[0] if told else done.stderr}",
            flush=True,
        )
    archives = sum(path.stat().st_size for path in data.glob("*.ark")) / 1e6
    tables = sum((data / name).stat().st_size for name in ("wav.scp", "text", "utt2spk", "utt2dur")) / 1e6
    print(f"{num_utts:9d} utterances: {archives:.0f} MB of archives, {tables:.1f} MB of tables")


def main() -> None:
    """Run the benchmark with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, nargs="+", default=SIZES, help="utterances of each corpus")
    parser.add_argument("--dir", type=Path, help="where the indexes are written (default: the system's)")
    parser.add_argument("--stages", nargs="+", metavar="VERB", help="run these verbs on simulated tables")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open is not None:
        print(json.dumps(open_all(args.open)))
        return
    print_versions()
    opened = {}
    for num_utts in args.utts:
        with tempfile.TemporaryDirectory(dir=args.dir) as directory:
            if args.stages:
                run_stages(num_utts, Path(directory), args.stages)
                continue
            figures = opened[num_utts] = measure(num_utts, Path(directory))
            print(f"{num_utts:9d} utterances: {', '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
    print(json.dumps({"opened": opened}))


if __name__ == "__main__":
    main()
