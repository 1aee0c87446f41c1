"""Decoding of a data directory's features with a trained experiment.

The results are hypotheses and log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.config.yaml_config import dump_config
from asrkit.decoding.config import DecodingConfig, SearchMethod
from asrkit.decoding.methods import SEARCHES
from asrkit.decoding.search import BeamResult, Search
from asrkit.device import CPU
from asrkit.errors import ConfigError
from asrkit.features.cmvn import CmvnMode
from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import FeatureLoader, feats_input
from asrkit.formats.ctm import write_ctm
from asrkit.formats.data_dir import feats_table
from asrkit.inference.frame_clock import frame_clock
from asrkit.inference.hypothesis import add_times, make_hypothesis
from asrkit.inference.model import Outputs
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.io.ark import ArkReader
from asrkit.io.atomic import atomic_write
from asrkit.io.json_text import json_text
from asrkit.io.lock import lock_dir
from asrkit.io.scp import write_table
from asrkit.io.stamp import File, Product, Stamp
from asrkit.lang.tokens import TokenTable
from asrkit.parallel import map_ordered, track
from asrkit.stages.inputs import DECODE_STAMP, EXTRACT, TRAIN, expect_files
from asrkit.stages.log_probs import LOG_PROBS_STAMP, LogProbStore
from asrkit.types import Hypothesis

if TYPE_CHECKING:
    from asrkit.experiment import Experiment

_AT_ONCE = 256  # utterances of a batched search: enough for batches of similar lengths
_NO_RESULT = ("batch_size", "device", "log_probs")  # options that change no hypothesis, but for rounding


@dataclass(frozen=True)
class DecodeOptions:
    """Settings of a decoding that override the experiment's, and additional outputs.

    Attributes:
        method, beam, lm_weight, insertion_bonus, blank_penalty, ctc_weight, coverage_weight: override those of the
            experiment's DecodingConfig.
        cmvn: mode of CMVN that overrides the experiment's; `asrkit transcribe` uses "speech_utterance".
        nbest: also write this many best labellings per utterance with their scores to nbest.jsonl.
        ctm: also write times and confidences to phones.ctm.
        log_probs: the directory of the log-probabilities; by default the output directory.
        batch_size: number of utterances that go through the network at once. It changes only the speed.
        device: where the network runs: cpu, cuda or cuda:N. Searches run on the CPU.
    """

    method: SearchMethod | None = None
    beam: int | None = None
    lm_weight: float | None = None
    insertion_bonus: float | None = None
    blank_penalty: float | None = None
    ctc_weight: float | None = None
    coverage_weight: float | None = None
    cmvn: CmvnMode | None = None
    nbest: int | None = None
    ctm: bool = False
    log_probs: Path | None = None
    batch_size: int = 32
    device: str = CPU

    @property
    def search_settings(self) -> dict[str, Any]:
        """The settings of the search that are given here."""
        names = [each.name for each in fields(DecodingConfig) if each.name in {own.name for own in fields(self)}]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class Decoding:
    """The output of a decoding: a directory with hyp, decoding.yaml and the requested additional files.

    Attributes:
        out: the directory.
        is_new: True if it was written now, False if it was up to date.
    """

    out: Path
    is_new: bool


def decode(
    experiment: str | Path,
    data_dir: str | Path,
    out: str | Path,
    options: DecodeOptions = DecodeOptions(),
    *,
    num_jobs: int = 1,
    force: bool = False,
) -> Decoding:
    """Decode a data directory with features and write hypotheses to `out`, unless they are up to date.

    Log-probabilities are computed only if those on disk are not up to date.

    Args:
        experiment: the directory of a trained experiment.
        data_dir: the data directory.
        out: the directory to write.
        options: settings that override the experiment's, and additional outputs.
        num_jobs: number of processes of the search, and of threads of the network.
        force: compute and write again even if everything is up to date.

    Raises:
        DataError: files are missing or faulty.
        ModelError: the experiment cannot be loaded.
        ConfigError: the search does not have one of the options, or the device is not there.
    """
    experiment, data_dir, out = Path(experiment), Path(data_dir), Path(out)
    expect_files({experiment / "final.pt": TRAIN, feats_table(data_dir): EXTRACT})
    stamp = Stamp(out / DECODE_STAMP, _inputs(experiment, data_dir, options))
    hyp, nbest, ctm = (out / name for name in ("hyp", "nbest.jsonl", "phones.ctm"))
    log_prob_dir = options.log_probs or out
    if not force and stamp.is_current() and Product(log_prob_dir / LOG_PROBS_STAMP).identity() is not None:
        return Decoding(out, is_new=False)

    from asrkit.experiment import load_experiment  # loads PyTorch

    with lock_dir(out, "decode"), stamp.making() as making:
        trained = load_experiment(experiment)
        search = _make_search(trained, options, experiment)
        for old in (hyp, nbest, ctm):  # so that a killed run leaves nothing to score
            old.unlink(missing_ok=True)
        features = _features(trained, options)
        store = LogProbStore(log_prob_dir, trained, data_dir)
        stored_by = store.stamp(features.cmvn)
        feats = FeatureLoader(data_dir, features, trained.global_cmvn)
        if force or not stored_by.is_current():
            store.write(stored_by, feats, options.batch_size, num_jobs, options.device)
        making.add(stored_by.outputs(), stored_by.path)

        stored = store.open()
        results = _search_all(search, stored, options.nbest or 1, num_jobs)
        if options.nbest:
            _write_nbest(nbest, results, trained.tokens)
        if options.ctm:
            clock = frame_clock(feats.config, trained.config.model)
            timer = PhoneTimer(trained.tokens, clock, search.scorer, trained.calibration, search.emissions)
            best_found = {utt_id: best for utt_id, (best, *_) in results.items()}
            time_found = _TimeFound(timer, stored, feats, best_found)
            write_ctm(ctm, map_ordered(time_found, list(stored), num_jobs, description="times"))
        dump_config(_decoding_config(trained, options), out / "decoding.yaml")
        write_table(
            hyp, {utt_id: " ".join(trained.tokens.decode(best.tokens)) for utt_id, (best, *_) in results.items()}
        )
    return Decoding(out, is_new=True)


def _decoding_config(trained: Experiment, options: DecodeOptions) -> DecodingConfig:
    return replace(trained.config.decoding, **options.search_settings)


def _features(trained: Experiment, options: DecodeOptions) -> FeatureConfig:
    features = trained.config.features
    return replace(features, cmvn=options.cmvn) if options.cmvn else features


def _make_search(trained: Experiment, options: DecodeOptions, directory: Path) -> Search:
    """The search of these options. Raises ConfigError for options that it does not have."""
    config, given = _decoding_config(trained, options), options.search_settings
    search = trained.search_models.search(config)
    if (options.nbest or 1) > search.max_results:
        raise ConfigError(f"--nbest {options.nbest}: {config.method} search keeps fewer; give --method beam --beam N")
    if unused := given.keys() - search.settings - {"method"}:
        names = " ".join(f"--{name.replace('_', '-')}" for name in given if name in unused)
        others = [
            name for name in SEARCHES if unused & trained.search_models.search(replace(config, method=name)).settings
        ]
        remedy = "leave it out" + "".join(f" or give --method {name}" for name in others)
        raise ConfigError(f"{names}: {config.method} search has no such setting; {remedy}")
    if options.lm_weight and trained.lm is None:
        raise ConfigError(
            f"--lm-weight {options.lm_weight:g}: {directory} has no language model; give it one (train --lm)"
        )
    return search


def _search_all(search: Search, stored: ArkReader, num_best: int, num_jobs: int) -> dict[str, list[BeamResult]]:
    """The result of the search for each utterance."""
    utt_ids = list(stored)
    if not search.is_batched:
        found = map_ordered(_SearchStored(search, stored, num_best), utt_ids, num_jobs, description="decoding")
        return dict(zip(utt_ids, found, strict=True))
    results: dict[str, list[BeamResult]] = {}
    for start in track(range(0, len(utt_ids), _AT_ONCE), "decoding"):
        some = utt_ids[start : start + _AT_ONCE]
        results |= zip(some, search.decode_all([stored[utt_id] for utt_id in some], num_jobs, num_best), strict=True)
    return results


@dataclass(frozen=True)
class _SearchStored:
    """A search together with the archive that it reads, for worker processes."""

    search: Search
    stored: ArkReader
    num_best: int

    def __call__(self, utt_id: str) -> list[BeamResult]:
        return self.search.decode(self.stored[utt_id], self.num_best)


@dataclass(frozen=True)
class _TimeFound:
    """A timer, the archives that it reads, and the results of the search, for worker processes."""

    timer: PhoneTimer
    stored: ArkReader
    feats: Mapping[str, np.ndarray]
    best: Mapping[str, BeamResult]

    def __call__(self, utt_id: str) -> Hypothesis:
        best, feats = self.best[utt_id], self.feats[utt_id]
        outputs = Outputs(self.stored[utt_id])
        timed = self.timer.time(outputs, feats, best.tokens, Stretch(utt_id, self.timer.clock.shortest(len(feats))))
        hypothesis = make_hypothesis(utt_id, self.timer.tokens, [best])
        return add_times(hypothesis, timed.times, self.timer.confidences(timed.evidence))


def _write_nbest(path: Path, results: Mapping[str, Iterable[BeamResult]], tokens: TokenTable) -> None:
    with atomic_write(path) as stream:
        for utt_id, each in results.items():
            stream.writelines(_nbest_lines(utt_id, each, tokens))


def _nbest_lines(utt_id: str, results: Iterable[BeamResult], tokens: TokenTable) -> Iterator[str]:
    for rank, result in enumerate(results, 1):
        row = {
            "utt": utt_id,
            "rank": rank,
            "phones": tokens.decode(result.tokens),
            "score": round(result.score, 6),
            "ctc_log_prob": round(result.ctc_log_prob, 6),
            "lm_log_prob": round(result.lm_log_prob, 6),
        }
        yield json_text(row) + "\n"


def _inputs(experiment: Path, data_dir: Path, options: DecodeOptions) -> dict[str, Any]:
    """Everything on which the hypotheses depend."""
    files = [experiment / "final.pt", data_dir / "utt2spk"]
    given = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in _NO_RESULT}
    return {"files": [File(path) for path in files], "feats": feats_input(data_dir), **given}
