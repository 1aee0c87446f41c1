"""Recognition in windows beside that of the whole at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.greedy import GreedyStream, greedy_search
from asrkit.decoding.methods import make_search
from asrkit.errors import AudioError
from asrkit.experiment import Experiment, make_model
from asrkit.features.cmvn import NORMALIZATIONS, Normalizer, accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference import phone_time_stream, phone_timer
from asrkit.inference import windows as windows_module
from asrkit.inference.export import export_model
from asrkit.inference.frame_clock import AudioEnd
from asrkit.inference.hypothesis import add_times, make_hypothesis
from asrkit.inference.model import Model, Outputs
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.inference.recognizer import Recognizer
from asrkit.inference.windows import StaticFeatures, WindowedRecognizer, Windows
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.models.config import ModelConfig
from asrkit.types import Hypothesis, Waveform
from tests.backends import extractor_or_skip

TOKENS = TokenTable(["a", "b", "ʃ", "sil"])
RATE = 16000


def sounds(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise of another colour and loudness every 80 ms."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 1, round(RATE * seconds))
    place = np.arange(len(samples)) // 1280
    tone = np.sin(np.cumsum(rng.uniform(0.05, 2.5, place[-1] + 1)[place]))
    return (3000 * rng.uniform(0.01, 1, place[-1] + 1)[place] * (tone + 0.3 * samples)).astype(np.float32)


class ShortSighted:
    """A model without a network: what it gives for a step depends on that step's features alone, and is peaky."""

    def __init__(self, head: str = "both", cmvn: str = "utterance", **shape: int) -> None:
        self.features = FeatureConfig(cmvn=cmvn)
        self.config = ModelConfig(head=head, bidirectional=True, **{"stack": 3, "skip": 3, **shape})
        self.decoding, self.tokens, self.lm, self.calibration = DecodingConfig(), TOKENS, None, None
        self.decoder = None
        self.global_cmvn = accumulate(FeatureExtractor(self.features)(Waveform(sounds(2, 9), RATE)))
        rng = np.random.default_rng(1)
        self._weights = rng.normal(0, 1.2, (13, len(TOKENS)))
        self._offset = np.array([3.0, 0, 0, 0, 0])
        self._frame_weights = rng.normal(0, 1, (13, len(TOKENS) - 1))

    def log_probs(self, static: np.ndarray, stats: np.ndarray) -> np.ndarray:
        config = replace(self.features, cmvn="global" if self.features.cmvn != "none" else "none", delta_order=0)
        feats = full_features(static, stats, config)[:: self.config.skip]
        return log_softmax(feats @ self._weights + self._offset)

    def outputs_by_frame(self, static: np.ndarray, stats: np.ndarray) -> Outputs:
        config = replace(self.features, cmvn="global" if self.features.cmvn != "none" else "none", delta_order=0)
        return Outputs(np.empty(0), log_softmax(full_features(static, stats, config) @ self._frame_weights))


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)


def onnx_model(bidirectional: bool, head: str, cmvn: str, **shape: int) -> OnnxModel:
    """A random network whose output is scaled, so that many phones are found."""
    features = FeatureConfig(cmvn=cmvn)
    model = ModelConfig(**{"bidirectional": bidirectional, "head": head, "num_layers": 1, "hidden_size": 16, **shape})
    config = ExperimentConfig(features=features, model=model)
    torch.manual_seed(3)
    network = make_model(config, TOKENS).eval()
    with torch.no_grad():
        for layer in filter(None, (network.output, network.frame_output)):
            layer.weight *= 8
            layer.bias[0] += 1.0
    stats = accumulate(FeatureExtractor(features)(Waveform(sounds(2, 9), RATE)))
    return OnnxModel(export_model(Experiment(config, TOKENS, network, stats, None)))


class Decoder:
    """A search, and the timer of what it finds in the model's outputs."""

    def __init__(self, model: Model, **decoding: object) -> None:
        phones = [["a", "b", "sil", "ʃ"], ["b", "a"], ["ʃ", "ʃ", "a", "sil"]]
        config = DecodingConfig(**{"beam": 6, "lm_weight": 0.2, "insertion_bonus": 0.3, **decoding})
        self.search = make_search(config, train_ngram(phones, 2, TOKENS.phones).automaton)
        self.timer = PhoneTimer.for_model(model, self.search)

    def whole(self, outputs: Outputs, feats: np.ndarray | None = None, duration: float = 4.0) -> Hypothesis:
        """What is found in an utterance at once, with times where there are features."""
        results = self.search.decode(outputs.log_probs)
        hypothesis = make_hypothesis("x", TOKENS, results)
        if feats is None:
            return hypothesis
        timed = self.timer.time(outputs, feats, results[0].tokens, Stretch("x", AudioEnd(len(feats), duration)))
        return add_times(hypothesis, timed.times, self.timer.confidences(timed.evidence))


def normalizer(model: Model) -> Normalizer:
    return model.features.normalization.input_normalizer(model.global_cmvn)


def run(model, decoder, samples: np.ndarray, windows: Windows, **options: object) -> Hypothesis:
    blocks = np.array_split(samples, 7)
    recognizer = WindowedRecognizer(model, decoder.search, decoder.timer, windows)
    with StaticFeatures(blocks, FeatureExtractor(model.features), "x", normalizer(model)) as static:
        return recognizer.recognize(static, "x", len(samples) / RATE, **options)


def assert_same(found: Hypothesis, expected: Hypothesis, num_phones: int = 30, tolerance: float = 1e-9) -> None:
    assert found.phones == expected.phones
    assert len(found.phones) >= num_phones
    assert found.log_prob == pytest.approx(expected.log_prob, rel=1e-5)
    assert [time.phone for time in found.times] == list(found.phones)
    bounds = [[(time.start, time.end) for time in each.times] for each in (found, expected)]
    np.testing.assert_allclose(*bounds, atol=tolerance)
    np.testing.assert_allclose(found.confidences, expected.confidences, atol=1e-4)
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)


@pytest.mark.parametrize("head", ["ctc", "both", "frames"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_one_window_is_what_the_decoder_finds(bidirectional, head):
    model = onnx_model(bidirectional, head, "utterance")
    decoder, samples = Decoder(model), sounds(4)
    static = FeatureExtractor(model.features)(Waveform(samples, RATE))
    by_frame = None if head == "ctc" else model.outputs_by_frame(static).frame_log_probs
    feats = full_features(static, None, model.features)
    expected = decoder.whole(Outputs(model.log_probs(static), by_frame), feats)
    assert_same(run(model, decoder, samples, Windows()), expected, num_phones=10)
    untimed = run(model, decoder, samples, Windows(), with_times=False)
    assert untimed == decoder.whole(Outputs(model.log_probs(static)))


@pytest.mark.parametrize("seconds", [0.6, 2.0, 7.77])
@pytest.mark.parametrize(
    ("head", "cmvn", "shape"),
    [
        ("ctc", "speaker", {}),
        ("both", "global", {}),
        ("both", "none", {"stack": 5, "skip": 2}),
        ("frames", "utterance", {"stack": 1, "skip": 1}),
        ("ctc", "running", {"stack": 4, "skip": 4}),
        ("both", "speech_running", {}),
        ("ctc", "speech_speaker", {}),
    ],
)
def test_a_state_that_is_carried_on_changes_nothing(head, cmvn, shape, seconds):
    model = onnx_model(False, head, cmvn, **shape)
    decoder, samples = Decoder(model), sounds(15)
    whole = run(model, decoder, samples, Windows(100.0))
    assert_same(run(model, decoder, samples, Windows(seconds)), whole)


def test_windows_shorter_than_what_a_step_looks_ahead():
    model = onnx_model(False, "both", "global")
    decoder = Decoder(model)
    with StaticFeatures([sounds(2)], FeatureExtractor(model.features), "x") as static:
        parts, (whole,) = (
            [
                *WindowedRecognizer(model, decoder.search, decoder.timer, windows).outputs(
                    static, model.global_cmvn, True
                )
            ]
            for windows in (Windows(0.001), Windows(100.0))
        )
    assert len(parts[0].log_probs) == len(parts[0].frame_log_probs) == 0
    for name in ("log_probs", "frame_log_probs"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-4)


@pytest.mark.parametrize("method", ["beam", "greedy"])
@pytest.mark.parametrize(
    ("head", "cmvn", "shape"),
    [("ctc", "utterance", {}), ("both", "global", {"stack": 1, "skip": 1}), ("both", "none", {"stack": 4, "skip": 4})],
)
def test_windows_of_a_network_that_sees_no_further_change_nothing(head, cmvn, shape, method):
    model = ShortSighted(head, cmvn, **shape)
    decoder, samples = Decoder(model, method=method), sounds(20)
    whole = run(model, decoder, samples, Windows(100.0))
    for length, context in ((0.5, 0.3), (3.0, 1.0), (9.99, 0.05)):
        assert_same(run(model, decoder, samples, Windows(length, context)), whole)


def test_context_makes_windows_of_a_bidirectional_network_alike():
    model = onnx_model(True, "both", "utterance")
    decoder = Decoder(model)

    def outputs_with(windows: Windows) -> list[Outputs]:
        recognizer = WindowedRecognizer(model, decoder.search, decoder.timer, windows)
        return list(recognizer.outputs(static, NORMALIZATIONS["utterance"]().statistics_of(static.blocks), True))

    with StaticFeatures([sounds(12)], FeatureExtractor(model.features), "x") as static:
        outputs = {
            (length, context): outputs_with(Windows(length, context))
            for length, context in ((20.0, 0.0), (2.0, 0.03), (2.0, 3.0))
        }
    for head in ("log_probs", "frame_log_probs"):
        whole, near, far = (np.concatenate([getattr(o, head) for o in windows]) for windows in outputs.values())
        assert whole.shape == near.shape == far.shape
        errors = [np.abs(np.exp(found) - np.exp(whole)).max() for found in (near, far)]
        assert errors[1] < 1e-3 < 0.05 < errors[0]


@pytest.mark.parametrize("shape", [{"encoder": "transformer"}, {"encoder": "conformer", "conv_kernel": 5}], ids=str)
def test_windows_of_a_network_with_attention_change_nothing(shape):
    """Two layers of 8 steps, and convolutions of 2 more to either side, look 20 steps of 40 ms far: less than 1 s."""
    model = onnx_model(True, "both", "utterance", num_layers=2, attention_reach=8, feed_forward_size=32, **shape)
    decoder, samples = Decoder(model), sounds(12)
    assert_same(run(model, decoder, samples, Windows(2.5, 1.0)), run(model, decoder, samples, Windows(100.0)))


def test_what_is_aligned_at_a_time_does_not_grow(monkeypatch):
    sizes = []

    def aligned(log_probs, ids, **options):
        sizes.append((len(log_probs), len(ids)))
        return longform_align(log_probs, ids, **options)

    longform_align = phone_timer.forced_align
    monkeypatch.setattr(phone_timer, "forced_align", aligned)
    monkeypatch.setattr(phone_time_stream, "SETTLE", 2.0)
    model = ShortSighted("ctc")
    decoder = Decoder(model)
    found = run(model, decoder, sounds(90), Windows(3.0, 0.1))
    assert len(found.times) == len(found.phones) > 250
    assert len(sizes) > 15
    assert max(num_steps for num_steps, _ in sizes) < 500  # of 3000: a window, what is not settled, and 16 phones
    assert max(num_phones for _, num_phones in sizes) < len(found.phones) / 3


def test_a_long_gap_is_not_held(monkeypatch):
    """What is held stays bounded when nothing is said, and phones before and after have their times."""
    held = []

    class Timer(phone_time_stream.PhoneTimeStream):
        def accept(self, outputs):
            super().accept(outputs)
            held.append(self.num_held)

    monkeypatch.setattr(windows_module, "PhoneTimeStream", Timer)
    monkeypatch.setattr(phone_time_stream, "SETTLE", 1.0)
    model = ShortSighted("both")

    decoder, samples = Decoder(model), sounds(100)
    outputs = WindowedRecognizer.outputs

    def with_a_gap(*args):
        """Blanks alone from 5 to 95 s."""
        step = 0
        for found in outputs(*args):
            steps = np.arange(step, step + len(found.log_probs))
            step += len(steps)
            gap = (steps >= 500 / 3) & (steps < 9500 / 3)
            found.log_probs[gap] = np.log([0.9996, *[0.0001] * 4])
            yield found

    monkeypatch.setattr(WindowedRecognizer, "outputs", with_a_gap)
    whole = run(model, decoder, samples, Windows(5.0, 0.1))
    most = max(held)
    held.clear()
    monkeypatch.setattr(phone_time_stream, "_LONGEST_GAP", 8.0)
    found = run(model, decoder, samples, Windows(5.0, 0.1))
    assert most > 80 / 0.03
    assert max(held) < 20 / 0.03
    assert found.phones == whole.phones
    middles = [[(time.start + time.end) / 2 for time in each.times] for each in (found, whole)]
    assert len(middles[0]) > 20
    np.testing.assert_allclose(*middles, atol=0.2)
    assert not any(6 < middle < 94 for middle in middles[0])
    np.testing.assert_allclose(found.confidences, whole.confidences, atol=0.1)


def test_alternatives_are_ranked_and_begin_with_the_result():
    model = ShortSighted("ctc")
    decoder, samples = Decoder(model), sounds(2)
    found = run(model, decoder, samples, Windows(), num_best=4)
    static = FeatureExtractor(model.features)(Waveform(samples, RATE))
    expected = decoder.search.decode(model.log_probs(static, accumulate(static)), 4)
    assert found.alternatives[0].phones == found.phones
    assert [other.phones for other in found.alternatives] == [TOKENS.decode(result.tokens) for result in expected]
    assert [other.score for other in found.alternatives] == [result.score for result in expected]
    assert [other.log_prob for other in found.alternatives] == [result.ctc_log_prob for result in expected]
    parts = run(model, decoder, samples, Windows(0.5, 0.1), num_best=4)
    assert [other.phones for other in parts.alternatives] == [other.phones for other in found.alternatives]
    assert run(model, decoder, samples, Windows()).alternatives == ()


@pytest.mark.parametrize("backend", ["native", "numpy", "torchaudio"])
@pytest.mark.parametrize("in_memory", [2**22, 1000])
def test_features_are_those_of_the_whole(monkeypatch, backend, in_memory):
    monkeypatch.setattr(windows_module, "_IN_MEMORY", in_memory)
    extractor = extractor_or_skip(FeatureConfig(backend=backend))
    samples = sounds(3)
    expected = extractor(Waveform(samples, RATE), "x")
    cuts = np.sort(np.random.default_rng(0).integers(0, len(samples), 9))
    with StaticFeatures(np.split(samples, cuts), extractor, "x") as static:
        assert static.num_frames == len(expected)
        np.testing.assert_array_equal(static.read(0, 10**9), expected)
        np.testing.assert_array_equal(static.read(-5, 17), expected[:17])
        np.testing.assert_array_equal(static.read(100, 103), expected[100:103])
        monkeypatch.setattr(windows_module, "_BLOCK", 70)
        np.testing.assert_array_equal(np.concatenate(list(static.blocks())), expected)
        for mode in (NORMALIZATIONS["utterance"](), NORMALIZATIONS["speech_utterance"]()):
            np.testing.assert_allclose(mode.statistics_of(static.blocks), mode.statistics(expected), rtol=1e-12)


def test_a_short_recording_is_normalized_as_in_training():
    """By its own speech and, for what is missing to 100 frames, the training set's, in one piece and in windows."""
    model = onnx_model(True, "both", "speech_speaker")
    rng = np.random.default_rng(1)
    model.global_cmvn = accumulate(rng.normal(rng.normal(0, 5, 13), 5, (1000, 13)))
    recognizer, word = Recognizer(model), Waveform(sounds(0.4), RATE)
    static = recognizer.extractor(word)
    own = recognizer.features.normalization.statistics(static)
    assert own[0, -1] < 100
    filled = own + (100 - own[0, -1]) / 1000 * model.global_cmvn
    expected = model.log_probs(static, filled)
    assert np.abs(expected - model.log_probs(static, own)).max() > 0.01
    np.testing.assert_allclose(model.log_probs(static), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(recognizer.posteriors(word), np.exp(expected), rtol=0, atol=1e-5)
    found = recognizer.transcribe(word, "x")
    assert found.log_prob == pytest.approx(recognizer.search.decode(expected)[0].ctc_log_prob, abs=1e-3)
    assert_same(run(model, recognizer, word.samples, Windows()), found, num_phones=1)


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_less_than_a_frame_is_refused(num_samples):
    extractor = FeatureExtractor(FeatureConfig())
    with pytest.raises(AudioError, match=rf"x: {num_samples} samples .* expected one frame or more"):
        StaticFeatures([np.zeros(num_samples, np.float32)], extractor, "x")


@pytest.mark.parametrize("num_samples", [400, 560, 16000])
def test_silence_is_recognised_without_a_fault(num_samples):
    for model in (onnx_model(True, "both", "utterance"), onnx_model(False, "ctc", "running")):
        found = run(model, Decoder(model), np.zeros(num_samples, np.float32), Windows())
        assert np.isfinite(found.log_prob)
        assert len(found.times) == len(found.phones)


@pytest.mark.parametrize("loudness", [0.0, 3.0, 3000.0])
def test_where_nobody_speaks_nothing_is_found(loudness):
    model = onnx_model(True, "both", "speech_speaker")
    own = model.global_cmvn
    model.global_cmvn = accumulate(np.random.default_rng(1).normal(0, 20, (1000, 13)))  # as varied as real speech
    noise = (loudness * np.random.default_rng(0).normal(0, 1, 5 * RATE)).astype(np.float32)
    nobody = Hypothesis("x", (), 0.0, confidence=0.0)
    assert run(model, Decoder(model), noise, Windows()) == nobody
    recognizer = Recognizer(model)
    for seconds in (1, 3, 5):
        assert recognizer.transcribe(Waveform(noise[: int(seconds * RATE)], RATE), "x") == nobody
    model.global_cmvn = own
    assert len(recognizer.transcribe(Waveform(sounds(2), RATE)).phones) > 5


@pytest.mark.parametrize("share", [0.2, 0.999])
def test_phones_that_are_hardly_more_probable_than_none_are_not_found_in_a_long_recording(share, monkeypatch):
    model = onnx_model(True, "ctc", "utterance")

    def log_probs(static: np.ndarray, stats: np.ndarray | None = None) -> np.ndarray:
        probs = np.full((-(-len(static) // model.config.skip), len(TOKENS)), 1e-6, np.float32)
        probs[:, 0] = 1 - 1e-6 * (len(TOKENS) - 1)
        probs[len(probs) // 2, :2] = 1 - share, share  # a phone in the middle
        return np.log(probs)

    monkeypatch.setattr(model, "log_probs", log_probs)
    recognizer = Recognizer(model, DecodingConfig(beam=4, insertion_bonus=4.0))
    decoder = Decoder(model, insertion_bonus=4.0)
    for seconds in (4, 6):
        samples = sounds(seconds)
        expected = () if seconds == 6 and share < 0.5 else (TOKENS.phones[0],)
        assert recognizer.transcribe(Waveform(samples, RATE), "x").phones == expected
        assert run(model, decoder, samples, Windows(length=20.0)).phones == expected


def test_greedy_search_in_pieces():
    rng = np.random.default_rng(0)
    for _ in range(200):
        log_probs = log_softmax(rng.normal(0, 1, (12, 3)))
        cuts = np.sort(rng.integers(0, 13, 4))
        penalty = float(rng.choice([0.0, 0.8]))
        stream, found = GreedyStream(penalty), ()
        for piece in np.split(log_probs, cuts):
            stream.advance(piece)
            if rng.random() < 0.5:
                found += stream.commit()
        (last,) = stream.finish(3)
        ids, log_prob = greedy_search(log_probs, penalty)
        assert [*found, *last.tokens] == ids
        assert last.score == last.ctc_log_prob == pytest.approx(log_prob)
