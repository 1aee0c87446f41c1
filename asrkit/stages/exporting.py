"""Export of a trained experiment to one ONNX file, which is compared with PyTorch. Weights can be stored in 8 bits.

The file can also hold the phone error rate on a test set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from asrkit.audio import AudioAccess
from asrkit.errors import ConfigError, ModelError, location
from asrkit.features.pipeline import FeatureLoader
from asrkit.formats.data_dir import load_data_dir
from asrkit.inference.find_model import find_model
from asrkit.io.lock import lock_dir, lock_file
from asrkit.parallel import track
from asrkit.scoring.per import PerResult, score
from asrkit.scoring.transcripts import read_references
from asrkit.stages.inputs import changing_model
from asrkit.types import TestScore

if TYPE_CHECKING:
    from asrkit.inference.export import Comparison, Utterance
    from asrkit.inference.onnx_model import OnnxModel

_NUM_COMPARED = 20  # utterances that are compared after training


@dataclass(frozen=True)
class Int8Cost:
    """The cost of 8-bit weights: the scores with and without them, and the sizes of the files in bytes."""

    after: PerResult
    before: PerResult
    size_after: int
    size_before: int

    def lines(self) -> list[str]:
        """Both scores, their difference, and the sizes of the files, as lines of text."""
        cost = self.after.per - self.before.per
        sizes = f"{megabytes(self.size_after)} in place of {megabytes(self.size_before)}"
        return [
            f"int8: {self.after.line()}",
            f"float32: {self.before.line()}",
            f"8-bit weights cost {cost:+.2f} % PER; the file has {sizes}",
        ]


@dataclass(frozen=True)
class Export:
    """An exported model on disk.

    Attributes:
        path: the file.
        size: its size in bytes.
        comparison: how much its model with float weights differs from PyTorch.
        int8: the cost of 8-bit weights, if they were requested.
        test: the score on the test set, if there was one.
    """

    path: Path
    size: int
    comparison: Comparison
    int8: Int8Cost | None = None
    test: TestScore | None = None

    def lines(self) -> list[str]:
        """The measurements, one line each."""
        tested = [f"PER {self.test}"] if self.test else []
        return [self.comparison.line(), *(self.int8.lines() if self.int8 else []), *tested]


def export(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    ref: str | Path | None = None,
    int8: bool = False,
    test: str | Path | None = None,
    audio: AudioAccess = AudioAccess(),
) -> Export:
    """Write a trained model as one ONNX file that runs without PyTorch.

    Args:
        experiment: its directory, or the name of a recipe that has one.
        out: the file to write; by default final.onnx in the directory, or final.int8.onnx.
        ref: a data directory with features. The export is compared with PyTorch on all of it, and the phone error rate
            with 8-bit weights is measured on it. Without it, the features are random.
        int8: store 8-bit weights, for a smaller file; needs `ref`.
        test: a data directory with audio. The exported model recognises each utterance separately, as transcription
            does, and the phone error rate is written to the file.
        audio: how to reach the audio of `test`.

    Raises:
        AudioError: audio of `test` cannot be used.
        ConfigError: `int8` is given without `ref`.
        ModelError: there is no such experiment, or the export differs from it.
        DataError: the data directory is faulty.
    """
    if int8 and ref is None:
        raise ConfigError("--int8 changes what is recognised; give --dev DATA to measure by how much")

    # PyTorch takes seconds to load.
    import torch

    from asrkit.inference.export import (
        Sample,
        compared_export,
        export_model,
        load_for_export,
        made_up_sample,
        with_test_score,
        write_export,
    )
    from asrkit.inference.onnx_model import OnnxModel

    torch.set_num_threads(1)  # single utterances are too short for several threads
    directory = find_model(experiment)
    if directory.is_file():
        raise ModelError(
            f"{location(directory)}an exported file; expected the experiment directory that it was made from"
        )
    path = Path(out or directory / ("final.int8.onnx" if int8 else "final.onnx"))
    is_inside = path.resolve().parent == directory.resolve()
    if is_inside:
        path = directory / path.name  # the name in its stamp
    with lock_dir(directory, "export") if is_inside else lock_file(path, "export"):
        trained, digest = load_for_export(directory)
        feats = None if ref is None else FeatureLoader(ref, trained.config.features, trained.global_cmvn)
        if feats is None:
            sample = made_up_sample(trained)
        else:
            sample = Sample(_stored(feats, "comparing"), f"{len(feats)} utterances of {ref}")
        content, comparison = compared_export(trained, digest, sample, directory, is_8_bit=int8)
        cost = None
        if int8 and feats is not None:
            exact = export_model(trained, digest)
            after, before = (
                _score(OnnxModel(each), feats, name) for each, name in ((content, "int8"), (exact, "float32"))
            )
            cost = Int8Cost(after, before, len(content), len(exact))
        score = None if test is None else _test_score(OnnxModel(content), Path(test), audio)
        if score is not None:
            content = with_test_score(content, score)
        with changing_model(directory) if is_inside else nullcontext():
            write_export(path, content)
        return Export(path, len(content), comparison, cost, score)


def export_trained(directory: Path, dev: Path) -> Export:
    """Write the `final.onnx` of an experiment, after comparing it with PyTorch on some utterances of `dev`.

    Raises:
        ModelError: the export differs from PyTorch. Then it is not written.
    """
    from asrkit.inference.export import Sample, compared_export, load_for_export, write_export

    trained, digest = load_for_export(directory)
    feats = FeatureLoader(dev, trained.config.features, trained.global_cmvn)
    utterances = list(islice(_stored(feats), _NUM_COMPARED))
    sample = Sample(utterances, f"{len(utterances)} utterances of {dev}")
    content, comparison = compared_export(trained, digest, sample, directory)
    path = directory / "final.onnx"
    write_export(path, content)
    return Export(path, len(content), comparison)


def megabytes(size: int) -> str:
    """A size in bytes, as text in megabytes."""
    return f"{size / 1e6:.1f} MB"


def _stored(feats: FeatureLoader, description: str | None = None) -> Iterator[Utterance]:
    """Yield static features and CMVN statistics of the utterances of a data directory."""
    mode = feats.config.normalization
    is_own = mode.needs_whole_utterance and not mode.per_speaker  # then the model computes them itself
    for utt_id in feats if description is None else track(list(feats), description):
        yield feats.static(utt_id), None if is_own else feats.stats(utt_id)


def _score(model: OnnxModel, feats: FeatureLoader, name: str) -> PerResult:
    from asrkit.inference.recognizer import Recognizer

    search, text = Recognizer(model).search, feats.data_dir / "text"
    refs = read_references(text)
    mode = model.features.normalization
    log_probs = (
        model.log_probs(mode.input_normalizer(model.global_cmvn)(static), stats)
        for static, stats in _stored(feats, f"decoding, {name}")
    )
    best = (search.decode(each)[0].tokens for each in log_probs)
    hyps = {utt_id: model.tokens.decode(tokens) for utt_id, tokens in zip(feats, best, strict=True)}
    return score(refs, hyps, ref_name=str(text), hyp_name="what was recognised")


def _test_score(model: OnnxModel, data_dir: Path, audio: AudioAccess) -> TestScore:
    """Score a model on the utterances of a data directory. Each is recognised separately."""
    from asrkit.inference.recognizer import Recognizer

    recognizer, utts = Recognizer(model), load_data_dir(data_dir, audio).utterances()
    hyps = {}
    for utt in track(utts, f"recognising {data_dir}"):
        waveform = audio.load(utt.audio, start=utt.start, end=utt.end)
        hyps[utt.utt_id] = recognizer.transcribe(waveform, utt.utt_id, with_times=False).phones
    result = score({utt.utt_id: utt.phones for utt in utts}, hyps)
    corpus = f"{model.corpus.name} " if model.corpus else ""
    return TestScore(f"{corpus}{data_dir.resolve().name}", len(utts), result.num_ref, result.num_errors)
