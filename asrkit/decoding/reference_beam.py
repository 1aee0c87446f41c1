"""The beam of one utterance, frame by frame: the definition in NumPy.

Legend: n prefixes in the beam, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrkit.decoding.scorer import TokenScorer
from asrkit.lm.automaton import LmAutomaton

MAX_LOG_PROB = 1e100  # magnitude of the largest entry of a frame: sums over frames stay finite


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """The settings that the searches of many utterances share.

    `beam`: number of prefixes kept after each frame. `beam_threshold`: also drop prefixes that are more than this many
    nats below the best; may be inf.
    """

    beam: int
    beam_threshold: float
    scorer: TokenScorer


class Beam(Protocol):
    """The interface of ReferenceBeam and the compiled kernel; arguments must already be checked."""

    num_classes: int

    def advance(self, log_probs: np.ndarray) -> int:
        """Take frames (t, V), float32 or float64, contiguous. Returns -1, or the first frame without use."""

    def best(self, num_best: int, is_end: bool) -> list[tuple[tuple[int, ...], float, float, float]]:
        """The fields of a BeamResult for each of the best; tokens: those not committed. With `is_end` </s> counts."""

    def settle(self, num_tokens: int) -> None:
        """Keep the prefixes that begin with the best one's first `num_tokens` tokens not committed, or all it has."""

    def commit(self) -> tuple[int, ...]:
        """The tokens, after those committed, that all prefixes begin with; they are committed now."""


class ReferenceBeam:
    """The beam in NumPy: the definition of the search's result.

    The prefixes form a trie with one entry per node in the arrays `_parent`, `_last_token`, `_context` and `_slot_of`:
    those in the beam and those that they continue, besides some that are not needed any more; a parent comes before
    its children. Node 0 is the empty prefix, whose last token is the blank, or the last one that was committed. Its
    parent is -1, which finds the never-used last entry of `_slot_of`.
    """

    def __init__(self, num_classes: int, settings: BeamSettings) -> None:
        self.num_classes = num_classes
        self._settings = settings
        lm = settings.scorer.lm
        start = 0 if lm is None else lm.start
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
        self._reserve(min(self._settings.beam, len(self._nodes) * self.num_classes))
        grown = self._grown_scores(frame)
        in_blank, in_token = self._stayed_scores(frame, grown)
        scores = np.concatenate([np.logaddexp(in_blank, in_token), grown.ravel()])
        best = _best(scores, self._settings.beam)
        best = best[scores[best] >= scores[best[:1]] - self._settings.beam_threshold]

        num_before = len(self._nodes)
        is_new = best >= num_before
        stay = np.where(is_new, 0, best)
        self._in_blank = np.where(is_new, -np.inf, in_blank[stay])
        self._in_token = np.where(is_new, scores[best], in_token[stay])
        grown_from, token = np.divmod(best[is_new] - num_before, self.num_classes)
        origin, self._nodes = self._nodes[grown_from], self._nodes[stay]
        self._nodes[is_new] = self._add_nodes(origin, token)

    def _grown_scores(self, frame: np.ndarray) -> np.ndarray:
        """(n, V) score of each prefix of the beam grown by each token; -inf for the blank."""
        scorer, nodes = self._settings.scorer, self._nodes
        slots, last = np.arange(len(nodes)), self._last_token[nodes]
        grown: np.ndarray = np.logaddexp(self._in_blank, self._in_token)[:, None] + frame
        grown[slots, last] = self._in_blank + frame[last]  # one equal to the last token is new only after a blank
        if scorer.lm is not None:
            grown += scorer.lm_weight * _lm_rows(scorer.lm, self._context[nodes])
        grown += scorer.insertion_bonus
        grown[:, 0] = -np.inf
        return grown

    def _stayed_scores(self, frame: np.ndarray, grown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities (n,), (n,) that the prefixes stay as they are: a blank, or their last token once more.

        If a prefix's parent is in the beam too, its growth by that token is this same prefix: it is taken out of
        `grown` and added here.
        """
        nodes = self._nodes
        last = self._last_token[nodes]
        in_blank = np.logaddexp(self._in_blank, self._in_token) + frame[0]
        in_token = self._in_token + frame[last]
        self._slot_of[nodes] = np.arange(len(nodes))
        parent_slot = self._slot_of[self._parent[nodes]]
        self._slot_of[nodes] = -1
        joins = np.flatnonzero(parent_slot >= 0)
        source = parent_slot[joins], last[joins]
        in_token[joins] = np.logaddexp(in_token[joins], grown[source])
        grown[source] = -np.inf
        return in_blank, in_token

    def _add_nodes(self, origin: np.ndarray, token: np.ndarray) -> np.ndarray:
        """The nodes of the prefixes `origin` grown by `token`, (n,) each.

        A prefix that was pruned can come back while its own continuations are still in the beam: looking it up gives
        it its old node, so that they find their parent.
        """
        num_known = len(self._children)
        edges = zip(origin.tolist(), token.tolist(), strict=True)
        nodes = np.array([self._children.setdefault(edge, self.num_nodes) for edge in edges], dtype=np.int64)
        self._parent[nodes], self._last_token[nodes] = origin, token
        if (lm := self._settings.scorer.lm) is not None:
            is_new = nodes > num_known
            before = self._context[origin[is_new]]
            for node, context, phone in zip(nodes[is_new], before, token[is_new], strict=True):
                self._context[node] = lm.step(context, phone)[0]
        return nodes

    def best(self, num_best: int, is_end: bool) -> list[tuple[tuple[int, ...], float, float, float]]:
        scorer = self._settings.scorer
        lm, lm_weight = scorer.lm, scorer.lm_weight
        score = np.logaddexp(self._in_blank, self._in_token)
        end = np.zeros(len(score)) if lm is None or not is_end else lm.end[self._context[self._nodes]]
        results = []
        for i in _best(score + lm_weight * end, num_best).tolist():
            tokens, lm_log_prob = self._spell(int(self._nodes[i]))
            num_tokens = self._num_committed + len(tokens)
            ctc_log_prob = float(score[i]) - lm_weight * lm_log_prob - scorer.insertion_bonus * num_tokens
            results.append((tokens, float(score[i] + lm_weight * end[i]), ctc_log_prob, lm_log_prob + float(end[i])))
        return results

    def settle(self, num_tokens: int) -> None:
        prefixes = [self._spell(node)[0] for node in self._nodes.tolist()]
        begin = prefixes[0][: max(0, num_tokens)] if prefixes else ()
        is_kept = np.array([tokens[: len(begin)] == begin for tokens in prefixes], dtype=bool)
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
        lm, context, lm_log_prob = self._settings.scorer.lm, int(self._context[0]), self._committed_lm_log_prob
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
