"""Searches with an attention decoder: phone by phone, many utterances and all their hypotheses at once.

The stored outputs (T, C) of an utterance are CTC's log-probabilities (T, V), if the model has CTC, followed by the
encoder's outputs (T, E).

Legend: N utterances, K hypotheses per utterance, T steps, V classes (class 0, CTC's blank, is the end), U phones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from asrkit.decoding.batched_search import BATCH_SIZE, BatchedSearch, emissions_of, num_ctc_columns
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.ctc_prefix import CtcFrames, CtcPrefixes
from asrkit.decoding.forward import ctc_log_probs
from asrkit.decoding.scorer import Contexts, SearchLm, TokenScorer
from asrkit.decoding.search import BeamResult, SearchStream
from asrkit.errors import ConfigError
from asrkit.models.decoder_config import END
from asrkit.models.search_attention import Source
from asrkit.models.search_decoder import SearchDecoder, State

COVERED = 0.5  # total weight of the phones from which on a step is covered (Chorowski and Jaitly 2017)
_HOPELESS = 10.0  # nats below the best labelling
_TOO_MANY = 2**40  # more steps than any utterance has
_NUM_HOPELESS = 3  # the search stops after so many hopeless lengths in a row (Watanabe et al. 2017)


@dataclass(frozen=True)
class _Batch:
    """A batch of utterances for a decoder."""

    source: Source
    ctc: CtcFrames | None

    @property
    def lens(self) -> np.ndarray:
        return self.source.lens

    def keep(self, utts: np.ndarray) -> _Batch:
        """The batch with only these utterances."""
        return _Batch(self.source.keep(utts), None if self.ctc is None else self.ctc.keep(utts))


class DecoderSearch(BatchedSearch):
    """The common part of the two searches."""

    ctc_weight = coverage_weight = 0.0

    def __init__(self, decoder: SearchDecoder):
        self.decoder = decoder

    def search_some(self, utterances: Sequence[np.ndarray], num_best: int) -> list[list[BeamResult]]:
        """Like `BatchedSearch.search_some`. `utterances` are stored outputs, each (T, C)."""
        return self.search_batch(self._batch(utterances), num_best)

    def stream(self, settle_after: int | None = None) -> SearchStream:
        """Raises ConfigError: the decoder needs the whole utterance."""
        raise ConfigError(
            "this model has an attention decoder, which needs the whole utterance; for streams take a CTC model or "
            "a transducer"
        )

    def search_batch(self, batch: _Batch, num_best: int) -> list[list[BeamResult]]:
        """The best labellings of each utterance. Raises NotImplementedError; subclasses replace it."""
        raise NotImplementedError

    def total_scores(self, stored: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """As Search.total_scores: (n,) from the outputs `stored` (T, C)."""
        acoustic, coverage = self._log_probs(stored, labelings)
        totals = [self.scorer.total(*pair) for pair in zip(acoustic.tolist(), labelings, strict=True)]
        return np.array(totals) + self.coverage_weight * coverage

    def emissions(self, stored: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """As Search.emissions: (T, V) from the outputs `stored` (T, C). They are CTC's, if the model has CTC.

        Otherwise the decoder gives the probabilities P_u of all classes for each phone u of `tokens`, and the weight
        w_uj with which it looked at step j. Class v has the probability sum_u w_uj P_u(v) at step j, and the blank has
        the rest.
        """
        if num_ctc := num_ctc_columns(stored, self.decoder):
            return stored[:, :num_ctc]
        log_probs, weights = self.read(stored, [tokens])
        return emissions_of(weights[0, :-1].mean(axis=1).T.astype(np.float64) @ np.exp(log_probs[0, :-1]))

    def read(self, stored: np.ndarray, labelings: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """The outputs of the decoder when it writes labellings; `stored` (T, C) are the outputs of the utterance.

        Returns:
            Log-probabilities (n, U + 1, V) and attention weights (n, U + 1, H, T). After the end of a labelling, both
            have no meaning.
        """
        batch = self._batch([stored])
        before = _padded([(END, *labeling) for labeling in labelings])
        log_probs, weights = self._read(batch, before[None])
        return log_probs[0], weights[0]

    def attention(self, utterances: Sequence[np.ndarray], labelings: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """(H, U + 1, T) of each utterance: the heads' weights when the decoder writes its labelling (U,) and the end.

        `utterances` are as for `decode_all`, with one labelling each.
        """
        found = []
        for first in range(0, len(utterances), BATCH_SIZE):
            some = slice(first, first + BATCH_SIZE)
            before = _padded([(END, *labeling) for labeling in labelings[some]])
            weights = self._read(self._batch(utterances[some]), before[:, None])[1][:, 0].swapaxes(1, 2)
            for row, stored, labeling in zip(weights, utterances[some], labelings[some], strict=True):
                found.append(row[:, : len(labeling) + 1, : len(stored)])
        return found

    def _read(self, batch: _Batch, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the decoder gives after the phones `before` (N, K, U): (N, K, U, V) and weights (N, K, U, H, T)."""
        state: State = tuple(np.repeat(part, before.shape[1], axis=1) for part in self.decoder.start(batch.source))
        log_probs, weights = [], []
        for tokens in before.transpose(2, 0, 1):
            step = self.decoder.step(tokens, state, batch.source)
            state = step.state
            log_probs.append(step.log_probs)
            weights.append(step.weights)
        return np.stack(log_probs, axis=2), np.stack(weights, axis=2)

    def _log_probs(self, stored: np.ndarray, labelings: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """The log probability of each labelling, combined with CTC's, and the number of steps that it covers."""
        if not labelings:
            return np.zeros(0), np.zeros(0)
        log_probs, by_head = self.read(stored, labelings)
        weights = by_head.mean(axis=2)
        targets = _padded([(*labeling, END) for labeling in labelings])
        place, lens = np.arange(targets.shape[1]), np.array([len(labeling) for labeling in labelings])[:, None]
        found = np.where(place <= lens, np.take_along_axis(log_probs, targets[:, :, None], axis=2)[:, :, 0], 0.0)
        covered = (np.where((place < lens)[:, :, None], weights, 0.0).sum(axis=1) > COVERED).sum(axis=1)
        totals = found.sum(axis=1)
        if self.ctc_weight:
            by_ctc = ctc_log_probs(stored[:, : num_ctc_columns(stored, self.decoder)], labelings)
            totals = (1 - self.ctc_weight) * totals + self.ctc_weight * by_ctc
        return totals, covered

    def _batch(self, utterances: Sequence[np.ndarray]) -> _Batch:
        num_ctc, *_ = [num_ctc_columns(stored, self.decoder) for stored in utterances]
        lens = np.array([len(stored) for stored in utterances])
        padded = np.zeros((len(lens), lens.max(), utterances[0].shape[1]), self.decoder.dtype)
        for row, stored in zip(padded, utterances, strict=True):
            row[: len(stored)] = stored
        ctc = CtcFrames.of_batch(padded[:, :, :num_ctc], lens) if self.ctc_weight else None
        return _Batch(self.decoder.source(np.ascontiguousarray(padded[:, :, num_ctc:]), lens), ctc)


class GreedyDecoderSearch(DecoderSearch):
    """Writes the most likely phone after each phone.

    It stops when the end is more likely, or when CTC could not align another phone.
    """

    def __init__(self, config: DecodingConfig, lm: SearchLm | None, decoder: SearchDecoder):
        super().__init__(decoder)

    def search_batch(self, batch: _Batch, num_best: int = 1) -> list[list[BeamResult]]:
        """One labelling of each utterance, with its log probability."""
        state, before = self.decoder.start(batch.source), np.full((len(batch.lens), 1), END)
        total, needed = np.zeros(len(before)), np.zeros(len(before), np.int64)
        going_on, written = np.ones(len(before), bool), []
        while going_on.any():
            step = self.decoder.step(before, state, batch.source)
            log_probs = step.log_probs[:, 0]
            tokens = log_probs.argmax(axis=1)
            total += np.where(going_on, log_probs.max(axis=1), 0.0)
            needed += 1 + (tokens == before[:, 0])
            tokens = np.where(going_on & (needed <= batch.lens), tokens, END)
            going_on = tokens != END
            written.append(tokens)
            state, before = step.state, tokens[:, None]
        rows = np.stack(written, axis=1).tolist()
        labelings = [tuple(token for token in row if token != END) for row in rows]
        return [[BeamResult(each, score, score, 0.0)] for each, score in zip(labelings, total.tolist(), strict=True)]


class DecoderBeamSearch(DecoderSearch):
    """Beam search for (1 - ctc_weight) decoder + ctc_weight CTC + lm_weight LM + insertion_bonus U + coverage.

    In each step every hypothesis may end, and the best `beam` hypotheses that are one phone longer continue. For these,
    CTC's score is the probability of all labellings that begin with the hypothesis (Hori et al. 2017). Coverage is
    coverage_weight times the number of steps that the decoder looked at (Chorowski and Jaitly 2017).
    """

    settings: ClassVar[frozenset[str]] = frozenset(
        {"beam", "lm_weight", "insertion_bonus", "ctc_weight", "coverage_weight"}
    )
    sums_paths: ClassVar[bool] = True

    def __init__(self, config: DecodingConfig, lm: SearchLm | None, decoder: SearchDecoder):
        super().__init__(decoder)
        self.beam = self.max_results = config.beam
        self.scorer = TokenScorer(lm, config.lm_weight if lm else 0.0, config.insertion_bonus)
        self.ctc_weight = config.ctc_weight if decoder.has_ctc else 0.0
        self.coverage_weight = config.coverage_weight

    def search_batch(self, batch: _Batch, num_best: int) -> list[list[BeamResult]]:
        """The best labellings of each utterance."""
        results: list[list[BeamResult]] = [[] for _ in range(len(batch.lens))]
        utts = np.arange(len(batch.lens))  # indices of the utterances whose search is not over
        live, ended = self._begin(batch), _Ended.none(len(utts), min(num_best, self.beam))
        while len(utts):
            live = self._look(live, batch)
            ended = ended.add(self._ends(live, batch), live)
            live = self._grow(live, batch)
            done = ended.is_over | (live.length > batch.lens) | self._is_beaten(live, ended, batch)
            if done.all() or int(done.sum()) * 4 > len(utts):
                for row in done.nonzero()[0].tolist():
                    results[utts[row]] = ended.results(row)
                kept = (~done).nonzero()[0]
                utts, batch, live, ended = utts[kept], batch.keep(kept), live.keep(kept), ended.keep(kept)
            else:
                ended = replace(ended, num_hopeless=ended.num_hopeless + _NUM_HOPELESS * done)  # keeps it over
        return results

    def _begin(self, batch: _Batch) -> _Live:
        num_utts, num_steps = batch.source.mask.shape
        zeros, nothing = np.zeros((num_utts, 1)), np.zeros((num_utts, 1), np.int64)
        lm = None if self.scorer.lm is None else self.scorer.lm.begin()
        return _Live(
            lm,
            np.zeros((num_utts, 1, 0), np.int64),
            nothing + END,
            nothing,
            self.decoder.start(batch.source),
            zeros,
            zeros,
            nothing + (0 if lm is None else lm.start),
            np.zeros((num_utts, 1, num_steps if self.coverage_weight else 0)),
            None if batch.ctc is None else batch.ctc.empty_prefix(),
        )

    def _look(self, live: _Live, batch: _Batch) -> _Live:
        """The hypotheses with the probabilities of their next tokens."""
        step = self.decoder.step(live.last, live.state, batch.source)
        next_seen = live.seen + step.weights.mean(axis=2) if self.coverage_weight else live.seen
        return replace(live, state=step.state, next_log_probs=step.log_probs, next_seen=next_seen)

    def _ends(self, live: _Live, batch: _Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Total scores (N, K) if the hypotheses end here, and the acoustic and language-model parts of the scores."""
        acoustic = (1 - self.ctc_weight) * (live.decoder_log_probs + live.next_log_probs[:, :, END])
        if live.ctc is not None:
            acoustic = acoustic + self.ctc_weight * live.ctc.end_scores()
        lm_log_probs = live.lm_log_probs if live.lm is None else live.lm_log_probs + live.lm.ends(live.contexts)
        scores = acoustic + self._rest(lm_log_probs, live.length, live.seen)
        return np.where(live.needed > batch.lens[:, None], -np.inf, scores), acoustic, lm_log_probs

    def _grow(self, live: _Live, batch: _Batch) -> _Live:
        """The best hypotheses that are one phone longer. The score is -inf if CTC could not align them."""
        decoder_log_probs = live.decoder_log_probs[:, :, None] + live.next_log_probs
        scores = (1 - self.ctc_weight) * decoder_log_probs
        if live.ctc is not None:
            scores += self.ctc_weight * live.ctc.next_scores()
        lm_log_probs = live.lm_log_probs[:, :, None]
        if live.lm is not None:
            lm_log_probs = lm_log_probs + live.lm.rows(live.contexts)
        scores += self._rest(lm_log_probs, live.length + 1, live.next_seen[:, :, None])
        scores[:, :, END] = -np.inf
        room = batch.lens[:, None] - live.needed  # steps that are left
        scores[room < 1] = -np.inf
        rows, hyps = (room < 2).nonzero()
        scores[rows, hyps, live.last[rows, hyps]] = -np.inf
        num_utts, num_hyps, num_classes = scores.shape
        flat = scores.reshape(num_utts, -1)
        best = _best_first(flat, min(self.beam, num_hyps * (num_classes - 1)))
        parents, tokens = np.divmod(best, num_classes)
        rows = np.arange(num_utts)[:, None]
        lm_log_probs = np.broadcast_to(lm_log_probs, scores.shape)[rows, parents, tokens]
        needed = live.needed[rows, parents] + 1 + (tokens == live.last[rows, parents])
        return _Live(
            live.lm,
            np.concatenate([live.prefixes[rows, parents], tokens[:, :, None]], axis=2),
            tokens,
            np.where(tokens == END, _TOO_MANY, needed),  # END stands where no phone is possible
            tuple(part[rows, parents] for part in live.state),
            decoder_log_probs[rows, parents, tokens],
            lm_log_probs,
            # An impossible hypothesis can have END as its last phone, which no language model lists.
            live.contexts if live.lm is None else live.lm.after(live.contexts[rows, parents], np.maximum(tokens, 1)),
            live.next_seen[rows, parents],
            None if live.ctc is None else live.ctc.extend(parents, tokens),
            scores=flat[rows, best],
        )

    def _rest(self, lm_log_probs: np.ndarray, length: int, seen: np.ndarray) -> np.ndarray:
        """The score besides the acoustic part.

        `seen` (..., T) is the weight with which the decoder looked at each step.
        """
        rest: np.ndarray = self.scorer.lm_weight * lm_log_probs + self.scorer.insertion_bonus * length
        if self.coverage_weight:
            rest = rest + self.coverage_weight * (seen > COVERED).sum(axis=-1)
        return rest

    def _is_beaten(self, live: _Live, ended: _Ended, batch: _Batch) -> np.ndarray:
        """(N,) whether no continuing hypothesis can get into the result. One more phone adds at most the bonus."""
        gain = max(self.scorer.insertion_bonus, 0.0) * np.maximum(batch.lens + 1 - live.length, 0)
        gain = gain + self.coverage_weight * batch.lens
        is_beaten: np.ndarray = live.scores[:, 0] + gain < ended.scores[:, -1]
        return is_beaten


def _not_yet() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class _Live:
    """Hypotheses that continue, all of one length, best first. Sums are natural logs, float64."""

    lm: Contexts | None
    prefixes: np.ndarray  # (N, K, U)
    last: np.ndarray  # (N, K) last phones, END before the first
    needed: np.ndarray  # (N, K) steps that CTC needs for the phones: one each, and a blank between equal ones
    state: State
    decoder_log_probs: np.ndarray  # (N, K)
    lm_log_probs: np.ndarray  # (N, K)
    contexts: np.ndarray  # (N, K) of the language model
    seen: np.ndarray  # (N, K, T) weight with which the phones looked at each step; (N, K, 0) without coverage
    ctc: CtcPrefixes | None
    scores: np.ndarray = field(default_factory=_not_yet)  # (N, K)
    next_log_probs: np.ndarray = field(default_factory=_not_yet)  # (N, K, V) the decoder's, of the next token
    next_seen: np.ndarray = field(default_factory=_not_yet)  # as `seen`, with the next phone

    @property
    def length(self) -> int:
        return self.prefixes.shape[2]

    def keep(self, utts: np.ndarray) -> _Live:
        """The hypotheses of only these utterances, before the next step of the decoder."""
        return _Live(
            self.lm,
            self.prefixes[utts],
            self.last[utts],
            self.needed[utts],
            tuple(part[utts] for part in self.state),
            self.decoder_log_probs[utts],
            self.lm_log_probs[utts],
            self.contexts[utts],
            self.seen[utts],
            None if self.ctc is None else self.ctc.keep(utts),
        )


@dataclass(frozen=True)
class _Ended:
    """The best P labellings of each utterance that have ended, best first."""

    scores: np.ndarray  # (N, P), -inf where there is none yet
    parts: np.ndarray  # (N, P, 2) acoustic and language model's log probabilities
    tokens: np.ndarray  # (N, P, U), padded with END
    num_hopeless: np.ndarray  # (N,) hopeless lengths in a row

    @classmethod
    def none(cls, num_utts: int, num_best: int) -> _Ended:
        scores = np.full((num_utts, num_best), -np.inf)
        tokens = np.full((num_utts, num_best, 0), END)
        return cls(scores, np.repeat(scores[:, :, None], 2, axis=2), tokens, np.zeros(num_utts, np.int64))

    @property
    def is_over(self) -> np.ndarray:
        is_over: np.ndarray = self.num_hopeless >= _NUM_HOPELESS
        return is_over

    def add(self, ends: tuple[np.ndarray, np.ndarray, np.ndarray], live: _Live) -> _Ended:
        """Add the hypotheses, if they end here. Utterances whose search is over do not change."""
        new_scores = np.where(self.is_over[:, None], -np.inf, ends[0])
        scores = np.concatenate([self.scores, new_scores], axis=1)
        parts = np.concatenate([self.parts, np.stack(ends[1:], axis=2)], axis=1)
        padded = np.pad(self.tokens, [(0, 0), (0, 0), (0, live.length - self.tokens.shape[2])], constant_values=END)
        best, rows = _best_first(scores, self.scores.shape[1]), np.arange(len(scores))[:, None]
        best_scores = scores[rows, best]
        tokens = np.concatenate([padded, live.prefixes], axis=1)[rows, best]
        hopeless = new_scores.max(axis=1) < best_scores[:, 0] - _HOPELESS
        counts = np.where(hopeless | self.is_over, self.num_hopeless + 1, 0)
        return _Ended(best_scores, parts[rows, best], tokens, counts)

    def keep(self, utts: np.ndarray) -> _Ended:
        return _Ended(self.scores[utts], self.parts[utts], self.tokens[utts], self.num_hopeless[utts])

    def results(self, row: int) -> list[BeamResult]:
        """The results of one utterance."""
        found = zip(self.scores[row].tolist(), self.parts[row].tolist(), self.tokens[row].tolist(), strict=True)
        return [
            BeamResult(tuple(token for token in tokens if token != END), score, *parts)
            for score, parts, tokens in found
            if score > -np.inf
        ]


def _best_first(scores: np.ndarray, number: int) -> np.ndarray:
    """(N, number) places of the largest scores in each row of (N, S), the largest first."""
    some = np.argpartition(-scores, number - 1, axis=1)[:, :number]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _padded(labelings: Sequence[Sequence[int]]) -> np.ndarray:
    """Labellings as (n, U), padded with END."""
    padded = np.full((len(labelings), max(map(len, labelings))), END)
    for row, labeling in zip(padded, labelings, strict=True):
        row[: len(labeling)] = labeling
    return padded
