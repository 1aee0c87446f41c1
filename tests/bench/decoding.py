"""Beam search against other decoders: `python -m tests.bench.decoding` in an environment that has them.

The posteriors are generated. They are peaky, like those of trained CTC networks, with phones that are confused with
each other. All decoders get the same posteriors and, if they can use one, the same trigram. They run in turn in one
process, with one thread each. The result is the median of the rounds' ratios of CPU time. Phone error rates on the same
posteriors are printed beside the speeds. The last line is JSON: {"ratios": {peer: its time / ours}}.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

import asrkit
from asrkit._native import kernel
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.lm.ngram import LN10, NgramLM, train_ngram, write_arpa
from asrkit.scoring.per import score

NUM_PHONES = 40
LM_WEIGHT = 0.5
BONUS = 1.5  # pyctcdecode's default; flashlight's lexicon-free decoder has none
Decode = Callable[[np.ndarray], list[int]]


def phone_chain(rng: np.random.Generator) -> np.ndarray:
    """(P, P, P) P(next | last two) of an invented language, about as predictable as English.

    Perplexities of models trained on it are 39, 19 and 15 for orders 1, 2 and 3.
    """
    pairs = rng.dirichlet(np.full(NUM_PHONES, 0.1), NUM_PHONES)
    triples = rng.dirichlet(np.full(NUM_PHONES, 0.05), (NUM_PHONES, NUM_PHONES))
    return 0.3 * triples + 0.6 * pairs + 0.1 / NUM_PHONES


def sample_phones(rng: np.random.Generator, chain: np.ndarray, number: int) -> list[int]:
    """Draw `number` phones of the language, from 0 to P - 1."""
    phones = rng.integers(NUM_PHONES, size=2).tolist()
    while len(phones) < number:
        phones.append(int(rng.choice(NUM_PHONES, p=chain[phones[-2], phones[-1]])))
    return phones[:number]


def ctc_posteriors(rng: np.random.Generator, phones: list[int], partners: np.ndarray) -> np.ndarray:
    """(T, 1 + P) float32 natural-log probabilities, like those of a CTC network.

    Each phone takes 4 to 12 frames. In most of them the blank is certain. In one or two of them the phone has a peak,
    and so have its two `partners` (P, 2), which sound like it. One time in six a partner has the higher peak. A weak
    echo of the phone stays around the peak. One peak in twenty-five hardly exceeds the blank.
    """
    durations = rng.integers(4, 13, size=len(phones))
    starts = np.cumsum(durations) - durations
    logits = rng.normal(0.0, 1.2, (int(durations.sum()), 1 + NUM_PHONES))
    logits[:, 0] += 10.5
    for phone, start, duration in zip(phones, starts, durations, strict=True):
        span = slice(start, start + duration)
        alike = 1 + partners[phone]
        logits[span, 1 + phone] += 3.0
        logits[span, alike] += 2.0
        peak = start + int(rng.integers(1, duration - 1))
        width = 1 + int(rng.random() < 0.35)
        height = 13.0 + rng.normal(0.0, 1.5) - (3.0 if rng.random() < 0.04 else 0.0)
        logits[peak : peak + width, 1 + phone] += height
        logits[peak : peak + width, alike] += height - np.abs(rng.normal(4.5, 2.0, 2)) + 1.0
        if rng.random() < 1 / 6:
            logits[peak : peak + width, alike[0]] += rng.normal(3.0, 1.5)
    logits -= logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def make_task(num_utts: int, seed: int = 1) -> tuple[NgramLM, list[list[int]], list[np.ndarray]]:
    """A trigram of the invented language, the references (token ids) and their posteriors."""
    rng = np.random.default_rng(seed)
    chain = phone_chain(rng)
    partners = np.array([rng.choice(np.delete(np.arange(NUM_PHONES), p), 2, replace=False) for p in range(NUM_PHONES)])
    names = [f"p{i}" for i in range(NUM_PHONES)]
    text = ([names[p] for p in sample_phones(rng, chain, int(rng.integers(20, 70)))] for _ in range(2000))
    lm = train_ngram(text, 3, names)
    refs = [sample_phones(rng, chain, int(rng.integers(20, 70))) for _ in range(num_utts)]
    posteriors = [ctc_posteriors(rng, phones, partners) for phones in refs]
    return lm, [[p + 1 for p in phones] for phones in refs], posteriors


def make_search(lm: NgramLM | None, beam: int, bonus: float = 0.0) -> BeamSearch:
    """Our search, without a language model if `lm` is None."""
    config = DecodingConfig(beam=beam, lm_weight=LM_WEIGHT, insertion_bonus=bonus)
    return BeamSearch(config, None if lm is None else lm.automaton)


def ours(lm: NgramLM | None, beam: int, bonus: float = 0.0) -> Decode:
    """Our decoder: from log-probabilities (T, V) to the best tokens."""
    search = make_search(lm, beam, bonus)

    def decode(log_probs: np.ndarray) -> list[int]:
        return list(search.decode(log_probs)[0].tokens)

    return decode


def flashlight(lm: NgramLM, beam: int, arpa: Path, *, num_tokens: int, threshold: float) -> Decode:
    """flashlight-text with KenLM. KenLM's scores are log10, which explains the factor of the weight."""
    from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    symbols = Dictionary()
    for symbol in ("<blank>", *lm.phones):
        symbols.add_entry(symbol)
    options = LexiconFreeDecoderOptions(
        beam_size=beam,
        beam_size_token=num_tokens,
        beam_threshold=threshold,
        lm_weight=LM_WEIGHT * LN10,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    # No class is this decoder's silence.
    decoder = LexiconFreeDecoder(options, KenLM(str(arpa), symbols), -1, 0, [])

    def decode(log_probs: np.ndarray) -> list[int]:
        path = decoder.decode(log_probs.ctypes.data, *log_probs.shape)[0].tokens[1:-1]
        return [t for i, t in enumerate(path) if t > 0 and (i == 0 or t != path[i - 1])]

    return decode


def pyctcdecode(lm: NgramLM, beam: int, arpa: Path) -> Decode:
    """pyctcdecode with KenLM and its default pruning. Each phone is a word."""
    import kenlm
    from pyctcdecode import Alphabet, BeamSearchDecoderCTC, LanguageModel

    model = LanguageModel(kenlm.Model(str(arpa)), list(lm.phones), alpha=LM_WEIGHT, beta=BONUS)
    decoder = BeamSearchDecoderCTC(Alphabet(["", *(f"\u2581{phone}" for phone in lm.phones)], True), model)
    ids = {phone: i + 1 for i, phone in enumerate(lm.phones)}
    return lambda log_probs: [ids[phone] for phone in decoder.decode(log_probs, beam_width=beam).split()]


def fast_ctc_decode(lm: NgramLM, beam: int, arpa: Path) -> Decode:
    """fast-ctc-decode without its pruning of classes. It cannot use a language model."""
    import fast_ctc_decode as module

    alphabet = "".join(chr(0x4E00 + i) for i in range(1 + NUM_PHONES))

    def decode(log_probs: np.ndarray) -> list[int]:
        text, _ = module.beam_search(np.exp(log_probs), alphabet, beam_size=beam, beam_cut_threshold=0.0)
        return [ord(symbol) - 0x4E00 for symbol in text]

    return decode


OWN: dict[str, tuple[bool, float]] = {  # with the language model?, bonus
    "asrkit, trigram": (True, 0.0),
    "asrkit, trigram + bonus": (True, BONUS),
    "asrkit, no LM": (False, 0.0),
}
PEERS: dict[str, tuple[str, str, Callable[[NgramLM, int, Path], Decode]]] = {  # distribution, which of ours, maker
    "flashlight": (
        "flashlight-text",
        "asrkit, trigram",
        partial(flashlight, num_tokens=1 + NUM_PHONES, threshold=1e9),
    ),
    "flashlight_pruned": ("flashlight-text", "asrkit, trigram", partial(flashlight, num_tokens=10, threshold=25.0)),
    "pyctcdecode": ("pyctcdecode", "asrkit, trigram + bonus", pyctcdecode),
    "fast_ctc_decode": ("fast-ctc-decode", "asrkit, no LM", fast_ctc_decode),
}


def timed(decode: Decode, posteriors: Sequence[np.ndarray], repeats: int = 1) -> tuple[float, list[list[int]]]:
    """CPU seconds of one pass, and the hypotheses."""
    began = time.process_time()
    for _ in range(repeats):
        hyps = [decode(log_probs) for log_probs in posteriors]
    return (time.process_time() - began) / repeats, hyps


def per_line(refs: list[list[int]], hyps: list[list[int]]) -> str:
    """The line of results for these hypotheses, as `asrkit score` prints it."""
    names = [{str(i): [str(token) for token in seq] for i, seq in enumerate(seqs)} for seqs in (refs, hyps)]
    return score(*names).line()


def compare(num_utts: int, num_rounds: int, beam: int) -> dict[str, float]:
    """Print a table of all decoders. Returns the ratios of the peers."""
    lm, refs, posteriors = make_task(num_utts)
    print(
        f"{num_utts} utterances of {sum(map(len, posteriors)) / num_utts:.0f} frames on average, {NUM_PHONES} phones; "
        f"beam {beam}, trigram of weight {LM_WEIGHT}, bonus 0 or {BONUS}; {num_rounds} rounds, 1 thread, CPU time"
    )
    decoders = {key: ours(lm if has_lm else None, beam, bonus) for key, (has_lm, bonus) in OWN.items()}
    with tempfile.TemporaryDirectory() as directory:
        arpa = Path(directory) / "lm.arpa"
        write_arpa(lm, arpa)
        for key, (distribution, _, make) in PEERS.items():
            try:
                decoders[key] = make(lm, beam, arpa)
            except ImportError as error:
                print(f"{key}: left out, {distribution} cannot be imported: {error}")
    seconds: dict[str, list[float]] = {key: [] for key in decoders}
    hyps: dict[str, list[list[int]]] = {key: [] for key in decoders}
    for decode in decoders.values():
        decode(posteriors[0])
    for part in np.array_split(np.arange(num_utts), num_rounds):
        for key, decode in decoders.items():
            took, found = timed(decode, [posteriors[i] for i in part], repeats=20 if key in OWN else 1)
            seconds[key].append(took)
            hyps[key] += found

    print(f"{'':24}{'utt/s':>8}{'ratio':>8}  phone error rate")
    ratios = {}
    for key in decoders:
        row = f"{key:24}{num_utts / sum(seconds[key]):8.0f}"
        if key in OWN:
            print(f"{row}{'':8}  {per_line(refs, hyps[key])}")
            continue
        own = PEERS[key][1]
        ratio = statistics.median(peer / us for peer, us in zip(seconds[key], seconds[own], strict=True))
        same = sum(a == b for a, b in zip(hyps[key], hyps[own], strict=True))
        print(f"{row}{ratio:8.1f}  {per_line(refs, hyps[key])}; {same} of {num_utts} the same as {own}")
        ratios[key] = round(ratio, 2)
    return ratios


def show_growth(beam: int) -> None:
    """Print how the time grows with the length, with the number of utterances and with threads."""
    lm, _, posteriors = make_task(8, seed=2)
    decode = ours(lm, beam)
    lengths = {factor: np.concatenate(posteriors * factor) for factor in (1, 4, 16)}
    times = {factor: [] for factor in lengths}
    for _ in range(3):
        for factor, log_probs in lengths.items():
            times[factor].append(timed(decode, [log_probs])[0] / len(log_probs) * 1e6)
    each = ", ".join(f"{len(lengths[factor])} frames {statistics.median(took):.2f}" for factor, took in times.items())
    print(f"microseconds a frame: {each}")
    for num_utts in (8, 64):
        batch = (posteriors * (num_utts // 8))[:num_utts]
        for num_threads in (1, 2):
            began = time.perf_counter()
            make_search(lm, beam).decode_all(batch, num_threads)
            took = (time.perf_counter() - began) / num_utts
            print(f"batch of {num_utts}, {num_threads} threads: {took * 1e3:.2f} ms an utterance (wall clock)")


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beam", type=int, default=50)
    parser.add_argument("--utts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"asrkit {asrkit.__version__}, {'NumPy reference' if kernel('_beam') is None else 'compiled kernel'}")
    for name in ("numpy", "kenlm", *dict.fromkeys(distribution for distribution, _, _ in PEERS.values())):
        try:
            print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name}: not installed")
    ratios = compare(args.utts, args.rounds, args.beam)
    show_growth(args.beam)
    print(json.dumps({"ratios": ratios}))


if __name__ == "__main__":
    main()
