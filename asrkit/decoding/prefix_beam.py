"""CTC prefix beam search with a phone n-gram language model (Graves 2006; Hannun et al. 2014).

A prefix is a labelling. All paths that lead to it are summed, so within the beam its score is exact: no frame is
skipped and no token is pruned except by the beam. The search takes one frame at a time, so it also works for streams.
`reference_beam.ReferenceBeam` defines the result. The compiled kernel `asrkit._native._beam` gives the same result and
is used if it was built, unless the language model is a network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import ClassVar

import numpy as np

from asrkit._native import kernel
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forward import total_scores
from asrkit.decoding.reference_beam import Beam, BeamSettings, ReferenceBeam
from asrkit.decoding.scorer import SearchLm, TokenScorer
from asrkit.decoding.search import UTTS_A_CHUNK, BeamResult
from asrkit.errors import ConfigError, ModelError
from asrkit.lm.automaton import LmAutomaton
from asrkit.parallel import map_in_threads

_MAX_RESULTS = 2**31 - 1
_MAX_TABLE = 2**19  # entries of a dense table: making a larger one takes longer than it saves in an hour of speech


class BeamSearch:
    """Prefix beam search as a search.Search.

    After each frame the `beam` best prefixes are kept, ranked by their score so far. `beam_threshold` also drops those
    that are more than this many nats below the best. </s> is added at the end. Equal scores are ranked in this order:
    prefixes that did not grow first, then by the parent's rank, then by token id. Time grows linearly with the frames.
    The compiled kernel releases Python's global lock. A small language model (contexts x classes) is used as a dense
    table.
    """

    settings: ClassVar[frozenset[str]] = frozenset({"beam", "beam_threshold", "lm_weight", "insertion_bonus"})
    is_batched: ClassVar[bool] = False
    takes_streams: ClassVar[bool] = True
    sums_paths: ClassVar[bool] = True

    def __init__(self, config: DecodingConfig, lm: SearchLm | None = None) -> None:
        threshold = math.inf if config.beam_threshold is None else config.beam_threshold
        self.scorer = TokenScorer(lm, config.lm_weight, config.insertion_bonus)
        self.max_results = config.beam
        self._beams = Beams(BeamSettings(self.max_results, threshold, self.scorer))

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """As Search.decode, for `log_probs` (T, V).

        Raises ModelError as there, and ConfigError for num_best below 1.
        """
        num_best = _checked_number(num_best)
        log_probs = _as_frames(log_probs)
        beam = self._beams.start(log_probs.shape[1])
        bad_frame = beam.advance(log_probs)
        if bad_frame >= 0:
            raise _bad_frame_error(bad_frame)
        return [BeamResult(*result) for result in beam.best(num_best, True)]

    def total_scores(self, log_probs: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """As Search.total_scores: (n,) from `log_probs` (T, V)."""
        return total_scores(log_probs, labelings, self.scorer)

    def emissions(self, log_probs: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """As Search.emissions: the `log_probs` (T, V) themselves."""
        return log_probs

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """As Search.decode_all, for `utterances` (T, V) each. Raises ConfigError and ModelError as there."""
        if num_threads < 1:
            raise ConfigError(f"beam search: num_threads {num_threads}; expected at least 1")
        results: list[list[BeamResult]] = []
        decode = partial(self.decode, num_best=num_best)
        try:
            num_threads = max(1, min(num_threads, len(utterances)))
            for result in map_in_threads(decode, utterances, num_threads, chunk_size=UTTS_A_CHUNK):
                results.append(result)
        except ModelError as error:
            raise ModelError(f"utterance {len(results)}: {error}") from None
        return results

    def stream(self, settle_after: int | None = None) -> BeamStream:
        """As Search.stream. Raises ConfigError for settle_after below 1."""
        return BeamStream(self._beams, settle_after)


class BeamStream:
    """BeamSearch of an utterance whose frames come in pieces, as a search.SearchStream.

    However the frames are cut, results equal those of the whole utterance, bit for bit. After an error the search
    cannot be used any more. Only one thread may use it at a time.

    Two prefixes that differ in one early token, and are equal since, stay in the beam together until better rivals
    displace them. So `commit` may wait long for tokens that all prefixes share. With `settle_after` (frames), older
    tokens follow the best prefix. After every `settle_after` frames, the stream compares the prefixes with the tokens
    that the best one had `settle_after` frames ago, and drops those that differ. Of two prefixes that are equal since,
    the better one stays better, so little is lost, and rivals get more room in the beam. Nothing is dropped in the
    first 2 * `settle_after` frames. Memory then does not grow if `commit` is called now and then; otherwise it grows by
    some bytes per token.

    Raises ConfigError for settle_after below 1.
    """

    def __init__(self, beams: Beams, settle_after: int | None = None) -> None:
        if settle_after is not None and settle_after < 1:
            raise ConfigError(f"beam search: settle_after {settle_after}; expected at least 1 frame")
        self._beams = beams
        self._beam: Beam | None = None  # made with the first frames, which give the number of classes
        self._num_frames = 0
        self._settle_after = settle_after
        self._num_committed = self._num_settled = 0  # numbers of tokens; the second is that of the next settling

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames `log_probs` (t, V). Raises ModelError as Search.decode."""
        log_probs = _as_frames(log_probs)
        if self._beam is None:
            self._beam = self._beams.start(log_probs.shape[1])
        elif log_probs.shape[1] != self._beam.num_classes:
            raise ModelError(f"beam search: {log_probs.shape[1]} classes; expected {self._beam.num_classes} as before")
        while len(log_probs):
            until = len(log_probs)
            if self._settle_after is not None:
                until = self._settle_after - self._num_frames % self._settle_after
            bad_frame = self._beam.advance(log_probs[:until])
            if bad_frame >= 0:
                raise _bad_frame_error(self._num_frames + bad_frame)
            self._num_frames += len(log_probs[:until])
            log_probs = log_probs[until:]
            if self._settle_after is not None and self._num_frames % self._settle_after == 0:
                self._beam.settle(self._num_settled - self._num_committed)
                self._num_settled = self._num_committed + sum(len(best[0]) for best in self._beam.best(1, False))

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """As SearchStream.best. Raises ConfigError for num_best below 1."""
        return self._best(num_best, is_end=False)

    def finish(self, num_best: int = 1) -> list[BeamResult]:
        """As SearchStream.finish. Raises ConfigError for num_best below 1."""
        return self._best(num_best, is_end=True)

    def commit(self) -> tuple[int, ...]:
        """As SearchStream.commit."""
        tokens = () if self._beam is None else self._beam.commit()
        self._num_committed += len(tokens)
        return tokens

    def use_up(self, num_frames: int) -> None:
        """As SearchStream.use_up. A path of CTC has a frame for each phone, so nothing changes."""

    def _best(self, num_best: int, is_end: bool) -> list[BeamResult]:
        num_best = _checked_number(num_best)
        lm = self._beams.settings.scorer.lm
        beam = self._beam or self._beams.start(1 if lm is None else lm.num_classes)
        return [BeamResult(*result) for result in beam.best(num_best, is_end)]


class Beams:
    """Makes the beams of utterances that share settings, with the compiled kernel if it is built."""

    def __init__(self, settings: BeamSettings) -> None:
        self.settings = settings
        self._lm: object = None  # the kernel's form of the language model

    def __reduce__(self) -> tuple[object, ...]:
        return Beams, (self.settings,)  # the kernel's language model cannot be sent to another process

    def start(self, num_classes: int) -> Beam:
        """The beam of one utterance. Raises ModelError if the language model has another number of classes."""
        lm = self.settings.scorer.lm
        if lm is not None and num_classes != lm.num_classes:
            raise ModelError(
                f"beam search: {num_classes} classes, but the language model is for {lm.num_classes - 1} tokens "
                "and the blank; use a language model made with the same token table"
            )
        native = kernel("_beam")
        if native is None or not isinstance(lm, LmAutomaton | None):
            return ReferenceBeam(num_classes, self.settings)
        return self.start_native(native, num_classes)

    def start_native(self, native: ModuleType, num_classes: int) -> Beam:
        """ReferenceBeam as the compiled kernel `native` computes it."""
        scorer = self.settings.scorer
        weights = scorer.lm_weight, scorer.insertion_bonus
        lm = self._native_lm(native, scorer.lm) if isinstance(scorer.lm, LmAutomaton) else None
        beam: Beam = native.Search(num_classes, self.settings.beam, self.settings.beam_threshold, *weights, lm)
        return beam

    def _native_lm(self, native: ModuleType, lm: LmAutomaton) -> object:
        """The language model in the kernel's form, made and checked once."""
        if self._lm is None:
            table = lm.table if len(lm.end) * lm.num_classes <= _MAX_TABLE else None
            arrays: tuple[np.ndarray, ...]
            if table is not None:
                factors = table.factors(self.settings.scorer.lm_weight, self.settings.scorer.insertion_bonus)
                arrays = (factors, table.log_probs, table.next_context, table.end)
            else:
                arrays = (lm.first_arc, lm.tokens, lm.log_probs, lm.next_context, lm.shorter, lm.backoff, lm.end)
            self._lm = native.LanguageModel(lm.num_classes, lm.start, *lm.bounds, *arrays)
        return self._lm


def _checked_number(num_best: int) -> int:
    if num_best < 1:
        raise ConfigError(f"beam search: num_best {num_best}; expected at least 1")
    return min(num_best, _MAX_RESULTS)


def _as_frames(log_probs: np.ndarray) -> np.ndarray:
    """The array (T, V) in the kernel's form: float32 or float64, contiguous."""
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.shape[1] < 1:
        raise ModelError(f"beam search: log_probs of shape {log_probs.shape}; expected (frames, classes)")
    if not np.can_cast(log_probs.dtype, np.float64, "same_kind"):
        raise ModelError(f"beam search: log_probs of type {log_probs.dtype}; expected real numbers")
    dtype = np.float32 if log_probs.dtype == np.float32 else np.float64
    return np.require(log_probs, dtype, ["C_CONTIGUOUS", "ALIGNED"])  # archives mapped into memory are not aligned


def _bad_frame_error(frame: int) -> ModelError:
    return ModelError(
        f"beam search: frame {frame} of log_probs holds NaN or no possible class; expected natural-log probabilities"
    )
