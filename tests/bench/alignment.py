"""Forced alignment against torchaudio's: `python -m tests.bench.alignment` in an environment that has it.

The posteriors are those of tests.bench.decoding, aligned with the phones from which they were made. There are single
utterances, and sequences of eight utterances to show the growth with length. Ours includes checks, start and end frames
and scores of tokens. torchaudio's time does not include `merge_tokens`, which would make these from its paths. Both
must find the same paths. The last line is JSON: {"ratios": {"torchaudio": its time / ours}}.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from asrkit._native import kernel
from asrkit.decoding.forced_align import forced_align
from tests.bench import interleave, print_versions
from tests.bench.decoding import make_task

Pairs = list[tuple[np.ndarray, np.ndarray]]


def path_of(log_probs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Our alignment as one class per frame."""
    aligned = forced_align(log_probs, tokens)
    path = np.zeros(len(log_probs), dtype=np.int64)
    for token, start, end in zip(tokens, aligned.starts, aligned.ends, strict=True):
        path[start:end] = token
    return path


def compare(title: str, pairs: Pairs, num_rounds: int) -> float | None:
    """Print the times of both and whether their paths agree. Returns the ratio; None without torchaudio."""
    runs = {"asrkit": lambda: [forced_align(log_probs, tokens) for log_probs, tokens in pairs]}
    try:
        import torch
        from torchaudio.functional import forced_align as peer
    except (ImportError, OSError) as error:  # OSError: built for another torch
        print(f"torchaudio: left out, it cannot be imported: {error}")
    else:
        torch.set_num_threads(1)
        tensors = [(torch.from_numpy(a)[None], torch.from_numpy(b)[None].int()) for a, b in pairs]

        def run_peer() -> None:
            with torch.inference_mode():
                for log_probs, tokens in tensors:
                    peer(log_probs, tokens)

        runs["torchaudio"] = run_peer
        paths = [path_of(*pair) for pair in pairs]
        for kind in ("float32", "float64"):
            theirs = [peer(a.to(getattr(torch, kind)), b)[0][0].numpy() for a, b in tensors]
            same = sum(np.array_equal(a, b) for a, b in zip(paths, theirs, strict=True))
            frames = sum(int(np.count_nonzero(a != b)) for a, b in zip(paths, theirs, strict=True))
            print(f"{title}: {same} of {len(pairs)} paths equal to torchaudio's in {kind}; {frames} frames differ")
    seconds, ratios = interleave(runs, num_rounds)
    for name, value in seconds.items():
        note = f", {ratios[name]:.2f} times ours" if name in ratios else ""
        print(f"{title}: {name} {value / len(pairs) * 1e6:.1f} microseconds an utterance{note}")
    return ratios.get("torchaudio")


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    native = kernel("_align")
    print(f"asrkit kernel: {'none, NumPy reference' if native is None else native.BUILD}; 1 thread, CPU time")
    print_versions("numpy", "torch", "torchaudio")
    _, refs, posteriors = make_task(args.utts)
    pairs = [(log_probs, np.array(tokens)) for log_probs, tokens in zip(posteriors, refs, strict=True)]
    long_pairs = [
        tuple(np.concatenate(parts) for parts in zip(*pairs[i : i + 8], strict=True)) for i in range(0, len(pairs), 8)
    ]
    results = {}
    for title, task in (("single utterances", pairs), ("eight in a row", long_pairs)):
        frames, tokens = (sum(len(pair[i]) for pair in task) / len(task) for i in (0, 1))
        print(f"{title}: {len(task)} of {frames:.0f} frames and {tokens:.0f} tokens on average, float32")
        results[title] = compare(title, task, args.rounds)
    ratio = results["single utterances"]
    print(json.dumps({"ratios": {} if ratio is None else {"torchaudio": round(ratio, 2)}}))


if __name__ == "__main__":
    main()
