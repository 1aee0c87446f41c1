"""How far phone boundaries and spans are from the true ones."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asrkit.errors import DataError
from asrkit.formats.ctm import TimeColumns
from asrkit.lang.symbols import symbol_warnings
from asrkit.scoring.align import align
from asrkit.types import PhoneTime

TOLERANCES_MS = (10, 20, 50)


@dataclass(frozen=True)
class Errors:
    """Signed time differences, hypothesis minus reference. A positive value is a late boundary.

    Attributes:
        seconds: (n,) float64, in seconds.
    """

    seconds: np.ndarray

    def share_within(self, milliseconds: float) -> float:
        """Percent of the errors that are at most `milliseconds` long; NaN when there are none.

        Times in files are rounded to a microsecond, so an error may be one microsecond longer.
        """
        return 100.0 * _mean(np.abs(self.seconds) <= milliseconds / 1000 + 1e-6)

    @property
    def mean_abs_ms(self) -> float:
        """Mean absolute error in milliseconds; NaN when there are none."""
        return 1000 * _mean(np.abs(self.seconds))

    @property
    def median_abs_ms(self) -> float:
        """Median absolute error in milliseconds; NaN when there are none."""
        return 1000 * _median(np.abs(self.seconds))

    @property
    def bias_ms(self) -> float:
        """Median signed error in milliseconds; NaN when there are none."""
        return 1000 * _median(self.seconds)

    def to_dict(self) -> dict[str, float | int | None]:
        """All figures for JSON. JSON has no NaN, so a missing figure is None."""
        values = {f"within_{ms}_ms": self.share_within(ms) for ms in TOLERANCES_MS}
        values |= {name: getattr(self, name) for name in ("mean_abs_ms", "median_abs_ms", "bias_ms")}
        return {"num": len(self.seconds), **{k: None if math.isnan(v) else round(v, 4) for k, v in values.items()}}


@dataclass(frozen=True)
class BoundaryResult:
    """The comparison of two sets of phone times.

    Attributes:
        num_phones: phones of the references.
        num_hyp: phones of the hypotheses.
        num_right: pairs of the same phone.
        num_boundaries: boundaries between two neighbouring phones of the references.
        boundaries: errors of the boundaries between two right pairs that are neighbours in reference and hypothesis.
        starts: phone -> errors of the boundaries that begin this phone. `boundaries` contains these errors, too.
        overlap: mean, over the right pairs, of the intersection of the two spans divided by their union.
        num_missing: utterances of the references that have no phone in the hypotheses.
        warnings: one line for each symbol that looks like another one.
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
        """One line to print: shares within the tolerances in percent, mean and median in milliseconds."""
        errors = self.boundaries
        if not len(errors.seconds):
            return f"boundaries: no two neighbours are right [ 0 of {self.num_boundaries} ]"
        shares = ", ".join(f"{errors.share_within(ms):.1f} % within {ms} ms" for ms in TOLERANCES_MS)
        return (
            f"boundaries {shares}; mean {errors.mean_abs_ms:.1f} ms, median {errors.median_abs_ms:.1f} ms "
            f"[ {len(errors.seconds)} of {self.num_boundaries} ]"
        )

    def to_dict(self) -> dict[str, object]:
        """All figures for JSON: times in milliseconds, shares in percent.

        A missing figure is None, because JSON has no NaN.
        """
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
    """Compare the phone times of each utterance. Only phones that were recognised correctly count.

    An alignment with the fewest edits pairs the phones; times play no part in it. A boundary lies between two
    neighbouring phones: in the middle between the end of the first and the start of the second. The outer edges of an
    utterance are often the edges of the audio, so they do not count.

    Raises:
        DataError: the hypotheses contain an utterance that the references lack. The message calls the two `hyp_name`
            and `ref_name`, which are usually file names.
    """
    if strangers := [utt for utt in hyps if utt not in refs]:
        more = f" and {len(strangers) - 1} more" if strangers[1:] else ""
        raise DataError(f"{hyp_name}: utterance {strangers[0]}{more} not in {ref_name}; compare times of the same data")
    tally = BoundaryTally()
    tally.add(TimeColumns.of([*refs.values()]), TimeColumns.of([hyps.get(utt, ()) for utt in refs]))
    return tally.result(ref_name, hyp_name)


class BoundaryTally:
    """Compares phone times piece by piece. It keeps 12 bytes for each boundary."""

    def __init__(self) -> None:
        self._errors, self._into = array("d"), array("i")  # per boundary: its error, and the number of its phone
        self._numbers: dict[str, int] = {}
        self._phones: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self._num_right = self._num_boundaries = self._num_missing = 0
        self._overlap = 0.0

    def add(self, refs: TimeColumns, hyps: TimeColumns) -> None:
        """Compare the phone times of some utterances, in the same way as `compare_times`."""
        lefts: list[int] = []
        rights: list[int] = []
        for (i, ref_end), (j, hyp_end) in zip(pairwise(refs.bounds), pairwise(hyps.bounds), strict=True):
            ref, hyp = refs.phones[i:ref_end], hyps.phones[j:hyp_end]
            if ref == hyp:
                lefts.extend(range(i, ref_end))
                rights.extend(range(j, hyp_end))
            else:
                for left, right in _right_pairs(ref, hyp):
                    lefts.append(i + left)
                    rights.append(j + right)
            self._num_boundaries += max(len(ref) - 1, 0)
            self._num_missing += not hyp
        of_ref, of_hyp = np.array(lefts, np.int64), np.array(rights, np.int64)
        self._num_right += len(of_ref)
        self._overlap += float(_overlaps(refs, of_ref, hyps, of_hyp).sum())

        is_first = np.zeros(len(refs.phones) + 1, bool)
        is_first[refs.bounds] = True
        meets = (np.diff(of_ref) == 1) & (np.diff(of_hyp) == 1) & ~is_first[of_ref[1:]]
        of_ref, of_hyp = of_ref[1:][meets], of_hyp[1:][meets]
        self._errors.frombytes((_boundaries(hyps, of_hyp) - _boundaries(refs, of_ref)).tobytes())
        for phones, times in zip(self._phones, (refs, hyps), strict=True):
            phones.update(times.phones)
        for phone in self._phones[0]:
            self._numbers.setdefault(phone, len(self._numbers))
        self._into.extend(self._numbers[refs.phones[place]] for place in of_ref.tolist())

    def result(self, ref_name: str = "references", hyp_name: str = "hypotheses") -> BoundaryResult:
        """The figures so far. Warnings use the two names."""
        ref_phones, hyp_phones = self._phones
        errors, into = np.array(self._errors), np.array(self._into)
        led_into = np.flatnonzero(np.bincount(into, minlength=len(self._numbers)))
        names = list(self._numbers)
        return BoundaryResult(
            num_phones=ref_phones.total(),
            num_hyp=hyp_phones.total(),
            num_right=self._num_right,
            num_boundaries=self._num_boundaries,
            boundaries=Errors(errors),
            starts={names[each]: Errors(errors[into == each]) for each in sorted(led_into, key=names.__getitem__)},
            overlap=self._overlap / self._num_right if self._num_right else math.nan,
            num_missing=self._num_missing,
            warnings=symbol_warnings({ref_name: ref_phones, hyp_name: hyp_phones}),
        )


def _right_pairs(ref: Sequence[str], hyp: Sequence[str]) -> list[tuple[int, int]]:
    """Positions (in `ref`, in `hyp`) of the pairs of the same phone."""
    num_last = 0  # common phones at the end; the traceback starts there, so it pairs them, too
    while num_last < min(len(ref), len(hyp)) and ref[-1 - num_last] == hyp[-1 - num_last]:
        num_last += 1
    last = [(len(ref) - place, len(hyp) - place) for place in range(num_last, 0, -1)]
    positions, i, j = [], 0, 0
    for left, right in align(ref[: len(ref) - num_last], hyp[: len(hyp) - num_last]):
        if left == right:
            positions.append((i, j))
        i += left is not None
        j += right is not None
    return positions + last


def _boundaries(times: TimeColumns, places: np.ndarray) -> np.ndarray:
    """Seconds at which the phones at these places begin: the middle between the previous end and this start."""
    return (times.ends[places - 1] + times.starts[places]) / 2


def _overlaps(a: TimeColumns, in_a: np.ndarray, b: TimeColumns, in_b: np.ndarray) -> np.ndarray:
    """For each pair of places: the intersection of the two spans divided by their union."""
    starts, ends = (a.starts[in_a], b.starts[in_b]), (a.ends[in_a], b.ends[in_b])
    unions = np.maximum(*ends) - np.minimum(*starts)
    shared = np.maximum(np.minimum(*ends) - np.maximum(*starts), 0.0)
    return np.divide(shared, unions, out=np.zeros(len(in_a)), where=unions > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan
