"""Searches with a transducer: step by step, many utterances and all their hypotheses at once.

At each step a hypothesis can get any number of phones, before a blank leads to the next step. After each step the paths
of equal phones are summed. For the times of phones, each phone needs a step that no other has, and equal neighbours
need a step between them (forced_align.py). A hypothesis never gets more phones than the steps so far allow. So every
step ends.

The stored outputs (T, C) of an utterance are CTC's log-probabilities (T, V), if the model has CTC, followed by the
encoder's outputs (T, E).

Legend: N utterances, K hypotheses per utterance, T steps, V classes (class 0 is the blank), U phones, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from asrkit.decoding.batched_search import BatchedSearch, emissions_of, num_ctc_columns
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.scorer import SearchLm, TokenScorer
from asrkit.decoding.search import BeamResult, SearchStream
from asrkit.models.search_transducer import SearchTransducer
from asrkit.models.transducer_lattice import Lattice


class Progress(Protocol):
    """The interface of the search of some utterances, which all have had the same number of steps."""

    def step(self, heard: np.ndarray) -> None:
        """Take the next step `heard` (N, H) of each utterance, as SearchTransducer.hear computes it."""

    def keep(self, number: int) -> None:
        """Continue with only the first `number` utterances."""

    def results(self, row: int, num_best: int, is_end: bool) -> list[BeamResult]:
        """The best labellings of an utterance, with </s> if it ends here, and without committed tokens."""

    def settle(self, num_steps: int) -> None:
        """Drop the labellings that differ from the best one in phones older than `num_steps` steps.

        For one utterance.
        """

    def commit(self) -> tuple[int, ...]:
        """As SearchStream.commit. For one utterance."""

    def use_up(self, num_steps: int) -> None:
        """As SearchStream.use_up. For one utterance."""


class TransducerSearch(BatchedSearch):
    """The common part of the two searches."""

    takes_streams: ClassVar[bool] = True

    def __init__(self, decoder: SearchTransducer):
        self.decoder = decoder

    def begin(self, number: int) -> Progress:
        """The search of `number` utterances, before their first step.

        Raises NotImplementedError; subclasses replace it.
        """
        raise NotImplementedError

    def search_some(self, utterances: Sequence[np.ndarray], num_best: int) -> list[list[BeamResult]]:
        """Like `BatchedSearch.search_some`. `utterances` are stored outputs, each (T, C)."""
        heard = [self.hear(stored) for stored in reversed(utterances)]  # the longest first
        padded = np.zeros((len(heard[0]), len(heard), heard[0].shape[1]), heard[0].dtype)
        for row, steps in enumerate(heard):
            padded[: len(steps), row] = steps
        results: list[list[BeamResult]] = [[] for _ in heard]
        progress, number = self.begin(len(heard)), len(heard)
        for t, steps in enumerate(padded):
            while len(heard[number - 1]) == t:
                number -= 1
                results[number] = progress.results(number, num_best, is_end=True)
            progress.keep(number)
            progress.step(steps[:number])
        for row in range(number):
            results[row] = progress.results(row, num_best, is_end=True)
        return results[::-1]

    def stream(self, settle_after: int | None = None) -> SearchStream:
        """As Search.stream, for stored outputs."""
        return TransducerStream(self, settle_after)

    def total_scores(self, stored: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """As Search.total_scores: (n,) from the outputs `stored` (T, C), summed over all paths of the transducer."""
        heard = self.hear(stored)
        acoustic = [self._lattice(heard, labeling)[0].log_prob for labeling in labelings]
        return np.array([self.scorer.total(*pair) for pair in zip(acoustic, labelings, strict=True)])

    def emissions(self, stored: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """As Search.emissions: (T, V) from the outputs `stored` (T, C). They are CTC's, if the model has CTC.

        Otherwise class v has the probability sum_u g_tu P_tu(v) at step t, and the blank has the rest. g_tu is the
        probability that a path of `tokens` passes step t with u phones.
        """
        if num_ctc := num_ctc_columns(stored, self.decoder):
            return stored[:, :num_ctc]
        return self.scored_emissions(stored, tokens)[0]

    def scored_emissions(self, stored: np.ndarray, tokens: Sequence[int]) -> tuple[np.ndarray, float]:
        """The emissions (T, V) of `tokens` by the transducer, and the natural log of P(tokens).

        `stored` (T, C) are the outputs of the utterance.
        """
        lattice, log_probs = self._lattice(self.hear(stored), tokens)
        return emissions_of(np.einsum("tu,tuv->tv", lattice.passed, np.exp(log_probs))), lattice.log_prob

    def read(self, stored: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """Log-probabilities (T, U + 1, V) at the nodes of `tokens`, from the outputs `stored` (T, C)."""
        return self._lattice(self.hear(stored), tokens)[1]

    def hear(self, stored: np.ndarray) -> np.ndarray:
        """Encoder outputs (T, H) from the outputs `stored` (T, C). Raises ModelError as num_ctc_columns."""
        return self.decoder.hear(stored[:, num_ctc_columns(stored, self.decoder) :].astype(self.decoder.dtype))

    def _lattice(self, heard: np.ndarray, tokens: Sequence[int]) -> tuple[Lattice, np.ndarray]:
        """The paths of `tokens` that the search allows, and the log-probabilities (T, U + 1, V) at their nodes."""
        states, said = self.decoder.start(1)
        rows = [said]
        for token in tokens:
            states, said = self.decoder.say(np.array([token]), states)
            rows.append(said)
        log_probs = self.decoder.log_probs(heard[:, None], np.concatenate(rows))
        ids = np.array(tokens, np.int64)
        needed = np.cumsum(1 + (ids == np.concatenate([[0], ids[:-1]]))) if len(ids) else ids
        return Lattice.of(log_probs, ids, needed <= np.arange(1, len(heard) + 1)[:, None]), log_probs


class GreedyTransducerSearch(TransducerSearch):
    """Takes the most likely of blank and phones at each node.

    blank_penalty (nats) is first subtracted from the blank.
    """

    settings: ClassVar[frozenset[str]] = frozenset({"blank_penalty"})

    def __init__(self, config: DecodingConfig, lm: SearchLm | None, decoder: SearchTransducer):
        super().__init__(decoder)
        self._blank_penalty = config.blank_penalty

    def begin(self, number: int) -> Progress:
        return _Greedy(self.decoder, self._blank_penalty, number)


class _Greedy:
    """One path per utterance."""

    def __init__(self, decoder: SearchTransducer, blank_penalty: float, number: int) -> None:
        self._decoder, self._penalty, self._num_steps = decoder, blank_penalty, 0
        self._states, self._said = decoder.start(number)
        self._totals = np.zeros(number)
        self._last, self._needed = np.zeros((2, number), np.int64)
        self._tokens: list[list[int]] = [[] for _ in range(number)]

    def step(self, heard: np.ndarray) -> None:
        self._num_steps += 1
        rows = np.arange(len(heard))  # without a blank so far
        while len(rows):
            log_probs = self._decoder.log_probs(heard[rows], self._said[rows])
            needed = _needed(self._last[rows], self._needed[rows], log_probs)
            ranked = np.where(needed <= self._num_steps, log_probs, -np.inf)
            ranked[:, 0] = log_probs[:, 0] - self._penalty
            tokens = ranked.argmax(axis=1)
            self._totals[rows] += log_probs[np.arange(len(rows)), tokens]
            rows, tokens = rows[tokens > 0], tokens[tokens > 0]
            if len(rows):
                self._needed[rows] += 1 + (tokens == self._last[rows])
                self._last[rows] = tokens
                self._states[rows], self._said[rows] = self._decoder.say(tokens, self._states[rows])
                for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
                    self._tokens[row].append(token)

    def keep(self, number: int) -> None:
        for name in ("_states", "_said", "_totals", "_last", "_needed"):
            setattr(self, name, getattr(self, name)[:number])

    def results(self, row: int, num_best: int, is_end: bool) -> list[BeamResult]:
        total = float(self._totals[row])
        return [BeamResult(tuple(self._tokens[row]), total, total, 0.0)]

    def settle(self, num_steps: int) -> None:
        pass

    def commit(self) -> tuple[int, ...]:
        found, self._tokens[0] = tuple(self._tokens[0]), []
        return found

    def use_up(self, num_steps: int) -> None:
        """As SearchStream.use_up."""
        self._needed += num_steps


class TransducerBeamSearch(TransducerSearch):
    """Beam search with the score transducer + lm_weight LM + insertion_bonus U.

    After each step `beam` hypotheses remain.

    It is time-synchronous (Saon et al. 2020). Within a step, hypotheses grow phone by phone, the best `beam` each time,
    as long as they could still be among the best after the blank.
    """

    settings: ClassVar[frozenset[str]] = frozenset({"beam", "lm_weight", "insertion_bonus"})
    sums_paths: ClassVar[bool] = True

    def __init__(self, config: DecodingConfig, lm: SearchLm | None, decoder: SearchTransducer):
        super().__init__(decoder)
        self.beam = self.max_results = config.beam
        self.scorer = TokenScorer(lm, config.lm_weight if lm else 0.0, config.insertion_bonus)

    def begin(self, number: int) -> Progress:
        return _Beam(self.decoder, self.scorer, self.beam, number)


class _Hypotheses(NamedTuple):
    """K hypotheses per utterance, by descending score. If the acoustic part is -inf, there is no hypothesis."""

    nodes: np.ndarray  # (N, K) their phones, by number in _Tree
    acoustic: np.ndarray  # (N, K) natural logs, float64, like the next
    lm: np.ndarray  # (N, K)
    contexts: np.ndarray  # (N, K) of the language model
    last: np.ndarray  # (N, K) last phones, 0 before the first
    lengths: np.ndarray  # (N, K)
    needed: np.ndarray  # (N, K) steps that their phones need
    states: np.ndarray  # (N, K, layers, states, H) of the prediction network
    said: np.ndarray  # (N, K, H)

    def choose(self, places: np.ndarray) -> _Hypotheses:
        """The hypotheses at `places` (N, K')."""
        rows = np.arange(len(places))[:, None]
        return _Hypotheses(*(part[rows, places] for part in self))

    def scores(self, scorer: TokenScorer) -> np.ndarray:
        """(N, K), without </s>."""
        found: np.ndarray = self.acoustic + scorer.lm_weight * self.lm + scorer.insertion_bonus * self.lengths
        return found


class _Beam:
    def __init__(self, decoder: SearchTransducer, scorer: TokenScorer, beam: int, number: int) -> None:
        self._decoder, self._scorer, self._beam = decoder, scorer, beam
        self._num_steps = 0
        self._tree = _Tree(number)
        self._lm = None if scorer.lm is None else scorer.lm.begin()
        zeros, nothing = np.zeros((2, number, 1)), np.zeros((4, number, 1), np.int64)
        contexts = nothing[0] + (0 if self._lm is None else self._lm.start)
        roots = np.arange(number)[:, None]
        self._live = _Hypotheses(
            roots, zeros[0], zeros[1], contexts, *nothing[1:], *(part[:, None] for part in decoder.start(number))
        )

    def step(self, heard: np.ndarray) -> None:
        self._num_steps += 1
        live: _Hypotheses | None = self._live
        ended: list[_Hypotheses] = []
        while live is not None:
            log_probs = self._decoder.log_probs(heard[:, None], live.said)
            ended.append(live._replace(acoustic=live.acoustic + log_probs[:, :, 0]))
            scores = np.concatenate([each.scores(self._scorer) for each in ended], axis=1)
            limits = np.full(len(scores), -np.inf)
            if scores.shape[1] >= self._beam:
                limits = -np.partition(-scores, self._beam - 1, axis=1)[:, self._beam - 1]
            live = self._grow(live, log_probs, limits)
        self._live = self._merged(ended)

    def _grow(self, live: _Hypotheses, log_probs: np.ndarray, limits: np.ndarray) -> _Hypotheses | None:
        """The best hypotheses that are one phone longer, of scores above `limits` (N,); None if there are none."""
        acoustic = live.acoustic[:, :, None] + log_probs
        lm = live.lm[:, :, None] if self._lm is None else live.lm[:, :, None] + self._lm.rows(live.contexts)
        scores = acoustic + self._scorer.lm_weight * lm + self._scorer.insertion_bonus * (live.lengths[:, :, None] + 1)
        needed = _needed(live.last, live.needed, log_probs)
        scores[needed > self._num_steps] = -np.inf
        scores[:, :, 0] = -np.inf
        places = _best(scores.reshape(len(scores), -1), self._beam)
        rows = np.arange(len(places))[:, None]
        found = scores.reshape(len(scores), -1)[rows, places]
        is_kept = found > limits[:, None]
        width = int(is_kept.sum(axis=1).max())  # the kept ones are first
        if width == 0:
            return None
        places, is_kept = places[:, :width], is_kept[:, :width]
        parents, tokens = np.divmod(places, log_probs.shape[2])
        grown = live.choose(parents)
        utts, columns = is_kept.nonzero()
        new = tokens[utts, columns]
        states, said = grown.states, grown.said  # copies
        states[utts, columns], said[utts, columns] = self._decoder.say(new, states[utts, columns])
        nodes = np.full(tokens.shape, -1)
        nodes[utts, columns] = self._tree.grow(grown.nodes[utts, columns].tolist(), new.tolist(), self._num_steps)
        contexts = grown.contexts
        if self._lm is not None:
            contexts[utts, columns] = self._lm.after(contexts[utts, columns], new)
        return _Hypotheses(
            nodes,
            np.where(is_kept, acoustic.reshape(len(acoustic), -1)[rows, places], -np.inf),
            np.broadcast_to(lm, acoustic.shape).reshape(len(acoustic), -1)[rows, places],
            contexts,
            tokens,
            grown.lengths + 1,
            needed.reshape(len(needed), -1)[rows, places],
            states,
            said,
        )

    def _merged(self, ended: Sequence[_Hypotheses]) -> _Hypotheses:
        """The best of all hypotheses, after those of equal phones are merged."""
        found = ended[0]
        if len(ended) > 1:
            found = _Hypotheses(*(np.concatenate(parts, axis=1) for parts in zip(*ended, strict=True)))
            nodes, acoustic = found.nodes.ravel(), found.acoustic.ravel()
            order = nodes.argsort(kind="stable")
            starts = np.flatnonzero(np.diff(nodes[order], prepend=-2))
            sums = np.full(acoustic.shape, -np.inf)
            sums[order[starts]] = np.logaddexp.reduceat(acoustic[order], starts)
            found = found._replace(acoustic=sums.reshape(found.acoustic.shape))
        scores = found.scores(self._scorer)
        width = min(self._beam, int(np.isfinite(scores).sum(axis=1).max()))
        return found.choose(_best(scores, width))

    def keep(self, number: int) -> None:
        self._live = _Hypotheses(*(part[:number] for part in self._live))

    def results(self, row: int, num_best: int, is_end: bool) -> list[BeamResult]:
        live = _Hypotheses(*(part[row : row + 1] for part in self._live))
        if is_end and self._lm is not None:
            live = live._replace(lm=live.lm + self._lm.ends(live.contexts))
        scores = live.scores(self._scorer)[0]
        numbers = zip(
            live.nodes[0].tolist(), scores.tolist(), live.acoustic[0].tolist(), live.lm[0].tolist(), strict=True
        )
        found = [BeamResult(self._tree.path(node), *rest) for node, *rest in numbers if np.isfinite(rest[0])]
        return sorted(found, key=lambda result: -result.score)[:num_best]

    def settle(self, num_steps: int) -> None:
        best = int(self._live.nodes[0, 0])
        paths = [self._tree.nodes_to(node) for node in self._live.nodes[0].tolist()]
        settled = [node for node in self._tree.nodes_to(best) if self._tree.born[node] <= self._num_steps - num_steps]
        if settled:
            kept = [place for place, path in enumerate(paths) if settled[-1] in path]
            self._live = self._live.choose(np.array([kept]))

    def commit(self) -> tuple[int, ...]:
        paths = [self._tree.nodes_to(int(node)) for node in self._live.nodes[0][np.isfinite(self._live.acoustic[0])]]
        shared = [nodes[0] for nodes in zip(*paths, strict=False) if len(set(nodes)) == 1]
        tokens = tuple(self._tree.tokens[node] for node in shared)
        self._tree, renumbered = self._tree.below(shared[-1] if shared else 0, paths)
        nodes = [renumbered.get(node, -1) for node in self._live.nodes[0].tolist()]
        self._live = self._live._replace(nodes=np.array([nodes]))
        return tokens

    def use_up(self, num_steps: int) -> None:
        """As SearchStream.use_up."""
        self._live = self._live._replace(needed=self._live.needed + num_steps)


class _Tree:
    """The labellings of a search as a tree. Each node is a labelling, one phone longer than its parent.

    The first nodes are the empty labellings, one per utterance. Equal labellings of an utterance are one node.
    """

    def __init__(self, number: int) -> None:
        self.parents, self.tokens, self.born = [-1] * number, [0] * number, [0] * number
        self._children: dict[tuple[int, int], int] = {}

    def grow(self, parents: Sequence[int], tokens: Sequence[int], step: int) -> list[int]:
        """The nodes of `parents` followed by `tokens`. `step` is noted in `born` for new nodes."""
        found = []
        for pair in zip(parents, tokens, strict=True):
            node = self._children.setdefault(pair, len(self.parents))
            if node == len(self.parents):
                self.parents.append(pair[0])
                self.tokens.append(pair[1])
                self.born.append(step)
            found.append(node)
        return found

    def nodes_to(self, node: int) -> list[int]:
        """The nodes on the way to `node`, without the empty labelling."""
        found = []
        while self.parents[node] >= 0:
            found.append(node)
            node = self.parents[node]
        return found[::-1]

    def path(self, node: int) -> tuple[int, ...]:
        """The phones of a node."""
        return tuple(self.tokens[each] for each in self.nodes_to(node))

    def below(self, root: int, paths: Sequence[Sequence[int]]) -> tuple[_Tree, dict[int, int]]:
        """The part of the tree below `root` on these paths, and its new numbers by the old ones; for one utterance."""
        tree, numbers = _Tree(1), {root: 0}
        for path in paths:
            for node in path[path.index(root) + 1 :] if root in path else path:
                (numbers[node],) = tree.grow([numbers[self.parents[node]]], [self.tokens[node]], self.born[node])
        return tree, numbers


class TransducerStream:
    """The search of one utterance with a transducer, as a search.SearchStream. Its input are stored outputs."""

    def __init__(self, search: TransducerSearch, settle_after: int | None) -> None:
        self._search, self._settle_after = search, settle_after
        self._progress, self._num_steps = search.begin(1), 0

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next steps `log_probs` (t, C) of the stored outputs.

        Raises ModelError for other shapes or infinite numbers.
        """
        after = self._settle_after
        for steps in self._search.hear(log_probs)[:, None]:
            self._progress.step(steps)
            self._num_steps += 1
            if after and self._num_steps > after and self._num_steps % after == 0:
                self._progress.settle(after)

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """As SearchStream.best."""
        return self._progress.results(0, num_best, is_end=False)

    def finish(self, num_best: int = 1) -> list[BeamResult]:
        """As SearchStream.finish."""
        return self._progress.results(0, num_best, is_end=True)

    def commit(self) -> tuple[int, ...]:
        """As SearchStream.commit."""
        return self._progress.commit()

    def use_up(self, num_frames: int) -> None:
        """As SearchStream.use_up."""
        self._progress.use_up(num_frames)


def _needed(last: np.ndarray, needed: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """The steps (..., V) that each class would need, after phones that end in `last` and need `needed` steps (...)."""
    found: np.ndarray = needed[..., None] + 1 + (np.arange(log_probs.shape[-1]) == last[..., None])
    return found


def _best(scores: np.ndarray, number: int) -> np.ndarray:
    """The places (N, number at most) of the highest scores (N, M), by descending score."""
    if scores.shape[1] > number:
        places = np.argpartition(-scores, number - 1, axis=1)[:, :number]
    else:
        places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    rows = np.arange(len(scores))[:, None]
    found: np.ndarray = places[rows, np.argsort(-scores[rows, places], axis=1, kind="stable")]
    return found
