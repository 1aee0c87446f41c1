"""Beam search with an attention decoder against SpeechBrain's: `python -m tests.bench.attention_search`.

Both decoders have one LSTM layer of 128 units with location-aware attention, on encoder outputs of size 256. Their
weights are not trained, and make the end unlikely. So both search up to the longest labelling, and do the same work for
the same number of steps.

Searches of 200 utterances take turns in one process with one thread, in batches of 32 of similar length. The result is
the median over the rounds of the ratio of CPU times. Also printed are the number of hypotheses that each decoder
extended, and the ratio of the times per hypothesis. The last line is JSON: {"ratios": {peer: its time / ours}}.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch

from asrkit.decoding.attention_search import DecoderBeamSearch
from asrkit.decoding.batched_search import BATCH_SIZE
from asrkit.decoding.config import DecodingConfig
from asrkit.models.decoder import AttentionDecoder
from asrkit.models.decoder_config import DecoderConfig
from tests.bench import interleave, print_versions

STEP_SIZE, CLASSES, HIDDEN, EMBEDDING, ATTENTION, CHANNELS, WIDTH = 256, 41, 128, 32, 64, 8, 15
SHARPNESS, END_BIAS, BONUS = 12.0, -20.0, 8.0  # of the output layer; nats


def make_utterances(number: int) -> list[np.ndarray]:
    """Encoder outputs (T, E) of 50 to 100 steps, as for 4 to 8 s of speech."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal((length, STEP_SIZE), np.float32) for length in rng.integers(50, 101, number)]


def ours(utterances: list[np.ndarray], beam: int) -> tuple[Callable[[], object], Callable[[], int], int]:
    """A run, a function that counts extended hypotheses, and the number of weights.

    The function returns the number of hypotheses extended since its last call.
    """
    config = DecoderConfig(
        hidden_size=HIDDEN, embedding_size=EMBEDDING, attention_size=ATTENTION, location_channels=CHANNELS,
        location_width=WIDTH,
    )  # fmt: skip
    torch.manual_seed(0)
    module = AttentionDecoder(config, STEP_SIZE, CLASSES)
    with torch.no_grad():
        module.output.weight.mul_(SHARPNESS)
        module.output.bias[0] = END_BIAS
    decoder = module.for_search()
    count, step = Count(), decoder.step

    def counted(tokens, state, source):
        count.number += tokens.size
        return step(tokens, state, source)

    decoder.step = counted
    search = DecoderBeamSearch(DecodingConfig(beam=beam, insertion_bonus=BONUS), None, decoder)
    return lambda: search.decode_all(utterances), count.take, sum(each.numel() for each in module.parameters())


def speechbrain(utterances: list[np.ndarray], beam: int) -> tuple[Callable[[], object], Callable[[], int], int]:
    """The same for SpeechBrain's S2SRNNBeamSearcher."""
    from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher
    from speechbrain.nnet.embedding import Embedding
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.RNN import AttentionalRNNDecoder

    torch.manual_seed(0)
    embedding = Embedding(num_embeddings=CLASSES, embedding_dim=EMBEDDING)
    decoder = AttentionalRNNDecoder(
        rnn_type="lstm", attn_type="location", hidden_size=HIDDEN, attn_dim=ATTENTION, num_layers=1,
        enc_dim=STEP_SIZE, input_size=EMBEDDING, channels=CHANNELS, kernel_size=WIDTH,
    )  # fmt: skip
    output = Linear(input_size=HIDDEN, n_neurons=CLASSES)
    with torch.no_grad():
        output.w.weight.mul_(SHARPNESS)
        output.w.bias[0] = END_BIAS
    searcher = S2SRNNBeamSearcher(
        embedding=embedding, decoder=decoder, linear=output, bos_index=0, eos_index=0, min_decode_ratio=0.0,
        max_decode_ratio=1.0, beam_size=beam,
    ).eval()  # fmt: skip
    count, step = Count(), searcher.forward_step

    def counted(tokens, *others):
        count.number += tokens.numel()
        return step(tokens, *others)

    searcher.forward_step = counted
    order = sorted(range(len(utterances)), key=lambda index: len(utterances[index]))

    @torch.inference_mode()
    def run() -> None:
        for start in range(0, len(order), BATCH_SIZE):
            batch = [torch.from_numpy(utterances[index]) for index in order[start : start + BATCH_SIZE]]
            padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            searcher(padded, torch.tensor([len(utt) / padded.shape[1] for utt in batch]))

    modules = (embedding, decoder, output)
    return run, count.take, sum(each.numel() for module in modules for each in module.parameters())


class Count:
    """A number that goes back to 0 when it is taken."""

    number = 0

    def take(self) -> int:
        """Return the number and set it to 0."""
        taken, self.number = self.number, 0
        return taken


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--utts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print_versions("numpy", "torch", "speechbrain")
    utterances = make_utterances(args.utts)
    contestants = {"asrkit": ours(utterances, args.beam)}
    try:
        contestants["speechbrain"] = speechbrain(utterances, args.beam)
    except ImportError as error:
        print(f"speechbrain: left out, it cannot be imported: {error}")
    seconds, ratios = interleave({name: run for name, (run, _, _) in contestants.items()}, args.rounds)
    print(f"{args.utts} utterances, beam {args.beam}, {args.rounds} rounds, 1 thread, median CPU time")
    extended = {name: take() / (args.rounds + 1) for name, (_, take, _) in contestants.items()}
    for name, (_, _, num_weights) in contestants.items():
        each = seconds[name] / extended[name]
        print(
            f"{name}: {num_weights} weights, {seconds[name]:.2f} s, {extended[name]:.0f} hypotheses extended, "
            f"{each * 1e6:.2f} us each"
        )
    for name, ratio in ratios.items():
        of_each = ratio * extended["asrkit"] / extended[name]
        print(f"{name} takes {ratio:.2f} times as long as asrkit, {of_each:.2f} times for a hypothesis")
    print(json.dumps({"ratios": {name: round(ratio, 2) for name, ratio in ratios.items()}}))


if __name__ == "__main__":
    main()
