"""How far the boundaries between phones, and the spans of phones, are from true times."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np

from asrkit.errors import DataError
from asrkit.lang.symbols import symbol_warnings
from asrkit.scoring.align import align
from asrkit.types import PhoneTime

TOLERANCES_MS = (10, 20, 50)


@dataclass(frozen=True)
class Errors:
    """Signed distances (n,) in seconds, hypothesis minus reference: positive when it is late."""

    seconds: np.ndarray

    def share_within(self, milliseconds: float) -> float:
        """Percent, the tolerance included (to a microsecond, as files have times); NaN when there are none."""
        return 100.0 * _mean(np.abs(self.seconds) <= milliseconds / 1000 + 1e-6)

    @property
    def mean_abs_ms(self) -> float:
        return 1000 * _mean(np.abs(self.seconds))

    @property
    def median_abs_ms(self) -> float:
        return 1000 * _median(np.abs(self.seconds))

    @property
    def bias_ms(self) -> float:
        """The median of the signed distances."""
        return 1000 * _median(self.seconds)

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON (which has no NaN: null)."""
        values = {f"within_{ms}_ms": self.share_within(ms) for ms in TOLERANCES_MS}
        values |= {name: getattr(self, name) for name in ("mean_abs_ms", "median_abs_ms", "bias_ms")}
        return {"num": len(self.seconds), **{k: None if math.isnan(v) else round(v, 4) for k, v in values.items()}}


@dataclass(frozen=True)
class BoundaryResult:
    """What comparing two sets of phone times gives.

    Attributes:
        num_phones, num_hyp, num_right: phones of the references, of the hypotheses, and pairs of the same phone.
        num_boundaries: boundaries of the references, those between two neighbouring phones.
        boundaries: errors of those between two pairs that are neighbours on both sides.
        starts: by phone, errors of its starts, those of `boundaries` that lead into it.
        overlap: mean over the pairs of the part of both spans' union that they share.
        num_missing: utterances of the references without any phone in the hypotheses.
        warnings: symbols of the two that are not what they seem, a line each.
    """

    num_phones: int
    num_hyp: int
    num_right: int
    num_boundaries: int
    boundaries: Errors
    starts: Mapping[str, Errors]
    overlap: float
    num_missing: int
    warnings: Sequence[str] = ()

    def line(self) -> str:
        errors = self.boundaries
        if not len(errors.seconds):
            return f"boundaries: no two neighbours are right [ 0 of {self.num_boundaries} ]"
        shares = ", ".join(f"{errors.share_within(ms):.1f} % within {ms} ms" for ms in TOLERANCES_MS)
        return (
            f"boundaries {shares}; mean {errors.mean_abs_ms:.1f} ms, median {errors.median_abs_ms:.1f} ms "
            f"[ {len(errors.seconds)} of {self.num_boundaries} ]"
        )

    def to_dict(self) -> dict[str, object]:
        counts = ("num_phones", "num_hyp", "num_right", "num_boundaries", "num_missing")
        return {
            **{name: getattr(self, name) for name in counts},
            "overlap": None if math.isnan(self.overlap) else round(self.overlap, 4),
            "boundaries": self.boundaries.to_dict(),
            "starts": {phone: errors.to_dict() for phone, errors in self.starts.items()},
        }


def compare_times(
    refs: Mapping[str, Sequence[PhoneTime]],
    hyps: Mapping[str, Sequence[PhoneTime]],
    *,
    ref_name: str = "references",
    hyp_name: str = "hypotheses",
) -> BoundaryResult:
    """Compare phone times by utterance, over the phones that are right.

    Phones are paired by an alignment with the fewest edits, whatever their times. A boundary is where one phone meets
    the next: the middle between the end of the one and the start of the other. So the outer edges of an utterance,
    which are often those of the audio, are none.

    Raises:
        DataError: hypotheses of an utterance that the references lack; `ref_name` and `hyp_name` stand for the files.
    """
    if strangers := [utt for utt in hyps if utt not in refs]:
        more = f" and {len(strangers) - 1} more" if strangers[1:] else ""
        raise DataError(f"{hyp_name}: utterance {strangers[0]}{more} not in {ref_name}; compare times of the same data")
    tally = BoundaryTally()
    for utt, ref in refs.items():
        tally.add(ref, hyps.get(utt, ()))
    return tally.result(ref_name, hyp_name)


class BoundaryTally:
    """The figures of phone times that are compared one utterance after the other; it takes 16 bytes a boundary."""

    def __init__(self) -> None:
        self._errors, self._overlaps = array("d"), array("d")
        self._into: dict[str, array[float]] = {}
        self._phones: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self._num_boundaries = self._num_missing = 0

    def add(self, ref: Sequence[PhoneTime], hyp: Sequence[PhoneTime]) -> None:
        """Compare the true times of an utterance with those of what was found, as `compare_times` does."""
        pairs = _right_pairs([time.phone for time in ref], [time.phone for time in hyp])
        self._overlaps.extend(_overlap(ref[i], hyp[j]) for i, j in pairs)
        for (i, j), (next_i, next_j) in pairwise(pairs):
            if (next_i, next_j) == (i + 1, j + 1):
                error = _boundary(hyp[j], hyp[next_j]) - _boundary(ref[i], ref[next_i])
                self._errors.append(error)
                self._into.setdefault(ref[next_i].phone, array("d")).append(error)
        for phones, times in zip(self._phones, (ref, hyp), strict=True):
            phones.update(time.phone for time in times)
        self._num_boundaries += max(len(ref) - 1, 0)
        self._num_missing += not hyp

    def result(self, ref_name: str = "references", hyp_name: str = "hypotheses") -> BoundaryResult:
        """The figures; warnings call the two by these names."""
        ref_phones, hyp_phones = self._phones
        return BoundaryResult(
            num_phones=ref_phones.total(),
            num_hyp=hyp_phones.total(),
            num_right=len(self._overlaps),
            num_boundaries=self._num_boundaries,
            boundaries=Errors(np.array(self._errors)),
            starts={phone: Errors(np.array(of_phone)) for phone, of_phone in sorted(self._into.items())},
            overlap=_mean(np.array(self._overlaps)),
            num_missing=self._num_missing,
            warnings=symbol_warnings({ref_name: ref_phones, hyp_name: hyp_phones}),
        )


def _right_pairs(ref: Sequence[str], hyp: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of the phones that an alignment pairs as the same."""
    if list(ref) == list(hyp):
        return [(i, i) for i in range(len(ref))]
    # The end that both have: an alignment is traced from there, and would pair it, too.
    num_last = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(ref), reversed(hyp), strict=False))
    )
    last = [(len(ref) - place, len(hyp) - place) for place in range(num_last, 0, -1)]
    positions, i, j = [], 0, 0
    for left, right in align(ref[: len(ref) - num_last], hyp[: len(hyp) - num_last]):
        if left is not None and left == right:
            positions.append((i, j))
        i += left is not None
        j += right is not None
    return positions + last


def _boundary(left: PhoneTime, right: PhoneTime) -> float:
    return (left.end + right.start) / 2


def _overlap(a: PhoneTime, b: PhoneTime) -> float:
    union = max(a.end, b.end) - min(a.start, b.start)
    return max(min(a.end, b.end) - max(a.start, b.start), 0.0) / union if union > 0 else 0.0


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan
