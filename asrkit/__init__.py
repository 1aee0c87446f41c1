"""asrkit: phoneme recognition with recurrent networks and CTC.

This module has all names that a program needs: a function for each step of a recipe, the types of their arguments and
results, and `load_recognizer` for a trained model. A name is loaded when it is first used, so `import asrkit` is fast.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers treat it like typing's, and loading typing would take longer than all else here
if TYPE_CHECKING:
    from asrkit.audio import read_audio as read_audio
    from asrkit.audio.access import AudioAccess as AudioAccess
    from asrkit.config.experiment_config import ExperimentConfig as ExperimentConfig
    from asrkit.config.experiment_config import load_config as load_config
    from asrkit.corpora.farsdat import FarsdatOptions as FarsdatOptions
    from asrkit.corpora.own import OwnOptions as OwnOptions
    from asrkit.errors import AsrkitError as AsrkitError
    from asrkit.features.config import FeatureConfig as FeatureConfig
    from asrkit.features.mfcc import FeatureExtractor as FeatureExtractor
    from asrkit.inference.recognizer import Recognizer as Recognizer
    from asrkit.inference.recognizer import load_recognizer as load_recognizer
    from asrkit.scoring.boundaries import BoundaryResult as BoundaryResult
    from asrkit.scoring.protocols import PROTOCOLS as PROTOCOLS
    from asrkit.scoring.protocols import Protocol as Protocol
    from asrkit.stages.adaptation import Adaptation as Adaptation
    from asrkit.stages.adaptation import AdaptationData as AdaptationData
    from asrkit.stages.adaptation import adapt as adapt
    from asrkit.stages.analysis import Analysis as Analysis
    from asrkit.stages.analysis import analyze as analyze
    from asrkit.stages.decoding import DecodeOptions as DecodeOptions
    from asrkit.stages.decoding import Decoding as Decoding
    from asrkit.stages.decoding import decode as decode
    from asrkit.stages.exporting import Export as Export
    from asrkit.stages.exporting import export as export
    from asrkit.stages.extraction import Extraction as Extraction
    from asrkit.stages.extraction import extract as extract
    from asrkit.stages.extraction import extract_without_archives as extract_without_archives
    from asrkit.stages.inputs import DecodedSet as DecodedSet
    from asrkit.stages.lm_training import LmConfig as LmConfig
    from asrkit.stages.lm_training import LmTraining as LmTraining
    from asrkit.stages.lm_training import train_lm as train_lm
    from asrkit.stages.lm_use import Perplexities as Perplexities
    from asrkit.stages.lm_use import perplexities as perplexities
    from asrkit.stages.lm_use import sample_lm as sample_lm
    from asrkit.stages.neural_lm import LmSource as LmSource
    from asrkit.stages.neural_lm import NeuralLmTraining as NeuralLmTraining
    from asrkit.stages.neural_lm import train_neural_lm as train_neural_lm
    from asrkit.stages.pages import PageOptions as PageOptions
    from asrkit.stages.pages import compare_experiments as compare_experiments
    from asrkit.stages.pages import report_experiment as report_experiment
    from asrkit.stages.preparation import Preparation as Preparation
    from asrkit.stages.preparation import prepare_farsdat as prepare_farsdat
    from asrkit.stages.preparation import prepare_mini as prepare_mini
    from asrkit.stages.preparation import prepare_own as prepare_own
    from asrkit.stages.preparation import prepare_speechocean762 as prepare_speechocean762
    from asrkit.stages.preparation import prepare_timit as prepare_timit
    from asrkit.stages.reporting import Report as Report
    from asrkit.stages.reporting import report as report
    from asrkit.stages.rescoring import RescoreOptions as RescoreOptions
    from asrkit.stages.rescoring import Rescoring as Rescoring
    from asrkit.stages.rescoring import rescore as rescore
    from asrkit.stages.scoring import Score as Score
    from asrkit.stages.scoring import SystemComparison as SystemComparison
    from asrkit.stages.scoring import compare as compare
    from asrkit.stages.scoring import compare_boundaries as compare_boundaries
    from asrkit.stages.scoring import score as score
    from asrkit.stages.sharding import Sharding as Sharding
    from asrkit.stages.sharding import split as split
    from asrkit.stages.tables import SystemTable as SystemTable
    from asrkit.stages.tables import tabulate as tabulate
    from asrkit.stages.training import Training as Training
    from asrkit.stages.training import TrainingData as TrainingData
    from asrkit.stages.training import train as train
    from asrkit.stages.tuning import Tuning as Tuning
    from asrkit.stages.tuning import tune as tune
    from asrkit.stages.validation import Inspection as Inspection
    from asrkit.stages.validation import validate as validate
    from asrkit.training.lm_config import NeuralLmConfig as NeuralLmConfig
    from asrkit.training.lm_config import load_lm_config as load_lm_config
    from asrkit.types import AttentionWeights as AttentionWeights
    from asrkit.types import Hypothesis as Hypothesis
    from asrkit.types import PhoneTime as PhoneTime
    from asrkit.types import Waveform as Waveform

__version__ = "0.1.0"

# Module -> its public names. Loads at run time what type checkers see in the imports above.
_NAMES = {
    "asrkit.audio": ["read_audio"],
    "asrkit.audio.access": ["AudioAccess"],
    "asrkit.config.experiment_config": ["ExperimentConfig", "load_config"],
    "asrkit.corpora.farsdat": ["FarsdatOptions"],
    "asrkit.corpora.own": ["OwnOptions"],
    "asrkit.errors": ["AsrkitError"],
    "asrkit.features.config": ["FeatureConfig"],
    "asrkit.features.mfcc": ["FeatureExtractor"],
    "asrkit.inference.recognizer": ["Recognizer", "load_recognizer"],
    "asrkit.scoring.boundaries": ["BoundaryResult"],
    "asrkit.scoring.protocols": ["PROTOCOLS", "Protocol"],
    "asrkit.stages.adaptation": ["Adaptation", "AdaptationData", "adapt"],
    "asrkit.stages.analysis": ["Analysis", "analyze"],
    "asrkit.stages.decoding": ["DecodeOptions", "Decoding", "decode"],
    "asrkit.stages.exporting": ["Export", "export"],
    "asrkit.stages.extraction": ["Extraction", "extract", "extract_without_archives"],
    "asrkit.stages.inputs": ["DecodedSet"],
    "asrkit.stages.lm_training": ["LmConfig", "LmTraining", "train_lm"],
    "asrkit.stages.lm_use": ["Perplexities", "perplexities", "sample_lm"],
    "asrkit.stages.neural_lm": ["LmSource", "NeuralLmTraining", "train_neural_lm"],
    "asrkit.stages.pages": ["PageOptions", "compare_experiments", "report_experiment"],
    "asrkit.stages.preparation": [
        "Preparation",
        "prepare_farsdat",
        "prepare_mini",
        "prepare_own",
        "prepare_speechocean762",
        "prepare_timit",
    ],
    "asrkit.stages.reporting": ["Report", "report"],
    "asrkit.stages.rescoring": ["RescoreOptions", "Rescoring", "rescore"],
    "asrkit.stages.scoring": ["Score", "SystemComparison", "compare", "compare_boundaries", "score"],
    "asrkit.stages.sharding": ["Sharding", "split"],
    "asrkit.stages.tables": ["SystemTable", "tabulate"],
    "asrkit.stages.training": ["Training", "TrainingData", "train"],
    "asrkit.stages.tuning": ["Tuning", "tune"],
    "asrkit.stages.validation": ["Inspection", "validate"],
    "asrkit.training.lm_config": ["NeuralLmConfig", "load_lm_config"],
    "asrkit.types": ["AttentionWeights", "Hypothesis", "PhoneTime", "Waveform"],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    """Load a public name. Raises AttributeError if there is no such name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
