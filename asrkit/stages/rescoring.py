"""Rescoring: the best labellings of a search are ranked again with other language models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.config.plain_values import is_of_type
from asrkit.config.yaml_config import dump_config, load_config
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.language_models import read_lm
from asrkit.decoding.tuning import BONUS_UNIT, BONUSES, WEIGHT_UNIT, WEIGHTS, Point, best_point
from asrkit.errors import DataError, location
from asrkit.formats.transcripts import write_transcripts
from asrkit.io.files import read_bytes
from asrkit.io.json_text import parse_json
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp
from asrkit.scoring.per import Counts, pool
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.transcripts import read_references
from asrkit.stages.inputs import DECODE, PREPARE, TRAIN_LM, expect_files

Phones = tuple[str, ...]
_NBEST = "stage 4 (asrkit decode --nbest)"


@dataclass(frozen=True)
class Rescoring:
    """Rescored hypotheses on disk: hyp, and decoding.yaml with the settings.

    Attributes:
        out: the directory.
        config: the settings; None if the directory was up to date.
        total: the errors of the hypotheses, if there are references.
        oracle: the errors of the labellings of the lists that are closest to the references.
    """

    out: Path
    config: DecodingConfig | None = None
    total: Counts | None = None
    oracle: Counts | None = None

    def lines(self) -> list[str]:
        """A summary of the result, a line per fact."""
        if self.config is None:
            return [f"{self.out}: up to date"]
        lines = [f"{self.out}: lm_weight {self.config.lm_weight:g}, insertion_bonus {self.config.insertion_bonus:g}"]
        for name, counts in (("", self.total), ("the best labellings of the lists: ", self.oracle)):
            if counts is not None:
                lines.append(f"{name}PER {counts.per:.2f} % ({counts.num_errors} errors of {counts.num_ref} phones)")
        return lines


@dataclass(frozen=True)
class RescoreOptions:
    """The weight and the insertion bonus, and how they are chosen.

    Attributes:
        lm_weight, insertion_bonus: by default those of the search.
        data: a data directory. Settings that are not given are those with the fewest errors on its transcripts.
        protocol: of scoring, for `data`.
    """

    lm_weight: float | None = None
    insertion_bonus: float | None = None
    data: Path | None = None
    protocol: Protocol = AS_IS


def rescore(
    decode_dir: str | Path,
    lms: Sequence[str | Path],
    out: str | Path,
    options: RescoreOptions = RescoreOptions(),
    *,
    force: bool = False,
) -> Rescoring:
    """Rank the labellings of `decode_dir`/nbest.jsonl by acoustic score + lm_weight LM + insertion_bonus * length.

    The first labelling of each utterance goes to `out`/hyp, unless that is up to date.

    Args:
        decode_dir: the output directory of asrkit decode --nbest.
        lms: language models, which replace that of the search. Several are mixed in equal shares, phone by phone.
        out: the directory to write.
        options: the weight and the insertion bonus.
        force: write again even if everything is up to date.

    Raises:
        DataError: files are missing or faulty.
    """
    decode_dir, out, lm_files = Path(decode_dir), Path(out), [Path(lm) for lm in lms]
    files = [decode_dir / "nbest.jsonl", decode_dir / "decoding.yaml"]
    text = None if options.data is None else options.data / "text"
    made_by = {files[0]: _NBEST, files[1]: DECODE, **dict.fromkeys(lm_files, TRAIN_LM)}
    expect_files(made_by if text is None else {**made_by, text: PREPARE})
    given: dict[str, Any] = {
        "files": [File(path) for path in (*files, *lm_files)],
        "text": File(text) if text else None,
        "settings": [options.lm_weight, options.insertion_bonus, options.protocol.name],
    }
    stamp = Stamp(out / ".rescore.stamp", given)
    if not force and stamp.is_current():
        return Rescoring(out)
    with lock_dir(out, "rescore"), stamp.making():
        config = load_config(files[1], DecodingConfig)
        lists = NbestLists.read(files[0], config, lm_files)
        settings: dict[str, Any] = {"lm_weight": options.lm_weight, "insertion_bonus": options.insertion_bonus}
        config = replace(config, **{name: value for name, value in settings.items() if value is not None})
        total = oracle = None
        if text is not None:
            scored = _Scored(lists, read_references(text), options.protocol)
            point, oracle = scored.tune(config, options), scored.oracle()
            config, total = point.config, point.total
        write_transcripts(out / "hyp", lists.best(config))
        dump_config(config, out / "decoding.yaml")
    return Rescoring(out, config, total, oracle)


@dataclass(frozen=True)
class NbestLists:
    """The labellings of each utterance with their scores, in natural logs.

    Attributes:
        labelings: n labellings, in the order of the search.
        acoustic: (n,) the acoustic scores; with an attention decoder they include coverage.
        lm: (n,) the log probabilities of the language models.
    """

    labelings: Mapping[str, Sequence[Phones]]
    acoustic: Mapping[str, np.ndarray]
    lm: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: Path, config: DecodingConfig, lms: Sequence[Path]) -> NbestLists:
        """Read the file `path`. `config` is that of the search which wrote it. Raises DataError for a faulty file."""
        labelings: dict[str, list[Phones]] = {}
        acoustic: dict[str, list[float]] = {}
        for number, line in enumerate(read_bytes(path).splitlines(), 1):
            try:
                row = parse_json(line.decode())
                utt, phones = row["utt"], tuple(row["phones"])
                scores = [row[name] for name in ("score", "lm_log_prob")]
                if not (is_of_type(utt, str) and all(isinstance(phone, str) for phone in phones)):
                    raise TypeError
                # The rest is the acoustic score, with the coverage of an attention decoder.
                score = float(scores[0] - config.lm_weight * scores[1] - config.insertion_bonus * len(phones))
            except (ValueError, LookupError, TypeError):
                raise DataError(f"{location(path, number)}not a line of asrkit decode --nbest; decode again") from None
            labelings.setdefault(utt, []).append(phones)
            acoustic.setdefault(utt, []).append(score)
        log_probs = _mixed(lms, {phones for each in labelings.values() for phones in each})
        return cls(
            labelings,
            {utt: np.array(scores) for utt, scores in acoustic.items()},
            {utt: np.array([log_probs[phones] for phones in each]) for utt, each in labelings.items()},
        )

    def best(self, config: DecodingConfig) -> dict[str, Phones]:
        """The first labelling of each utterance. Of equals, the one that was first in the search."""
        found = {}
        for utt, labelings in self.labelings.items():
            lens = np.array([len(phones) for phones in labelings])
            scores = self.acoustic[utt] + config.lm_weight * self.lm[utt] + config.insertion_bonus * lens
            found[utt] = labelings[int(scores.argmax())]
        return found


def _mixed(lms: Sequence[Path], labelings: Iterable[Phones]) -> dict[Phones, float]:
    """Natural-log probabilities of labellings. The probability of each phone is the mean over the models."""
    sentences = sorted(labelings)
    lens = [len(phones) + 1 for phones in sentences]
    found = np.array([np.concatenate(read_lm(lm).token_log_probs(sentences)) for lm in lms])
    mixed = np.logaddexp.reduce(found, axis=0) - np.log(len(lms))
    return dict(zip(sentences, np.add.reduceat(mixed, np.cumsum([0, *lens[:-1]])).tolist(), strict=True))


class _Scored:
    """The labellings of the lists with references."""

    def __init__(self, lists: NbestLists, refs: Mapping[str, Phones], protocol: Protocol) -> None:
        if missing := sorted(refs.keys() ^ lists.labelings.keys()):
            raise DataError(f"{missing[0]}: only the transcripts or only the lists have it; decode the data again")
        self._lists, self._refs, self._protocol = lists, refs, protocol
        self._counts: dict[tuple[str, Phones], Counts] = {}

    def tune(self, start: DecodingConfig, options: RescoreOptions) -> Point:
        """The weight and bonus with the fewest errors, ranked as in asrkit tune. Given settings do not change."""
        weights = [start.lm_weight] if options.lm_weight is not None else _grid(WEIGHTS, WEIGHT_UNIT)
        bonuses = [start.insertion_bonus] if options.insertion_bonus is not None else _grid(BONUSES, BONUS_UNIT)
        configs = [replace(start, lm_weight=w, insertion_bonus=b) for w, b in itertools.product(weights, bonuses)]
        return best_point([Point(config, self._count(self._lists.best(config))) for config in configs])

    def oracle(self) -> Counts:
        """The errors of the labelling with the fewest errors in each list."""
        best: dict[str, Counts] = {}
        for rank in range(max(map(len, self._lists.labelings.values()))):
            some = {utt: each[rank] for utt, each in self._lists.labelings.items() if rank < len(each)}
            for utt, counts in zip(some, self._count(some), strict=True):
                if utt not in best or counts.num_errors < best[utt].num_errors:
                    best[utt] = counts
        return pool(best.values())

    def _count(self, hyps: Mapping[str, Phones]) -> tuple[Counts, ...]:
        """The errors of each utterance. Each labelling is scored once."""
        new = {utt: hyp for utt, hyp in hyps.items() if (utt, hyp) not in self._counts}
        if new:
            result = self._protocol.score_part({utt: self._refs[utt] for utt in new}, new)
            self._counts |= {(utt, new[utt]): counts for utt, counts in result.per_utt.items()}
        return tuple(self._counts[pair] for pair in hyps.items())


def _grid(units: range, unit: float) -> list[float]:
    """All multiples of `unit` within tuning's coarse grid."""
    return [round(number * unit, 6) for number in range(units.start, units[-1] + 1)]
