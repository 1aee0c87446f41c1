"""CTC prefix beam search with a phone n-gram language model (Graves 2006; Hannun et al. 2014).

A prefix is a labelling; all paths that lead to it are summed, so within the beam its score is exact: no frame is
skipped and no token is pruned before the beam is. It takes one frame at a time, so that it serves streams as well.
`ReferenceSearch` defines the result; the compiled kernel `asrkit._native._beam` gives the same, and takes its place
where it was built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Protocol

import numpy as np

from asrkit._native import kernel
from asrkit.decoding.forced_align import AlignedTokens, forced_align
from asrkit.errors import ConfigError, ModelError
from asrkit.lm.ngram import LmAutomaton, NgramLM
from asrkit.parallel import make_thread_executor

MAX_LOG_PROB = 1e100  # magnitude of the largest entry of a frame: sums over frames stay finite
MAX_BEAM = 2**31 - 1
MAX_WEIGHT = 1e6
_MAX_TABLE = 2**19  # entries of a dense table: making a larger one takes longer than it saves in an hour of speech


@dataclass(frozen=True, slots=True)
class BeamResult:
    """One labelling: `score` = ctc_log_prob + lm_weight * lm_log_prob + insertion_bonus * len(tokens), natural logs.

    `ctc_log_prob` sums over the paths that stayed in the beam. `lm_log_prob` includes </s>; 0 without a model.
    `alignment`: the frames of each token on the most probable path; None when times were not asked for.
    """

    tokens: tuple[int, ...]
    score: float
    ctc_log_prob: float
    lm_log_prob: float
    alignment: AlignedTokens | None = None


def prefix_beam_search(
    log_probs: np.ndarray,
    *,
    beam: int = 16,
    beam_threshold: float | None = None,
    lm: NgramLM | None = None,
    lm_weight: float = 0.0,
    insertion_bonus: float = 0.0,
    num_best: int = 1,
    with_times: bool = False,
) -> list[BeamResult]:
    """The `num_best` best labellings of one utterance, best first; fewer when the beam ends with fewer.

    After each frame the `beam` best prefixes live on, ranked by their score so far; </s> joins at the end. Equal
    scores are ranked so: prefixes that did not grow first, then by the parent's rank, then by token id. Time grows
    linearly with the frames.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank, class i + 1 is `lm.phones[i]`.
        beam_threshold: after each frame, drop also the prefixes that are more than this many nats below the best.
        lm: an n-gram model of any order. A small one (contexts x classes) is used as a dense table.
        lm_weight: factor of the language model's natural log probability.
        insertion_bonus: added for every token; positive values give longer labellings.
        with_times: give each result the `alignment` that forced_align finds for it.

    Raises:
        ConfigError: beam or num_best below 1, beam_threshold below 0, a weight or bonus that is NaN or huge.
        ModelError: log_probs that are not (T, V) or have a frame with NaN or without any possible class; a
            language model for another number of tokens.
    """
    settings = SearchSettings.checked(beam, beam_threshold, lm, lm_weight, insertion_bonus)
    return _search(log_probs, settings, _checked_number(num_best), with_times)


def prefix_beam_search_batch(
    log_probs: Sequence[np.ndarray],
    *,
    num_threads: int = 1,
    beam: int = 16,
    beam_threshold: float | None = None,
    lm: NgramLM | None = None,
    lm_weight: float = 0.0,
    insertion_bonus: float = 0.0,
    num_best: int = 1,
    with_times: bool = False,
) -> list[list[BeamResult]]:
    """prefix_beam_search for each of many utterances, (T, V) each, on `num_threads` threads; results in their order.

    The compiled kernel runs without Python's global lock. The number of threads changes no result.

    Raises:
        ConfigError, ModelError: as prefix_beam_search; num_threads below 1. Of several bad utterances the first is
            named.
    """
    if num_threads < 1:
        raise ConfigError(f"beam search: num_threads {num_threads}; expected at least 1")
    settings = SearchSettings.checked(beam, beam_threshold, lm, lm_weight, insertion_bonus)
    num_best = _checked_number(num_best)
    results = []
    with make_thread_executor(max(1, min(num_threads, len(log_probs)))) as executor:
        futures = [executor.submit(_search, utt, settings, num_best, with_times) for utt in log_probs]
        for index, future in enumerate(futures):
            try:
                results.append(future.result())
            except ModelError as error:
                executor.shutdown(cancel_futures=True)
                raise ModelError(f"utterance {index}: {error}") from None
    return results


class StreamingSearch:
    """prefix_beam_search of an utterance whose frames come in pieces.

    However they are cut, results are bit for bit those of the whole. Arguments and errors are prefix_beam_search's;
    after an error the search is of no more use. One thread at a time.

    Two prefixes that differ in one early token and are equal ever since stay in the beam together for as long as no
    closer rivals come up, so that `commit` may wait long for what all have in common. With `settle_after` (frames)
    what is older follows the best prefix: each time so many frames have come, those are dropped that differ from it in
    the tokens that the best prefix had so many frames before. It is the better one of two that are equal since, and
    stays so; rivals get more room in the beam. Nothing is dropped in the first 2 * `settle_after` frames. Then
    memory does not grow if `commit` is called now and then; else it does by some bytes a token.
    """

    def __init__(
        self,
        *,
        beam: int = 16,
        beam_threshold: float | None = None,
        lm: NgramLM | None = None,
        lm_weight: float = 0.0,
        insertion_bonus: float = 0.0,
        settle_after: int | None = None,
    ) -> None:
        if settle_after is not None and settle_after < 1:
            raise ConfigError(f"beam search: settle_after {settle_after}; expected at least 1 frame")
        self._settings = SearchSettings.checked(beam, beam_threshold, lm, lm_weight, insertion_bonus)
        self._search: Search | None = None  # its number of classes comes with the first frames
        self._num_frames = 0
        self._settle_after = settle_after
        self._num_committed = self._num_settled = 0  # tokens; the latter will be when the next are counted

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames (t, V)."""
        log_probs = _as_frames(log_probs)
        if self._search is None:
            self._search = self._settings.start(log_probs.shape[1])
        elif log_probs.shape[1] != self._search.num_classes:
            raise ModelError(
                f"beam search: {log_probs.shape[1]} classes; expected {self._search.num_classes} as before"
            )
        while len(log_probs):
            until = len(log_probs)
            if self._settle_after is not None:
                until = self._settle_after - self._num_frames % self._settle_after
            bad_frame = self._search.advance(log_probs[:until])
            if bad_frame >= 0:
                raise _refuse(self._num_frames + bad_frame)
            self._num_frames += len(log_probs[:until])
            log_probs = log_probs[until:]
            if self._settle_after is not None and self._num_frames % self._settle_after == 0:
                self._search.settle(self._num_settled - self._num_committed)
                self._num_settled = self._num_committed + sum(len(best[0]) for best in self._search.best(1, False))

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """The best labellings of the frames so far, best first; what was committed is left out of their `tokens`.

        The numbers are of the whole labelling, without </s>: it may go on.
        """
        return self._best(num_best, is_end=False)

    def finish(self, num_best: int = 1) -> list[BeamResult]:
        """As best, if the utterance ends here: with </s>. The search may go on nevertheless."""
        return self._best(num_best, is_end=True)

    def commit(self) -> tuple[int, ...]:
        """Hand over the tokens that all labellings in the beam begin with, and which nothing can change any more.

        Each is handed over once; later results begin after them.
        """
        tokens = () if self._search is None else self._search.commit()
        self._num_committed += len(tokens)
        return tokens

    def _best(self, num_best: int, is_end: bool) -> list[BeamResult]:
        num_best = _checked_number(num_best)
        lm = self._settings.lm
        search = self._search or self._settings.start(1 if lm is None else lm.num_classes)
        return [BeamResult(*result) for result in search.best(num_best, is_end)]


class Search(Protocol):
    """What the reference and the kernel have in common; arguments were checked already."""

    num_classes: int

    def advance(self, log_probs: np.ndarray) -> int:
        """Take frames (t, V), float32 or float64, contiguous. Returns -1, or the first frame without use."""

    def best(self, num_best: int, is_end: bool) -> list[tuple[tuple[int, ...], float, float, float]]:
        """The fields of a BeamResult, alignment apart, for each of the best; tokens are those not committed."""

    def settle(self, num_tokens: int) -> None:
        """Keep the prefixes that begin with the best one's first `num_tokens` tokens not committed, or all it has."""

    def commit(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What the searches of many utterances share; `beam_threshold` may be inf."""

    beam: int
    beam_threshold: float
    lm: LmAutomaton | None
    lm_weight: float
    insertion_bonus: float

    @classmethod
    def checked(
        cls, beam: int, beam_threshold: float | None, lm: NgramLM | None, lm_weight: float, insertion_bonus: float
    ) -> SearchSettings:
        """Raises ConfigError as prefix_beam_search."""
        if beam < 1:
            raise ConfigError(f"beam search: beam {beam}; expected at least 1")
        threshold = math.inf if beam_threshold is None else float(beam_threshold)
        if not threshold >= 0:
            raise ConfigError(f"beam search: beam_threshold {beam_threshold}; expected at least 0 nats")
        if not (abs(lm_weight) <= MAX_WEIGHT and abs(insertion_bonus) <= MAX_WEIGHT):
            raise ConfigError(
                f"beam search: lm_weight {lm_weight}, insertion_bonus {insertion_bonus}; "
                f"expected at most {MAX_WEIGHT:.0f} in magnitude"
            )
        automaton = None if lm is None else lm.automaton
        return cls(min(beam, MAX_BEAM), threshold, automaton, float(lm_weight), float(insertion_bonus))

    def start(self, num_classes: int) -> Search:
        """The search of one utterance. Raises ModelError where the language model has another number of classes."""
        if self.lm is not None and num_classes != self.lm.num_classes:
            raise ModelError(
                f"beam search: {num_classes} classes, but the language model is for {self.lm.num_classes - 1} tokens "
                "and the blank; use a language model made with the same token table"
            )
        native = kernel("_beam")
        return ReferenceSearch(num_classes, self) if native is None else native_search(native, num_classes, self)


def _search(log_probs: np.ndarray, settings: SearchSettings, num_best: int, with_times: bool) -> list[BeamResult]:
    log_probs = _as_frames(log_probs)
    search = settings.start(log_probs.shape[1])
    bad_frame = search.advance(log_probs)
    if bad_frame >= 0:
        raise _refuse(bad_frame)
    found = [BeamResult(*result) for result in search.best(num_best, True)]
    if with_times:
        found = [replace(result, alignment=forced_align(log_probs, result.tokens)) for result in found]
    return found


def _checked_number(num_best: int) -> int:
    if num_best < 1:
        raise ConfigError(f"beam search: num_best {num_best}; expected at least 1")
    return min(num_best, MAX_BEAM)


def _as_frames(log_probs: np.ndarray) -> np.ndarray:
    """The array (T, V) as the kernel takes it: float32 or float64, contiguous."""
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.shape[1] < 1:
        raise ModelError(f"beam search: log_probs of shape {log_probs.shape}; expected (frames, classes)")
    if not np.can_cast(log_probs.dtype, np.float64, "same_kind"):
        raise ModelError(f"beam search: log_probs of type {log_probs.dtype}; expected real numbers")
    dtype = np.float32 if log_probs.dtype == np.float32 else np.float64
    return np.require(log_probs, dtype, ["C_CONTIGUOUS", "ALIGNED"])  # archives mapped into memory are not aligned


def _refuse(frame: int) -> ModelError:
    return ModelError(
        f"beam search: frame {frame} of log_probs holds NaN or no possible class; expected natural-log probabilities"
    )


def native_search(native: ModuleType, num_classes: int, settings: SearchSettings) -> Search:
    """ReferenceSearch by the compiled kernel `native`."""
    arrays: tuple[np.ndarray, ...] = ()
    start, lowest, highest = 0, 0.0, np.zeros(0)
    lm = settings.lm
    if lm is not None:
        start, (lowest, highest) = lm.start, lm.bounds
        table = lm.table if len(lm.end) * lm.num_classes <= _MAX_TABLE else None
        if table is not None:
            factors = table.factors(settings.lm_weight, settings.insertion_bonus)
            arrays = (factors, table.log_probs, table.next_context, table.end)
        else:
            arrays = (lm.first_arc, lm.tokens, lm.log_probs, lm.next_context, lm.shorter, lm.backoff, lm.end)
    weights = settings.lm_weight, settings.insertion_bonus
    return native.Search(num_classes, settings.beam, settings.beam_threshold, *weights, start, lowest, highest, *arrays)


class ReferenceSearch:
    """The search in NumPy: the definition of its result.

    The prefixes form a trie with one entry per node in the arrays `_parent`, `_last_token`, `_context` and `_slot_of`:
    those in the beam and those that they continue, besides some that are not needed any more; a parent comes before
    its children. Node 0 is the empty prefix, whose last token is the blank, or the last one that was committed. Its
    parent is -1, which finds the never-used last entry of `_slot_of`.
    """

    def __init__(self, num_classes: int, settings: SearchSettings) -> None:
        self.num_classes = num_classes
        self._settings = settings
        start = 0 if settings.lm is None else settings.lm.start
        self._parent, self._last_token = np.full(1024, -1), np.zeros(1024, dtype=np.int64)
        self._context = np.full(1024, start)
        self._slot_of = np.full(1024, -1)  # where a node stands in the beam; -1: not there
        self._children: dict[tuple[int, int], int] = {}
        self._num_committed, self._committed_lm_log_prob = 0, 0.0
        # The beam, best prefix first: its nodes, and the log probability of their paths ending in a blank or a token.
        self._nodes = np.zeros(1, dtype=np.int64)
        self._in_blank, self._in_token = np.zeros(1), np.full(1, -np.inf)

    @property
    def num_nodes(self) -> int:
        return len(self._children) + 1

    def advance(self, log_probs: np.ndarray) -> int:
        for t, frame in enumerate(log_probs.astype(np.float64)):
            if not abs(frame.max()) <= MAX_LOG_PROB:
                return t
            self._advance(frame)
        return -1

    def _advance(self, frame: np.ndarray) -> None:
        lm, beam = self._settings.lm, self._settings.beam
        self._reserve(min(beam, len(self._nodes) * self.num_classes))
        nodes, in_blank, in_token = self._nodes, self._in_blank, self._in_token
        slots = np.arange(len(nodes))
        last = self._last_token[nodes]
        total = np.logaddexp(in_blank, in_token)

        # Growing by every token. One equal to the last token is new only after a blank.
        grown = total[:, None] + frame
        grown[slots, last] = in_blank + frame[last]
        if lm is not None:
            grown += self._settings.lm_weight * _lm_rows(lm, self._context[nodes])
        grown += self._settings.insertion_bonus
        grown[:, 0] = -np.inf

        # Staying the same prefix: a blank, or one more frame of the last token. If the parent is in the beam too,
        # its growth by that token is this same prefix and is added here instead.
        in_blank, in_token = total + frame[0], in_token + frame[last]
        self._slot_of[nodes] = slots
        parent_slot = self._slot_of[self._parent[nodes]]
        self._slot_of[nodes] = -1
        joins = np.flatnonzero(parent_slot >= 0)
        source = parent_slot[joins], last[joins]
        in_token[joins] = np.logaddexp(in_token[joins], grown[source])
        grown[source] = -np.inf

        scores = np.concatenate([np.logaddexp(in_blank, in_token), grown.ravel()])
        best = _best(scores, beam)
        best = best[scores[best] >= scores[best[:1]] - self._settings.beam_threshold]

        is_new = best >= len(nodes)
        stay = np.where(is_new, 0, best)
        grown_from, token = np.divmod(best[is_new] - len(nodes), self.num_classes)
        self._in_blank = np.where(is_new, -np.inf, in_blank[stay])
        self._in_token = np.where(is_new, scores[best], in_token[stay])
        origin, self._nodes = nodes[grown_from], nodes[stay]
        # A prefix that was pruned can come back while its own continuations are still in the beam: looking it up
        # gives it its old node, so that they find their parent.
        num_known = len(self._children)
        edges = zip(origin.tolist(), token.tolist(), strict=True)
        child = np.array([self._children.setdefault(edge, self.num_nodes) for edge in edges], dtype=np.int64)
        self._nodes[is_new] = child
        self._parent[child], self._last_token[child] = origin, token
        if lm is not None:
            first_met = child > num_known
            before = self._context[origin[first_met]]
            for node, context, phone in zip(child[first_met], before, token[first_met], strict=True):
                self._context[node] = lm.step(context, phone)[0]

    def best(self, num_best: int, is_end: bool) -> list[tuple[tuple[int, ...], float, float, float]]:
        lm, lm_weight = self._settings.lm, self._settings.lm_weight
        score = np.logaddexp(self._in_blank, self._in_token)
        end = np.zeros(len(score)) if lm is None or not is_end else lm.end[self._context[self._nodes]]
        results = []
        for i in _best(score + lm_weight * end, num_best):
            tokens, lm_log_prob = self._spell(self._nodes[i])
            num_tokens = self._num_committed + len(tokens)
            ctc_log_prob = float(score[i]) - lm_weight * lm_log_prob - self._settings.insertion_bonus * num_tokens
            results.append((tokens, float(score[i] + lm_weight * end[i]), ctc_log_prob, lm_log_prob + float(end[i])))
        return results

    def settle(self, num_tokens: int) -> None:
        found = [self._spell(node)[0] for node in self._nodes]
        begin = found[0][: max(0, num_tokens)] if found else ()
        is_kept = np.array([tokens[: len(begin)] == begin for tokens in found], dtype=bool)
        self._nodes, self._in_blank, self._in_token = (
            array[is_kept] for array in (self._nodes, self._in_blank, self._in_token)
        )

    def commit(self) -> tuple[int, ...]:
        common = int(self._nodes[0]) if len(self._nodes) else 0
        for node in self._nodes.tolist():
            while node != common:
                if node > common:
                    node = int(self._parent[node])
                else:
                    common = int(self._parent[common])
        tokens, self._committed_lm_log_prob = self._spell(common)
        self._num_committed += len(tokens)
        self._collect(common)
        return tokens

    def _spell(self, node: int) -> tuple[tuple[int, ...], float]:
        """The tokens from node 0 to `node`, and the language model's log probability of all with those committed."""
        tokens = []
        while node != 0:
            tokens.append(int(self._last_token[node]))
            node = self._parent[node]
        tokens.reverse()
        lm, context, lm_log_prob = self._settings.lm, int(self._context[0]), self._committed_lm_log_prob
        if lm is not None:
            for token in tokens:
                context, log_prob = lm.step(context, token)
                lm_log_prob += log_prob
        return tuple(tokens), lm_log_prob

    def _reserve(self, count: int) -> None:
        """Room for `count` more nodes, beside the entry that is never used."""
        if self.num_nodes + count < len(self._parent):
            return
        self._collect(0)
        while 2 * (self.num_nodes + count) >= len(self._parent):
            self._parent, self._slot_of = (
                np.concatenate([array, np.full(len(array), -1)]) for array in (self._parent, self._slot_of)
            )
            self._last_token, self._context = (
                np.concatenate([array, np.zeros_like(array)]) for array in (self._last_token, self._context)
            )

    def _collect(self, root: int) -> None:
        """Let `root`, which all prefixes of the beam continue, be node 0; forget nodes that none of them continues.

        Those cannot come back but as new ones: a prefix only ever grows from one that is in the beam.
        """
        is_kept = np.zeros(len(self._parent), dtype=bool)
        is_kept[root] = True
        for node in self._nodes.tolist():
            while not is_kept[node]:
                is_kept[node] = True
                node = self._parent[node]
        kept = np.flatnonzero(is_kept)
        number = np.cumsum(is_kept) - 1
        self._nodes = number[self._nodes]
        for array in (self._last_token, self._context):
            array[: len(kept)] = array[kept]
        self._parent[1 : len(kept)] = number[self._parent[kept[1:]]]
        self._parent[0] = -1
        edges = zip(self._parent[1 : len(kept)].tolist(), self._last_token[1 : len(kept)].tolist(), strict=True)
        self._children = {edge: node for node, edge in enumerate(edges, 1)}


def _best(scores: np.ndarray, number: int) -> np.ndarray:
    """Indices of the `number` highest scores above -inf, highest first, equal ones by index."""
    floor = np.partition(scores, -number)[-number] if number < len(scores) else -np.inf
    candidates = np.flatnonzero((scores >= floor) & (scores > -np.inf))
    return candidates[np.argsort(-scores[candidates], kind="stable")[:number]]


def _lm_rows(lm: LmAutomaton, contexts: np.ndarray) -> np.ndarray:
    """(n, V) natural log probabilities of each class after each of n contexts."""
    if lm.table is not None:
        return lm.table.log_probs[contexts]
    return np.array([lm.row(context) for context in contexts]).reshape(len(contexts), lm.num_classes)
