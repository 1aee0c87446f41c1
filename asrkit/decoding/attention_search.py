"""Searches over an attention decoder: phone by phone, many utterances and all their hypotheses at once.

The stored outputs (T, C) of an utterance are CTC's log-probabilities (T, V), if the model has CTC, followed by the
encoder's outputs (T, E).

Legend: N utterances, K hypotheses of each, T steps, V classes: 0 is the end, CTC's blank; U phones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.ctc_prefix import CtcFrames, CtcPrefixes
from asrkit.decoding.forward import ctc_log_probs
from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.search import BeamResult, SearchStream
from asrkit.errors import ConfigError, ModelError
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.attention_scores import Source
from asrkit.models.decoder import END, AttentionDecoder, DecoderState

BATCH_SIZE = 32  # utterances that are searched at once
COVERED = 0.5  # a step is covered by phones that looked at it with so much weight in all (Chorowski and Jaitly 2017)
_HOPELESS = 10.0  # nats below the best labelling; after
_TOO_MANY = 2**40  # steps that no utterance has
_NOT_YET = torch.empty(0)
_NUM_HOPELESS = 3  # lengths in a row whose best is so far below, longer ones are not tried (Watanabe et al. 2017)


@dataclass(frozen=True)
class _Batch:
    """A batch of utterances for a decoder."""

    source: Source
    ctc: CtcFrames | None

    @property
    def lens(self) -> Tensor:
        return self.source.lens

    def keep(self, utts: Tensor) -> _Batch:
        """Of these utterances alone."""
        ctc = None if self.ctc is None else CtcFrames(self.ctc.log_probs[utts], self.ctc.probs[utts])
        return _Batch(Source(*(part[utts] for part in self.source)), ctc)


class DecoderSearch:
    """The common part of both searches."""

    settings: ClassVar[frozenset[str]] = frozenset()
    is_batched: ClassVar[bool] = True
    sums_paths: ClassVar[bool] = False
    max_results = 1
    scorer = TokenScorer()
    ctc_weight = coverage_weight = 0.0

    def __init__(self, decoder: AttentionDecoder):
        self.decoder = decoder

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """As search.Search, of what is stored of an utterance (T, C)."""
        return self.decode_all([log_probs], num_best=num_best)[0]

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """As search.Search. Raises ModelError for utterances without a step or with numbers that are not finite."""
        if num_threads < 1:
            raise ConfigError(f"num_threads must be at least 1, found {num_threads}")
        results: list[list[BeamResult]] = [[] for _ in utterances]
        order = sorted(range(len(utterances)), key=lambda index: len(utterances[index]))
        with torch.inference_mode(), _threads(num_threads):
            for start in range(0, len(order), BATCH_SIZE):
                members = order[start : start + BATCH_SIZE]
                found = self.search_batch(self._batch([utterances[index] for index in members]), num_best)
                for index, result in zip(members, found, strict=True):
                    results[index] = result
        return results

    def stream(self, settle_after: int | None = None) -> SearchStream:
        """There is none: the decoder looks at the whole utterance. Raises ConfigError."""
        raise ConfigError(
            "this model has an attention decoder, which needs the whole utterance; take a CTC model for streams"
        )

    def search_batch(self, batch: _Batch, num_best: int) -> list[list[BeamResult]]:
        """The best labellings of each utterance."""
        raise NotImplementedError

    def total_scores(self, stored: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """(n,) what the search maximises, exactly, for labellings of one utterance; as forward.total_scores."""
        acoustic, coverage = self._log_probs(stored, labelings)
        totals = [self.scorer.total(*pair) for pair in zip(acoustic.tolist(), labelings, strict=True)]
        return np.array(totals) + self.coverage_weight * coverage

    def emissions(self, stored: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """(T, V) log-probabilities by which phones are timed and trusted: CTC's, or what the decoder saw where.

        A decoder without CTC gives for each phone u of `tokens` the probabilities of all classes, which belong to the
        steps as it looked at them: at step j class v has sum_u w_uj P_u(v), and the blank has the rest.
        """
        num_ctc = self._num_ctc(stored)
        if num_ctc:
            return stored[:, :num_ctc]
        with torch.inference_mode():
            log_probs, weights = self._read(self._batch([stored]), [tokens])
        seen = weights[0, :-1].T.double() @ log_probs[0, :-1].double().exp()  # (T, V)
        seen[:, 0] = 0.0
        sums = seen.sum(dim=1, keepdim=True)
        seen = seen / sums.clamp(min=1.0 - 1e-6) * (1 - 1e-6)
        seen[:, 0] = 1 - seen.sum(dim=1)
        return seen.clamp(min=1e-12).log().float().numpy()

    def _log_probs(self, stored: np.ndarray, labelings: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """The log probability of each labelling, weighted with CTC's, and the number of steps that it covers."""
        if not labelings:
            return np.zeros(0), np.zeros(0)
        with torch.inference_mode():
            batch = self._batch([stored] * len(labelings))
            log_probs, weights = self._read(batch, labelings)
            covered = (weights[:, :-1].sum(dim=1) > COVERED).sum(dim=1)
        lens = torch.tensor([len(labeling) for labeling in labelings])
        targets = _padded(labelings, END, 1)
        inside = torch.arange(targets.shape[1]) <= lens[:, None]
        found = log_probs.double().gather(2, targets[:, :, None])[:, :, 0].where(inside, 0.0).sum(dim=1).numpy()
        if self.ctc_weight:
            by_ctc = ctc_log_probs(stored[:, : self._num_ctc(stored)], labelings)
            found = (1 - self.ctc_weight) * found + self.ctc_weight * by_ctc
        return found, covered.numpy()

    def _read(self, batch: _Batch, labelings: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The decoder's outputs for these labellings: log-probabilities (N, U + 1, V) and weights (N, U + 1, T).

        After a labelling's end, weights are 0.
        """
        tokens, lens = _padded(labelings, END), torch.tensor([len(labeling) for labeling in labelings])
        steps = self.decoder.read(batch.source, tokens)
        log_probs = self.decoder.log_probs(torch.cat([step.vector for step in steps], dim=1))
        weights = torch.cat([step.context.weights for step in steps], dim=1).mean(dim=2)
        written = torch.arange(weights.shape[1]) < lens[:, None]
        last = weights[:, -1:]
        return log_probs, torch.cat([weights[:, :-1].where(written[:, :-1, None], 0.0), last], dim=1)

    def _num_ctc(self, stored: np.ndarray) -> int:
        """The columns that are CTC's."""
        return stored.shape[1] - self.decoder.step_size

    def _batch(self, utterances: Sequence[np.ndarray]) -> _Batch:
        for stored in utterances:
            if stored.ndim != 2 or not len(stored) or self._num_ctc(stored) not in (0, self.decoder.num_classes):
                raise ModelError(
                    f"stored outputs of shape {stored.shape}; expected steps of {self.decoder.step_size} numbers"
                )
            if not np.isfinite(stored).all():
                raise ModelError("stored outputs with numbers that are not finite")
        lens = torch.tensor([len(stored) for stored in utterances])
        dtype = self.decoder.output.weight.dtype
        parts = [torch.from_numpy(np.array(stored)).to(dtype) for stored in utterances]
        padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        num_ctc = self._num_ctc(utterances[0])
        ctc = CtcFrames.of_batch(padded[:, :, :num_ctc], lens) if self.ctc_weight else None
        return _Batch(self.decoder.source(padded[:, :, num_ctc:], lens), ctc)


class GreedyDecoderSearch(DecoderSearch):
    """The most likely phone after each phone, until the end is more likely, or CTC could not align one phone more."""

    def __init__(self, config: DecodingConfig, lm: LmAutomaton | None, decoder: AttentionDecoder):
        super().__init__(decoder)

    def search_batch(self, batch: _Batch, num_best: int = 1) -> list[list[BeamResult]]:
        """One labelling of each utterance, with its log probability."""
        found, log_probs = greedy_labelings(self.decoder, batch.source)
        return [
            [BeamResult(tuple(tokens), log_prob, log_prob, 0.0)]
            for tokens, log_prob in zip(found, log_probs.tolist(), strict=True)
        ]


def greedy_labelings(decoder: AttentionDecoder, source: Source) -> tuple[list[list[int]], Tensor]:
    """The greedy labelling of each utterance, and their log probabilities (N,)."""
    state = decoder.start(source)
    before = torch.full((len(source.lens), 1), END, device=source.lens.device)
    written, total = [], torch.zeros(len(before), dtype=torch.float64, device=before.device)
    going_on = torch.ones(len(before), dtype=torch.bool, device=before.device)
    needed = torch.zeros_like(source.lens)
    while True:
        step = decoder.step(before, state, source)
        best, tokens = decoder.log_probs(step.vector)[:, 0].double().max(dim=1)
        needed = needed + 1 + (tokens == before[:, 0])
        tokens = tokens.where(going_on & (needed <= source.lens), END)
        total += best.where(going_on, 0.0)
        going_on = tokens != END
        if not going_on.any():
            break
        written.append(tokens)
        state, before = step.state, tokens[:, None]
    rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in range(len(before))]
    return [[token for token in row if token != END] for row in rows], total


class DecoderBeamSearch(DecoderSearch):
    """The best labellings by (1 - ctc_weight) decoder + ctc_weight CTC + lm_weight LM + insertion_bonus U + coverage.

    In each step every hypothesis may end, and the best `beam` of those that are one phone longer continue, with CTC's
    probability of all labellings that begin with them (Hori et al. 2017). Coverage is coverage_weight times the number
    of steps that were looked at (Chorowski and Jaitly 2017).
    """

    settings: ClassVar[frozenset[str]] = frozenset(
        {"beam", "lm_weight", "insertion_bonus", "ctc_weight", "coverage_weight"}
    )
    sums_paths: ClassVar[bool] = True

    def __init__(self, config: DecodingConfig, lm: LmAutomaton | None, decoder: AttentionDecoder):
        super().__init__(decoder)
        self.beam = self.max_results = config.beam
        self.scorer = TokenScorer(lm, config.lm_weight if lm else 0.0, config.insertion_bonus)
        self.ctc_weight = config.ctc_weight if decoder.has_ctc else 0.0
        self.coverage_weight = config.coverage_weight
        self._lm = None if lm is None else _LmRows(lm)

    def search_batch(self, batch: _Batch, num_best: int) -> list[list[BeamResult]]:
        """The best labellings of each utterance."""
        results: list[list[BeamResult]] = [[] for _ in range(len(batch.lens))]
        utts = torch.arange(len(batch.lens))  # those that are still searched, by their number in the batch
        live, ended = self._begin(batch), _Ended.none(len(utts), min(num_best, self.beam))
        while len(utts):
            live = self._look(live, batch)
            ended = ended.add(self._ends(live, batch), live)
            live = self._grow(live, batch)
            done = ended.is_over | (live.length > batch.lens) | self._is_beaten(live, ended, batch)
            if done.all() or int(done.sum()) * 4 > len(utts):
                for row in done.nonzero()[:, 0].tolist():
                    results[int(utts[row])] = ended.results(row)
                kept = (~done).nonzero()[:, 0]
                utts, batch, live, ended = utts[kept], batch.keep(kept), live.keep(kept), ended.keep(kept)
            else:
                ended = replace(ended, num_hopeless=ended.num_hopeless + _NUM_HOPELESS * done)  # stays over
        return results

    def _begin(self, batch: _Batch) -> _Live:
        num_utts = len(batch.lens)
        zeros = torch.zeros(num_utts, 1, dtype=torch.float64)
        nothing = torch.zeros(num_utts, 1, dtype=torch.int64)
        return _Live(
            nothing[:, :, None][:, :, :0],
            nothing + END,
            nothing,
            self.decoder.start(batch.source),
            zeros,
            zeros,
            nothing + (0 if self._lm is None else self._lm.start),
            batch.source.valid.new_zeros(num_utts, 1, batch.source.valid.shape[1], dtype=torch.float64),
            None if batch.ctc is None else batch.ctc.empty_prefix(),
        )

    def _look(self, live: _Live, batch: _Batch) -> _Live:
        """The hypotheses with the probabilities of the tokens that may follow them."""
        step = self.decoder.step(live.last, live.state, batch.source)
        log_probs = self.decoder.log_probs(step.vector).double()
        weights = step.context.weights.mean(dim=2).double()
        return replace(live, state=step.state, next_log_probs=log_probs, next_seen=live.seen + weights)

    def _ends(self, live: _Live, batch: _Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K) total scores of the hypotheses as they are; acoustic and language model's parts."""
        acoustic = (1 - self.ctc_weight) * (live.decoder_log_probs + live.next_log_probs[:, :, END])
        if live.ctc is not None:
            acoustic = acoustic + self.ctc_weight * live.ctc.end_scores()
        lm_log_probs = live.lm_log_probs if self._lm is None else live.lm_log_probs + self._lm.ends[live.contexts]
        scores = acoustic + self._rest(lm_log_probs, live.length, live.seen)
        return scores.masked_fill(live.needed > batch.lens[:, None], -torch.inf), acoustic, lm_log_probs

    def _grow(self, live: _Live, batch: _Batch) -> _Live:
        """The best hypotheses that are one phone longer; of those that CTC could not align, the score is -inf."""
        decoder_log_probs = live.decoder_log_probs[:, :, None] + live.next_log_probs
        acoustic = (1 - self.ctc_weight) * decoder_log_probs
        if live.ctc is not None:
            acoustic = acoustic + self.ctc_weight * live.ctc.next_scores()
        lm_log_probs = live.lm_log_probs[:, :, None].expand_as(acoustic)
        if self._lm is not None:
            lm_log_probs = lm_log_probs + self._lm.rows(live.contexts)
        scores = acoustic + self._rest(lm_log_probs, live.length + 1, live.next_seen[:, :, None])
        num_classes = scores.shape[2]
        needed = live.needed[:, :, None] + 1 + (torch.arange(num_classes) == live.last[:, :, None])
        needed[:, :, END] = _TOO_MANY
        scores = scores.masked_fill(needed > batch.lens[:, None, None], -torch.inf)
        best = scores.flatten(1).topk(min(self.beam, scores.shape[1] * (num_classes - 1)), dim=1)
        parents, tokens = best.indices // num_classes, best.indices % num_classes
        rows = torch.arange(len(parents))[:, None]
        return _Live(
            torch.cat([live.prefixes[rows, parents], tokens[:, :, None]], dim=2),
            tokens,
            needed.flatten(1).gather(1, best.indices),
            live.state.choose(parents),
            decoder_log_probs.flatten(1).gather(1, best.indices),
            lm_log_probs.flatten(1).gather(1, best.indices),
            # What cannot be may have END for a phone, which no model lists.
            live.contexts if self._lm is None else self._lm.after(live.contexts[rows, parents], tokens.clamp(min=1)),
            live.next_seen[rows, parents],
            None if live.ctc is None else live.ctc.extend(parents, tokens),
            scores=best.values,
        )

    def _rest(self, lm_log_probs: Tensor, length: int, seen: Tensor) -> Tensor:
        """The score besides the acoustic part. `seen` (..., T): the weight with which steps were looked at."""
        rest = self.scorer.lm_weight * lm_log_probs + self.scorer.insertion_bonus * length
        if self.coverage_weight:
            rest = rest + self.coverage_weight * (seen > COVERED).sum(dim=-1, dtype=torch.float64)
        return rest

    def _is_beaten(self, live: _Live, ended: _Ended, batch: _Batch) -> Tensor:
        """(N,) whether no continuing hypothesis can get into the result: one more phone adds at most the bonus."""
        gain = max(self.scorer.insertion_bonus, 0.0) * (batch.lens + 1 - live.length).clamp(min=0)
        gain = gain + self.coverage_weight * batch.lens
        assert live.scores is not None
        return live.scores.amax(dim=1) + gain < ended.scores[:, -1]


@dataclass(frozen=True)
class _Live:
    """Hypotheses that continue, all of one length; sums are of natural logs, float64."""

    prefixes: Tensor  # (N, K, U)
    last: Tensor  # (N, K) last phones, END before the first
    needed: Tensor  # (N, K) steps that CTC needs for the phones: one each, and a blank between equal ones
    state: DecoderState
    decoder_log_probs: Tensor  # (N, K)
    lm_log_probs: Tensor  # (N, K)
    contexts: Tensor  # (N, K) of the language model
    seen: Tensor  # (N, K, T) the weight with which the phones looked at each step
    ctc: CtcPrefixes | None
    scores: Tensor | None = None  # (N, K)
    next_log_probs: Tensor = _NOT_YET  # (N, K, V) the decoder's, of what follows
    next_seen: Tensor = _NOT_YET  # (N, K, T) with what is looked at next

    @property
    def length(self) -> int:
        return self.prefixes.shape[2]

    def keep(self, utts: Tensor) -> _Live:
        """Of these utterances alone, before the next is looked at."""
        return _Live(
            self.prefixes[utts],
            self.last[utts],
            self.needed[utts],
            self.state.keep(utts),
            self.decoder_log_probs[utts],
            self.lm_log_probs[utts],
            self.contexts[utts],
            self.seen[utts],
            None if self.ctc is None else self.ctc.keep(utts),
        )


@dataclass(frozen=True)
class _Ended:
    """The best labellings that have ended, P of each utterance, best first."""

    scores: Tensor  # (N, P), -inf where there is none yet
    parts: Tensor  # (N, P, 2) acoustic and language model's log probabilities
    tokens: Tensor  # (N, P, U), padded with END
    num_hopeless: Tensor  # (N,) lengths in a row whose best was hopeless

    @classmethod
    def none(cls, num_utts: int, num_best: int) -> _Ended:
        scores = torch.full((num_utts, num_best), -torch.inf, dtype=torch.float64)
        tokens = torch.full((num_utts, num_best, 0), END)
        return cls(scores, scores[:, :, None].expand(-1, -1, 2), tokens, torch.zeros(num_utts, dtype=torch.int64))

    @property
    def is_over(self) -> Tensor:
        return self.num_hopeless >= _NUM_HOPELESS

    def add(self, ends: tuple[Tensor, Tensor, Tensor], live: _Live) -> _Ended:
        """With the hypotheses as they are. What is over changes no more."""
        new_scores = ends[0].masked_fill(self.is_over[:, None], -torch.inf)
        scores = torch.cat([self.scores, new_scores], dim=1)
        parts = torch.cat([self.parts, torch.stack(ends[1:], dim=2)], dim=1)
        padded = torch.nn.functional.pad(self.tokens, (0, live.length - self.tokens.shape[2]), value=END)
        best = scores.topk(self.scores.shape[1], dim=1)
        rows = torch.arange(len(scores))[:, None]
        tokens = torch.cat([padded, live.prefixes], dim=1)[rows, best.indices]
        hopeless = new_scores.amax(dim=1) < best.values[:, 0] - _HOPELESS
        counts = (self.num_hopeless + 1).where(hopeless | self.is_over, 0)
        return _Ended(best.values, parts[rows, best.indices], tokens, counts)

    def keep(self, utts: Tensor) -> _Ended:
        return _Ended(self.scores[utts], self.parts[utts], self.tokens[utts], self.num_hopeless[utts])

    def results(self, row: int) -> list[BeamResult]:
        """Of an utterance."""
        found = zip(self.scores[row].tolist(), self.parts[row].tolist(), self.tokens[row].tolist(), strict=True)
        return [
            BeamResult(tuple(token for token in tokens if token != END), score, *parts)
            for score, parts, tokens in found
            if score > -np.inf
        ]


class _LmRows:
    """A language model of any size as tensors, for hypotheses of many utterances at once."""

    def __init__(self, lm: LmAutomaton):
        self._lm, self.start = lm, lm.start
        self.ends = torch.from_numpy(lm.end)
        self._known: dict[int, Tensor] = {}

    def rows(self, contexts: Tensor) -> Tensor:
        """Contexts (N, K) to natural-log probabilities (N, K, V)."""
        if (table := self._lm.table) is not None:
            return torch.from_numpy(table.log_probs)[contexts]
        return torch.stack([self._row(context) for context in contexts.flatten().tolist()]).unflatten(0, contexts.shape)

    def after(self, contexts: Tensor, tokens: Tensor) -> Tensor:
        """The contexts (N, K) after tokens (N, K)."""
        if (table := self._lm.table) is not None:
            return torch.from_numpy(table.next_context)[contexts, tokens].long()
        pairs = zip(contexts.flatten().tolist(), tokens.flatten().tolist(), strict=True)
        return torch.tensor([self._lm.step(*pair)[0] for pair in pairs]).view(contexts.shape)

    def _row(self, context: int) -> Tensor:
        if context not in self._known:
            self._known[context] = torch.from_numpy(self._lm.row(context))
        return self._known[context]


def _padded(labelings: Sequence[Sequence[int]], value: int, more: int = 0) -> Tensor:
    """Labellings as (n, U + more)."""
    length = max(map(len, labelings)) + more
    return (
        torch.tensor([[*labeling, *[value] * (length - len(labeling))] for labeling in labelings])
        .long()
        .view(len(labelings), length)
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
