"""Exported models with an attention decoder: all that PyTorch gives, and what is recognised with them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.search import BeamResult
from asrkit.errors import ConfigError, DataError, ModelError
from asrkit.features.config import FeatureConfig
from asrkit.inference.export import compared_export, export_model, made_up_sample, max_difference, with_8_bit_weights
from asrkit.inference.from_export import load_exported
from asrkit.inference.hypothesis import log_ratio_to_nothing
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.pieces import LONGEST, HeldFeatures, pieces
from asrkit.inference.recognizer import Recognizer
from asrkit.inference.stream import StreamingRecognizer
from asrkit.inference.torch_model import TorchModel
from asrkit.io.seal import seal, unsealed
from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import DecoderConfig
from asrkit.models.heads import HEADS
from asrkit.types import Waveform
from tests.presets import PRESETS, each_kind
from tests.unit.inference.test_export import TOKENS, make_experiment, speech, static_of

WITH_DECODER = [path for path in PRESETS if load_config(path, ExperimentConfig).model.heads.has_decoder]
SMALL = DecoderConfig(hidden_size=8, embedding_size=4, attention_size=8)
TRANSDUCER = DecoderConfig(hidden_size=8, embedding_size=4)
TRANSFORMER = DecoderConfig(layers="transformer", num_layers=2, hidden_size=8, num_heads=2, feed_forward_size=12)


def experiment_of(head="joint", decoder=SMALL, **settings):
    config = ModelConfig(**{"num_layers": 2, "hidden_size": 8, "head": head, "decoder": decoder, **settings})
    experiment = make_experiment(config, decoding=DecodingConfig(beam=4))
    with torch.no_grad():
        experiment.model.decoder.output.weight *= 5
    return experiment


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("joint", {}),
        ("attention", {"bidirectional": False}),
        ("attention", {"encoder": "pyramid", "num_layers": 3, "stack": 2, "skip": 2}),
        ("joint", {"encoder": "pyramid", "bidirectional": False, "cell": "gru", "stack": 3, "skip": 2}),
        ("joint", {"encoder": "transformer", "attention_reach": 5}),
        ("attention", {"decoder": replace(SMALL, cell="gru", num_layers=2, context="fixed", input_feeding=False)}),
        ("attention", {"decoder": replace(SMALL, score="scaled_dot", num_heads=2, window="local")}),
        ("attention", {"decoder": replace(SMALL, score="cosine", reading="hard")}),
        ("attention", {"decoder": TRANSFORMER}),
        ("joint", {"encoder": "transformer", "decoder": TRANSFORMER}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value)),
)
def test_an_export_gives_what_pytorch_gives(head, settings):
    is_8_bit = "decoder" in settings
    experiment = experiment_of(head, **settings)
    content, comparison = compared_export(experiment, None, made_up_sample(experiment), "exp", is_8_bit)
    assert comparison.difference < 1e-4
    experiment = with_8_bit_weights(experiment) if is_8_bit else experiment
    model, network = OnnxModel(content), TorchModel(experiment)
    if head == "joint":
        for num_frames in (98, 7, 1):
            static = static_of(FeatureConfig(), 1.0)[:num_frames]
            ours, theirs = model.outputs_by_frame(static), network.outputs_by_frame(static)
            assert ours.log_probs.shape == (num_frames, len(TOKENS))
            np.testing.assert_allclose(ours.log_probs, theirs.log_probs, rtol=0, atol=1e-4)
    recognizers = Recognizer(model), Recognizer(network)
    first, second = (each.transcribe(speech(3.0), num_best=2) for each in recognizers)
    assert first.phones == second.phones and len(first.times) == len(first.confidences) == len(first.phones) > 0
    assert [each.phones for each in first.alternatives] == [each.phones for each in second.alternatives]


@each_kind(WITH_DECODER)
def test_a_preset_with_a_decoder_is_exported(path):
    """Its network with small layers; the export finds what PyTorch finds."""
    preset = load_config(path, ExperimentConfig)
    width = 8 * (1 + preset.model.bidirectional)  # of the encoder's outputs, as score dot needs it
    decoder = replace(preset.model.decoder, hidden_size=width)
    model = replace(preset.model, num_layers=2, hidden_size=8, conv_channels=2, decoder=decoder)
    experiment = make_experiment(model, preset.features, decoding=replace(preset.decoding, beam=4, insertion_bonus=5.0))
    with torch.no_grad():
        experiment.model.decoder.output.weight *= 5
    content, comparison = compared_export(experiment, None, made_up_sample(experiment), "exp")
    assert comparison.difference < 1e-4
    first, second = (
        each.transcribe(speech(2.0)) for each in map(Recognizer, (OnnxModel(content), TorchModel(experiment)))
    )
    assert first.phones == second.phones != ()


@pytest.mark.parametrize("decoder", [SMALL, TRANSFORMER], ids=["recurrent", "transformer"])
def test_an_export_whose_decoder_differs_is_seen(decoder):
    experiment = experiment_of("attention", decoder)
    model = OnnxModel(export_model(experiment))
    sample = [(static_of(FeatureConfig(), 1.0), None)]
    assert max_difference(experiment, model, sample) < 1e-4
    with torch.no_grad():
        experiment.model.decoder.output.bias[0] += 1e-3
    assert max_difference(experiment, model, sample) > 1e-4


@pytest.mark.parametrize("decoder", [SMALL, TRANSFORMER], ids=["recurrent", "transformer"])
@pytest.mark.parametrize("is_8_bit", [False, True])
def test_every_weight_of_a_decoder_comes_back(is_8_bit, decoder, tmp_path):
    experiment = experiment_of("joint", decoder)
    path = tmp_path / "model.onnx"
    path.write_bytes(export_model(experiment, is_8_bit=is_8_bit))
    found = load_exported(path).model.state_dict()
    expected = (with_8_bit_weights(experiment) if is_8_bit else experiment).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("head", ["joint", pytest.param("attention", marks=pytest.mark.slow)])
def test_a_long_recording_is_heard_piece_by_piece(head):
    recognizer = Recognizer(OnnxModel(export_model(experiment_of(head))))
    audio = speech(40.0)
    static, clock = recognizer.extractor(audio), recognizer.timer.clock
    bounds = list(pieces(HeldFeatures(static), recognizer.features.normalization.level, clock))
    assert len(bounds) >= 3 and bounds[0][0] == 0 and bounds[-1][1] == len(static)
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(bounds))
    assert all(0 < end - begin <= LONGEST / clock.shift for begin, end in bounds)
    found = recognizer.transcribe(audio, num_best=2)
    stats = recognizer.features.normalization.statistics(static)
    parts = [recognizer.model.log_probs(static[begin:end], stats) for begin, end in bounds]
    expected = [recognizer.search.decode(part)[0] for part in parts]
    assert found.phones == tuple(phone for each in expected for phone in recognizer.tokens.decode(each.tokens))
    assert found.log_prob == pytest.approx(sum(each.ctc_log_prob for each in expected), abs=1e-3)
    assert len(found.times) == len(found.confidences) == len(found.phones)
    starts = [time.start for time in found.times]
    assert starts == sorted(starts) and starts[0] >= 0 and found.times[-1].end <= 40.0
    assert found.alternatives[0].phones == found.phones
    posteriors = recognizer.posteriors(audio)
    assert len(posteriors) == -(-len(static) // 4)
    np.testing.assert_allclose(posteriors.sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize("decoder", [SMALL, replace(SMALL, score="scaled_dot", num_heads=2, cell="gru")])
def test_where_the_decoder_looks_is_what_pytorch_says(decoder):
    experiment = experiment_of("attention", decoder)
    recognizer, audio = Recognizer(OnnxModel(export_model(experiment))), speech(2.0)
    (found,) = recognizer.attention(audio)
    assert found.phones == recognizer.transcribe(audio).phones and found.phones
    stored = TorchModel(experiment).log_probs(recognizer.extractor(audio))
    network = experiment.model.decoder
    source = network.source(torch.from_numpy(stored)[None], torch.tensor([len(stored)]))
    steps = network.read(source, torch.tensor([TOKENS.encode(found.phones)]))
    expected = torch.stack([step.context.weights[0, 0] for step in steps], dim=1)  # (H, U + 1, T)
    np.testing.assert_allclose(found.weights, expected.detach().numpy(), rtol=0, atol=1e-4)
    assert (found.start, found.end, found.step) == (0.0, 2.0, pytest.approx(0.04))
    # A step joins four frames of 25 ms, one every 10 ms: the first one's middle is at 27.5 ms.
    np.testing.assert_allclose(found.times, 0.0275 + 0.04 * np.arange(len(stored)), atol=1e-9)


def test_where_the_decoder_looks_in_each_piece_of_a_long_recording():
    recognizer = Recognizer(OnnxModel(export_model(experiment_of("joint"))))
    found, audio = recognizer.attention(speech(40.0)), speech(40.0)
    assert len(found) >= 3 and found[0].start == 0 and found[-1].end == 40.0
    assert all(one.end == pytest.approx(other.start) for one, other in itertools.pairwise(found))
    assert all(each.start <= each.times[0] and each.times[-1] <= each.end for each in found)
    assert tuple(phone for each in found for phone in each.phones) == recognizer.transcribe(audio).phones


def test_there_is_no_attention_in_silence_nor_without_a_decoder():
    silence = Waveform(np.zeros(32000, np.float32), 16000)
    assert Recognizer(OnnxModel(export_model(experiment_of("attention")))).attention(silence) == ()
    for head in ("ctc", "transducer"):
        config = ModelConfig(num_layers=1, hidden_size=8, head=head)
        recognizer = Recognizer(OnnxModel(export_model(make_experiment(config))))
        with pytest.raises(ModelError, match=f"model.head {head}: such a model has no attention decoder; train one"):
            recognizer.attention(speech(1.0))


@pytest.mark.parametrize("seconds", [6.0, 20.0])
def test_no_speech_is_what_ctc_is_sure_of_in_a_long_recording(seconds):
    """Whatever the decoder writes. A decoder without CTC cannot tell; in a short recording all phones stay."""

    def recognizer_of(head, blank):
        experiment = experiment_of(head)
        if head == "joint":
            with torch.no_grad():
                experiment.model.output.bias[0] += blank
        decoding = DecodingConfig(beam=4, ctc_weight=0.0, insertion_bonus=3.0)
        config = replace(experiment.config, decoding=decoding)
        return Recognizer(OnnxModel(export_model(replace(experiment, config=config))))

    silent = recognizer_of("joint", 30.0)
    found = silent.transcribe(speech(seconds), num_best=2)
    assert (found.phones, found.times, found.confidence, found.alternatives) == ((), (), 0.0, ())
    for recognizer, length in (
        (silent, 4.0),
        (recognizer_of("joint", -30.0), seconds),
        (recognizer_of("attention", 0), 6.0),
    ):
        assert recognizer.transcribe(speech(length)).phones


def test_what_ctc_says_of_phones_against_none():
    """The log of a ratio of probabilities, each summed over all paths one by one."""
    log_probs = np.log(np.random.default_rng(5).dirichlet(np.ones(5), 4))
    recognizer = Recognizer(OnnxModel(export_model(experiment_of("joint"))))
    steps = np.zeros((4, recognizer.model.decoder.step_size))
    sums = {(): 0.0, (2, 1): 0.0}
    for path in itertools.product(range(5), repeat=4):
        phones = tuple(label for label, _ in itertools.groupby(path) if label)
        if phones in sums:
            sums[phones] += np.exp(log_probs[range(4), path].sum())
    best = BeamResult((2, 1), 0.0, -1e9, 0.0)
    found = log_ratio_to_nothing(recognizer.search, HEADS["joint"], np.concatenate([log_probs, steps], axis=1), best)
    assert found == pytest.approx(np.log(sums[2, 1] / sums[()]), abs=1e-9)
    assert log_ratio_to_nothing(recognizer.search, HEADS["attention"], steps, best) == np.inf


def test_a_pause_is_where_a_recording_is_cut():
    recognizer = Recognizer(OnnxModel(export_model(experiment_of("attention"))))
    audio = speech(20.0)
    audio.samples[16000 * 10 : 16000 * 21 // 2] *= 0.01
    static = recognizer.extractor(audio)
    (_, cut), _ = pieces(HeldFeatures(static), recognizer.features.normalization.level, recognizer.timer.clock)
    assert 10.0 < cut / 100 < 10.5


def test_given_phones_are_aligned_by_ctc():
    recognizer = Recognizer(OnnxModel(export_model(experiment_of("joint"))))
    found = recognizer.align(speech(2.0), ["a", "ʃ", "a"])
    assert found.phones == ("a", "ʃ", "a") and found.times[-1].end <= 2.0
    alone = Recognizer(OnnxModel(export_model(experiment_of("attention"))))
    with pytest.raises(ModelError, match=r"model\.head attention: only CTC and transducers can align phones that are"):
        alone.align(speech(2.0), ["a"])


def transducer_of(head):
    experiment = make_experiment(
        ModelConfig(num_layers=1, hidden_size=8, head=head, decoder=TRANSDUCER), decoding=DecodingConfig(beam=4)
    )
    with torch.no_grad():
        experiment.model.decoder.of_steps.weight *= 8
        experiment.model.decoder.output.weight *= 5
    return Recognizer(OnnxModel(export_model(experiment)))


def test_given_phones_are_aligned_by_a_transducer(monkeypatch):
    """Those that it found are where it found them. What cannot be aligned is told."""
    recognizer, audio = transducer_of("transducer"), speech(3.0)
    found = recognizer.transcribe(audio)
    aligned = recognizer.align(audio, found.phones)
    assert (aligned.phones, aligned.times) == (found.phones, found.times) and len(found.phones) > 5
    assert all(0 < confidence <= 1 for confidence in aligned.confidences)
    others = recognizer.align(audio, ["a", "a", "ʃ"])
    assert others.phones == ("a", "a", "ʃ") and 0 <= others.times[0].start < others.times[-1].end <= 3.0
    stored = recognizer.model.log_probs(recognizer.extractor(audio))
    for each in (aligned, others):
        tokens = recognizer.tokens.encode(each.phones)
        expected = recognizer.search.total_scores(stored, [tokens])[0] - recognizer.search.scorer.total(0.0, tokens)
        assert each.log_prob == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ConfigError, match=r"model\.head transducer: only CTC can find out where a silence is"):
        recognizer.align(audio, ["a"], optional_silence="#")
    assert transducer_of("joint_transducer").align(audio, ["a"], optional_silence="#").times
    with pytest.raises(DataError, match="audio: alignment: 3 tokens need at least 5 steps; there are 3"):
        recognizer.align(speech(0.13), ["a"] * 3)
    monkeypatch.setattr("asrkit.inference.recognizer._MAX_NODES", 200)
    with pytest.raises(DataError, match="steps times 3 tokens; a transducer takes 200 at most; align shorter pieces"):
        recognizer.align(audio, ["a", "ʃ", "a"])


def test_a_stream_is_refused():
    model = OnnxModel(export_model(experiment_of("attention", bidirectional=False)))
    with pytest.raises(ConfigError, match="its decoder is given the whole utterance before it writes a phone"):
        StreamingRecognizer(model)


def rewritten(experiment, change):
    """The export with other constants: `change` gets the list of those that are the decoder's."""
    import onnx

    proto = onnx.load_from_string(unsealed(export_model(experiment)))
    change(proto.graph.initializer)
    return seal(proto.SerializeToString())


def drop(name):
    def change(constants):
        del constants[[each.name for each in constants].index(name)]

    return change


def rename(name, other):
    def change(constants):
        next(each for each in constants if each.name == name).name = other

    return change


def resize(name):
    def change(constants):
        found = next(each for each in constants if each.name == name)
        found.dims[:] = [found.dims[0] * found.dims[1]]

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (drop("decoder.embedding.weight"), r"decoder's weights embedding.weight: found nothing; expected \(5, 4\)"),
        (rename("decoder.output.bias", "decoder.other"), "decoder's weights output.bias: found nothing"),
        (resize("decoder.combine.weight"), r"decoder's weights combine.weight: found \(192,\); expected \(8, 24\)"),
        (rename("decoder.output.bias", "decoder.output.weight"), "a tensor's name twice"),
    ],
)
def test_weights_that_do_not_fit_are_told(change, fault):
    with pytest.raises(ModelError, match=fault):
        OnnxModel(rewritten(experiment_of("attention"), change))
