"""Stage 1: features and CMVN statistics of data directories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.config.experiment_config import load_config
from asrkit.errors import AsrkitError
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.findings import Findings
from asrkit.formats.shards import shards_of
from asrkit.inference.find_model import find_model
from asrkit.inference.onnx_model import read_model_metadata


@dataclass(frozen=True)
class Extraction:
    """The result of extracting features.

    Attributes:
        written: the data directories whose features were computed now.
        up_to_date: the data directories in which nothing had changed and nothing was written.
    """

    written: tuple[Path, ...]
    up_to_date: tuple[Path, ...]


def extract(
    data_dirs: str | Path | Iterable[str | Path],
    features: FeatureConfig,
    *,
    access: AudioAccess = AudioAccess(),
    num_jobs: int = 1,
    force: bool = False,
    report: Callable[[Path, bool], None] | None = None,
) -> Extraction:
    """Write the features of all utterances into each data directory, unless they are up to date.

    A single directory can be given without a list. One that holds shards (see formats/shards.py) and no wav.scp stands
    for its shards. If one directory fails, the others are still processed.
    `features.extract.extract_data_dir` documents the files.

    Args:
        data_dirs: the data directories.
        features: the settings.
        access: how to reach audio.
        num_jobs: the number of processes that compute features.
        force: compute and write again even if everything is up to date.
        report: is called with each finished directory, and whether its features were written now.

    Raises:
        AsrkitError: tables are faulty, audio cannot be used, files cannot be written, or a backend cannot be loaded;
            one line per fault.
    """
    make = partial(extract_data_dir, config=features, num_jobs=num_jobs, access=access, force=force)
    return _extract_each(data_dirs, make, report)


def extract_without_archives(
    data_dirs: str | Path | Iterable[str | Path],
    features: FeatureConfig,
    *,
    access: AudioAccess = AudioAccess(),
    num_jobs: int = 1,
    force: bool = False,
    report: Callable[[Path, bool], None] | None = None,
) -> Extraction:
    """Like `extract`, but store no features: they are computed from the audio whenever they are read, to the same bits.

    Raises:
        AsrkitError: as `extract`; or wav.scp has a command, or the results of the backend vary with the number of
            threads.
    """
    make = partial(extract_data_dir, config=features, num_jobs=num_jobs, access=access, force=force, archives=False)
    return _extract_each(data_dirs, make, report)


def _extract_each(
    data_dirs: str | Path | Iterable[str | Path],
    make: Callable[[Path], bool],
    report: Callable[[Path, bool], None] | None,
) -> Extraction:
    """Call `make` with each data directory; see `extract`. It returns whether it wrote features."""
    findings = Findings()
    done: dict[Path, bool] = {}
    given = map(Path, [data_dirs] if isinstance(data_dirs, str | Path) else data_dirs)
    for data_dir in chain.from_iterable(map(_plain, given)):
        try:
            done[data_dir] = make(data_dir)
        except AsrkitError as error:
            findings.error(str(error))
            continue
        if report is not None:
            report(data_dir, done[data_dir])
    findings.raise_errors(AsrkitError)
    return Extraction(
        tuple(data_dir for data_dir, is_new in done.items() if is_new),
        tuple(data_dir for data_dir, is_new in done.items() if not is_new),
    )


def _plain(data_dir: Path) -> list[Path]:
    """The shards of a directory that has no audio itself; any other directory alone."""
    return [data_dir] if (data_dir / "wav.scp").exists() else shards_of(data_dir) or [data_dir]


def model_features(name: str | Path) -> FeatureConfig:
    """The feature settings of a trained model.

    Raises:
        ModelError: as find_model, or the model is damaged.
    """
    found = find_model(name)
    if found.is_dir() and (found / "config.yaml").is_file():
        return load_config(found / "config.yaml").features
    return read_model_metadata(found / "final.onnx" if found.is_dir() else found).features
