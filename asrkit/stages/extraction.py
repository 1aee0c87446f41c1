"""Stage 1: features and CMVN statistics of data directories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.config.experiment_config import load_config
from asrkit.errors import AsrkitError
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.findings import Findings
from asrkit.inference.find_model import find_model
from asrkit.inference.onnx_model import read_model_metadata


@dataclass(frozen=True)
class Extraction:
    """What became of data directories.

    Attributes:
        written: those whose features were computed now.
        up_to_date: those where nothing had changed, and nothing was written.
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
    """Write the features of all utterances of each data directory into it, unless they are up to date.

    One directory may be given by itself. A directory that fails does not keep the others from being done.
    `features.extract.extract_data_dir` says what is written.

    Args:
        num_jobs: processes that compute features.
        force: compute and write anew what is up to date.
        report: gets each directory that is done, and whether its features were written now.

    Raises:
        AsrkitError: directories whose tables are faulty, audio that cannot be used, files that cannot be written, and a
            backend that cannot be loaded; one line for each fault.
    """
    findings = Findings()
    done: dict[Path, bool] = {}
    for data_dir in map(Path, [data_dirs] if isinstance(data_dirs, str | Path) else data_dirs):
        try:
            done[data_dir] = extract_data_dir(data_dir, features, num_jobs=num_jobs, access=access, force=force)
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


def model_features(name: str | Path) -> FeatureConfig:
    """The settings of the features that a trained model takes. Raises ModelError as find_model, and for damage."""
    found = find_model(name)
    if found.is_dir() and (found / "config.yaml").is_file():
        return load_config(found / "config.yaml").features
    return read_model_metadata(found / "final.onnx" if found.is_dir() else found).features
