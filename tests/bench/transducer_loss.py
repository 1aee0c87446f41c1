"""The transducer's loss against torchaudio's: `python -m tests.bench.transducer_loss` in an environment that has it.

Both compute the loss and gradients of one batch of generated logits, without padding, in float32, by torch's automatic
differentiation. The results are compared. The last line is JSON: {"ratios": {"torchaudio": its time / ours}}.
"""

from __future__ import annotations

import argparse
import json

import torch

from asrkit._native import kernel
from asrkit.models.transducer_loss import transducer_loss
from tests.bench import interleave, print_versions


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, default=8)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--classes", type=int, default=41)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    native = kernel("_transducer")
    print(f"asrkit kernel: {'none, NumPy reference' if native is None else native.BUILD}; 1 thread, CPU time")
    print_versions("numpy", "torch", "torchaudio")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logits = torch.randn(args.utts, args.steps, args.tokens + 1, args.classes, requires_grad=True)
    tokens = torch.randint(1, args.classes, (args.utts, args.tokens))
    num_steps, num_tokens = (torch.full((args.utts,), size) for size in (args.steps, args.tokens))

    def run_ours() -> tuple[torch.Tensor, torch.Tensor]:
        losses = transducer_loss(logits.flatten(0, 2), num_steps, tokens, num_tokens)
        return losses, *torch.autograd.grad(losses.sum(), logits)

    runs = {"asrkit": run_ours}
    try:
        from torchaudio.functional import rnnt_loss
    except (ImportError, OSError) as error:  # OSError: built for another torch
        print(f"torchaudio: left out, it cannot be imported: {error}")
    else:
        lengths = [part.int() for part in (tokens, num_steps, num_tokens)]

        def run_peer() -> tuple[torch.Tensor, torch.Tensor]:
            losses = rnnt_loss(logits, *lengths, blank=0, reduction="none")
            return losses, *torch.autograd.grad(losses.sum(), logits)

        runs["torchaudio"] = run_peer
        ours, theirs = run_ours(), run_peer()
        of_loss, of_gradient = (float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))
        mean = float(ours[0].detach().mean())
        print(f"largest difference of a loss {of_loss:.1e} of {mean:.0f} nats, of a gradient {of_gradient:.1e}")
    seconds, ratios = interleave(runs, args.rounds)
    for name, value in seconds.items():
        note = f", {ratios[name]:.2f} times ours" if name in ratios else ""
        print(f"{name} {value * 1e3:.2f} milliseconds a batch{note}")
    print(json.dumps({"ratios": {name: round(ratio, 2) for name, ratio in ratios.items()}}))


if __name__ == "__main__":
    main()
