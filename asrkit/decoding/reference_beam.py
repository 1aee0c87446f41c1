"""The beam of one utterance, frame by frame, in NumPy. It defines the result of the beam search.

Legend: n prefixes in the beam, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrkit.decoding.scorer import TokenScorer

MAX_LOG_PROB = 1e100  # largest magnitude of a frame's best entry; sums over frames stay finite


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """Settings that the searches of many utterances share.

    Attributes:
        beam: the number of prefixes that are kept after each frame.
        beam_threshold: nats; prefixes that are further below the best one are dropped, too. Can be infinite.
        scorer: the language model and the insertion bonus.
    """

    beam: int
    beam_threshold: float
    scorer: TokenScorer


class Beam(Protocol):
    """The interface of ReferenceBeam and of the compiled kernel. The caller must have checked the arguments."""

    num_classes: int

    def advance(self, log_probs: np.ndarray) -> int:
        """Take the frames `log_probs` (t, V), float32 or float64, contiguous.

        Returns -1, or the number of the first bad frame.
        """

    def best(self, num_best: int, is_end: bool) -> list[tuple[tuple[int, ...], float, float, float]]:
        """The fields of a BeamResult for each of the best prefixes.

        Committed tokens are left out. With `is_end`, </s> counts.
        """

    def settle(self, num_tokens: int) -> None:
        """Keep only the prefixes that share the beginning of the best one.

        The beginning has `num_tokens` uncommitted tokens, or all tokens of a shorter prefix.
        """

    def commit(self) -> tuple[int, ...]:
        """Commit the tokens with which all prefixes begin, and return the newly committed ones."""


class ReferenceBeam:
    """The beam in NumPy.

    The prefixes form a trie. The arrays `_parent`, `_last_token`, `_context` and `_slot_of` have one entry per node.
    Nodes are prefixes of the beam, and the prefixes that they continue; some are no longer needed. A parent comes
    before its children. Node 0 is the empty prefix. Its last token is the blank, or the last token that was committed.
    Its parent is -1, which refers to the last entry of `_slot_of`; that entry is never used.
    """

    def __init__(self, num_classes: int, settings: BeamSettings) -> None:
        self.num_classes = num_classes
        self._settings = settings
        lm = settings.scorer.lm
        self._lm = None if lm is None else lm.begin()
        start = 0 if self._lm is None else self._lm.start
        self._parent, self._last_token = np.full(1024, -1), np.zeros(1024, dtype=np.int64)
        self._context = np.full(1024, start)
        self._slot_of = np.full(1024, -1)  # the place of a node in the beam; -1: not in it
        self._children: dict[tuple[int, int], int] = {}
        self._num_committed, self._committed_lm_log_prob = 0, 0.0
        # The beam, best prefix first: nodes, and log probabilities of their paths that end in a blank or in a token.
        self._nodes = np.zeros(1, dtype=np.int64)
        self._in_blank, self._in_token = np.zeros(1), np.full(1, -np.inf)

    @property
    def num_nodes(self) -> int:
        """The number of nodes of the trie."""
        return len(self._children) + 1

    def advance(self, log_probs: np.ndarray) -> int:
        """Take the frames `log_probs` (t, V). Returns -1, or the number of the first bad frame."""
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
        """The score of each prefix of the beam extended by each token, (n, V); -inf for the blank."""
        scorer, nodes = self._settings.scorer, self._nodes
        slots, last = np.arange(len(nodes)), self._last_token[nodes]
        grown: np.ndarray = np.logaddexp(self._in_blank, self._in_token)[:, None] + frame
        grown[slots, last] = self._in_blank + frame[last]  # a repeated token is a new one only after a blank
        if self._lm is not None:
            grown += scorer.lm_weight * self._lm.rows(self._context[nodes])
        grown += scorer.insertion_bonus
        grown[:, 0] = -np.inf
        return grown

    def _stayed_scores(self, frame: np.ndarray, grown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities (n,), (n,) that prefixes do not grow: by a blank, or by their last token again.

        If the beam also contains the parent of a prefix, the parent's growth by that token gives the same prefix. It is
        moved from `grown` to here.
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
        """The nodes of the prefixes `origin` extended by `token`, (n,) each.

        A pruned prefix can return while the beam still contains its continuations. It gets its old node again, so that
        they find their parent.
        """
        num_known = len(self._children)
        edges = zip(origin.tolist(), token.tolist(), strict=True)
        nodes = np.array([self._children.setdefault(edge, self.num_nodes) for edge in edges], dtype=np.int64)
        self._parent[nodes], self._last_token[nodes] = origin, token
        if self._lm is not None:
            is_new = nodes > num_known
            self._context[nodes[is_new]] = self._lm.after(self._context[origin[is_new]], token[is_new])
        return nodes

    def best(self, num_best: int, is_end: bool) -> list[tuple[tuple[int, ...], float, float, float]]:
        """The fields of a BeamResult for each of the best prefixes; see Beam.best."""
        scorer = self._settings.scorer
        lm, lm_weight = self._lm, scorer.lm_weight
        score = np.logaddexp(self._in_blank, self._in_token)
        end = np.zeros(len(score)) if lm is None or not is_end else lm.ends(self._context[self._nodes])
        results = []
        for i in _best(score + lm_weight * end, num_best).tolist():
            tokens, lm_log_prob = self._spell(int(self._nodes[i]))
            num_tokens = self._num_committed + len(tokens)
            ctc_log_prob = float(score[i]) - lm_weight * lm_log_prob - scorer.insertion_bonus * num_tokens
            results.append((tokens, float(score[i] + lm_weight * end[i]), ctc_log_prob, lm_log_prob + float(end[i])))
        return results

    def settle(self, num_tokens: int) -> None:
        """Keep only the prefixes that share the beginning of the best one; see Beam.settle."""
        prefixes = [self._spell(node)[0] for node in self._nodes.tolist()]
        begin = prefixes[0][: max(0, num_tokens)] if prefixes else ()
        is_kept = np.array([tokens[: len(begin)] == begin for tokens in prefixes], dtype=bool)
        self._nodes, self._in_blank, self._in_token = (
            array[is_kept] for array in (self._nodes, self._in_blank, self._in_token)
        )

    def commit(self) -> tuple[int, ...]:
        """Commit the tokens with which all prefixes begin; see Beam.commit."""
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
        """The tokens from node 0 to `node`, and the LM log probability of all tokens, committed ones included."""
        tokens = []
        while node != 0:
            tokens.append(int(self._last_token[node]))
            node = self._parent[node]
        tokens.reverse()
        lm, context, lm_log_prob = self._lm, int(self._context[0]), self._committed_lm_log_prob
        if lm is not None:
            for token in tokens:
                context, log_prob = lm.step(context, token)
                lm_log_prob += log_prob
        return tuple(tokens), lm_log_prob

    def _reserve(self, count: int) -> None:
        """Make room for `count` more nodes, besides the entry that is never used."""
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
        """Make `root`, which all prefixes of the beam continue, node 0. Forget the nodes that no prefix needs.

        These can only return as new nodes, because a prefix grows only from a prefix in the beam.
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
    """Indices of the `number` highest scores above -inf, highest first; equal ones in the order of their indices."""
    floor = np.partition(scores, -number)[-number] if number < len(scores) else -np.inf
    candidates = np.flatnonzero((scores >= floor) & (scores > -np.inf))
    return candidates[np.argsort(-scores[candidates], kind="stable")[:number]]
