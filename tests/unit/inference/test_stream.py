"""Streams against transcribe, which sees the whole: networks with random weights, whose outputs are made to vary."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.config import DecodingConfig
from asrkit.errors import AudioError, ConfigError
from asrkit.experiment import Experiment, make_model
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference import stream as streaming
from asrkit.inference.export import export_model
from asrkit.inference.model import Outputs
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.inference.recognizer import Recognizer
from asrkit.inference.stream import StreamingRecognizer
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import DecoderConfig
from asrkit.types import Waveform
from tests.loud_model import loud_model, loud_speech

RATE = 16000
PHONES = ["sil", "a", "e", "o", "s"]
FORMANTS = {"a": (750, 1200), "e": (450, 2100), "o": (450, 800)}
UNIDIRECTIONAL = ModelConfig(
    bidirectional=False, num_layers=2, hidden_size=24, stack=3, skip=3, self_conditioning=False
)
TRANSDUCER = replace(UNIDIRECTIONAL, head="transducer", decoder=DecoderConfig(hidden_size=16, embedding_size=8))


def speech(seconds: float, seed: int) -> np.ndarray:
    """Vowels, hisses and pauses of 60 to 250 ms, in noise."""
    rng = np.random.default_rng(seed)
    pieces, num_samples = [], 0
    while num_samples < seconds * RATE:
        time = np.arange(int(rng.uniform(0.06, 0.25) * RATE)) / RATE
        phone = rng.choice(PHONES)
        samples = rng.normal(0, 30, len(time))
        if phone == "s":
            samples = np.diff(rng.normal(0, 1500, len(time) + 1))
        for formant in FORMANTS.get(phone, ()):
            samples += 2000 * np.sin(2 * np.pi * formant * rng.uniform(0.9, 1.1) * time)
        pieces.append(samples)
        num_samples += len(samples)
    return np.concatenate(pieces)[: int(seconds * RATE)].astype(np.int16).astype(np.float32)


def make(
    model: ModelConfig = UNIDIRECTIONAL, decoding: DecodingConfig | None = None, order: int = 3, **features
) -> OnnxModel:
    """An untrained network, exported, whose output weights are large enough for phones to come and go."""
    torch.manual_seed(1)
    config = ExperimentConfig(
        features=FeatureConfig(**({"cmvn": "global"} | features)),
        model=model,
        decoding=decoding or DecodingConfig(beam=8, insertion_bonus=0.5),
    )
    tokens = TokenTable(PHONES)
    network = make_model(config, tokens).eval()
    with torch.no_grad():
        for head in filter(None, (network.output, network.frame_output)):
            head.weight *= 8
        if network.decoder is not None:
            network.decoder.of_steps.weight *= 8
            network.decoder.output.weight *= 8
    static = FeatureExtractor(replace(config.features, cmvn="none"))(Waveform(speech(20, 0), RATE))
    rng = np.random.default_rng(0)
    lm = train_ngram([rng.choice(PHONES, 12).tolist() for _ in range(40)], order, PHONES) if order else None
    return OnnxModel(export_model(Experiment(config, tokens, network, accumulate(static), lm)))


def pieces_of(samples: np.ndarray, rng: np.random.Generator, sizes: tuple[int, int]) -> list[np.ndarray]:
    """The samples in chunks of random sizes between two, as float32 or int16."""
    pieces = []
    while len(samples):
        size = int(np.exp(rng.uniform(*np.log(sizes))))
        pieces.append(samples[:size].astype(rng.choice([np.float32, np.int16])))
        samples = samples[size:]
    return pieces


def run(recognizer: StreamingRecognizer, pieces: list[np.ndarray]) -> list:
    results = [result for piece in pieces for result in recognizer.accept(piece)]
    return results + recognizer.finish()


def final(results: list, name: str) -> tuple:
    return sum((getattr(result, name) for result in results if result.is_final), ())


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return make()


@pytest.mark.parametrize("head", ["ctc", pytest.param("transducer", marks=pytest.mark.slow)])
def test_a_hundred_utterances_in_chunks_of_any_size_give_what_the_whole_gives(model, head):
    rng, num_phones = np.random.default_rng(3), 0
    model = make(TRANSDUCER, DecodingConfig(beam=3)) if head == "transducer" else model
    recognizer = Recognizer(model)
    for number in range(100):
        samples = speech(rng.uniform(0.05, 4), 10 + number)
        expected = recognizer.transcribe(Waveform(samples, RATE))
        sizes = [(1, 100000), (160, 1000), (300, 700)][number % 3]
        results = run(StreamingRecognizer(model), pieces_of(samples, rng, sizes))
        assert final(results, "phones") == expected.phones
        assert [time.phone for time in final(results, "times")] == list(expected.phones)
        for found, time in zip(final(results, "times"), expected.times, strict=True):
            assert (found.start, found.end) == pytest.approx((time.start, time.end), abs=1e-9)
        assert final(results, "confidences") == pytest.approx(expected.confidences, abs=1e-3)
        num_phones += len(expected.phones)
    assert num_phones > 500


@pytest.mark.parametrize(
    "settings",
    [
        {"cmvn": "running"},
        {"cmvn": "speech_running"},
        {"cmvn": "speech_global", "kind": "fbank"},
        {"cmvn": "none", "delta_order": 0, "decoding": DecodingConfig(method="greedy")},
        {"model": replace(UNIDIRECTIONAL, cell="gru", stack=1, skip=1), "snip_edges": False},
        {"model": replace(UNIDIRECTIONAL, stack=4, skip=2), "order": 0, "kind": "fbank"},
        {"model": replace(UNIDIRECTIONAL, frontend="tdnn", tdnn_size=16), "dither": 1.0},
        {"model": replace(UNIDIRECTIONAL, frontend="conv2d", conv_channels=4), "backend": "numpy"},
        {"model": replace(UNIDIRECTIONAL, head="frames"), "cmvn": "running"},
        {"model": TRANSDUCER},
        {"model": TRANSDUCER, "decoding": DecodingConfig(method="greedy", blank_penalty=0.5)},
        {"model": replace(TRANSDUCER, head="joint_transducer"), "cmvn": "speech_running"},
        {"model": replace(UNIDIRECTIONAL, projection_size=8, residual=True), "decoding": DecodingConfig(lm_weight=1.5)},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_other_models_do_so_too(settings):
    model, rng, num_phones = make(**settings), np.random.default_rng(4), 0
    for number in range(4):
        samples = speech(rng.uniform(0.5, 4), 200 + number)
        expected = Recognizer(model).transcribe(Waveform(samples, RATE), "utt1")
        results = run(StreamingRecognizer(model, utt_id="utt1"), pieces_of(samples, rng, (100, 5000)))
        assert final(results, "phones") == expected.phones
        num_phones += len(expected.phones)
        if not model.config.heads.has_frames:  # else transcribe lets the head by frame place the boundaries
            for found, time in zip(final(results, "times"), expected.times, strict=True):
                assert (found.start, found.end) == pytest.approx((time.start, time.end), abs=1e-9)
    assert num_phones > 15


@pytest.mark.parametrize("head", ["transducer", "joint_transducer"])
def test_a_transducers_phones_can_all_be_timed(head, monkeypatch):
    """Untrained, it emits phones wherever it may: as many as there are steps, of which most are held no more."""
    monkeypatch.setattr(streaming, "_COMMIT_S", 1.0)
    monkeypatch.setattr("asrkit.inference.phone_time_stream.SETTLE", 1.5)
    model, samples, rng = make(replace(TRANSDUCER, head=head), order=0), speech(12, 5), np.random.default_rng(6)
    first, second = (
        run(StreamingRecognizer(model), pieces_of(samples, rng, sizes)) for sizes in ((480, 481), (9, 9999))
    )
    finals = [result for result in first if result.is_final]
    assert len(finals) > 5 and finals[0].end < 5
    assert final(first, "phones") == final(second, "phones")
    starts = [time.start for time in final(first, "times")]
    assert starts[-1] > 11


def test_a_transducers_utterance_ends_when_so_many_steps_bring_no_phones():
    """Against greedy searches of all steps since the last end, at each step anew."""
    model = make(TRANSDUCER, DecodingConfig(method="greedy"))
    samples, silence = speech(9, 8), model.tokens.encode(["sil"])[0]
    recognizer = Recognizer(model)
    outputs = model.log_probs(recognizer.extractor(Waveform(samples, RATE)))
    expected, begin, before, num_quiet = [], 0, [], 0
    for end in range(1, len(outputs) + 1):
        (found,) = recognizer.search.decode(outputs[begin:end])
        sounds = [token for token in found.tokens if token != silence]
        num_quiet, before = num_quiet + 1 if sounds == before else 0, sounds
        if num_quiet == 5 or end == len(outputs):
            expected += [model.tokens.decode(found.tokens)] if sounds else []
            begin, before, num_quiet = end, [], 0
    results = run(StreamingRecognizer(model, endpoint=0.15), np.array_split(samples, 99))  # five steps of 30 ms
    assert [result.phones for result in results if result.is_final] == expected
    assert len(expected) > 5


def test_what_is_final_does_not_depend_on_the_chunks_and_partial_results_go_before_it(model, monkeypatch):
    monkeypatch.setattr(streaming, "_COMMIT_S", 1.5)
    samples, rng = speech(12, 5), np.random.default_rng(5)
    expected = Recognizer(model).transcribe(Waveform(samples, RATE))
    found = []
    for sizes in ((480, 481), (37, 20000), (10**6, 10**6 + 1)):
        results = run(StreamingRecognizer(model), pieces_of(samples, rng, sizes))
        finals = [result for result in results if result.is_final]
        assert len(finals) > 1
        assert final(results, "phones") == expected.phones
        found.append(finals)
        for before, result in itertools.pairwise(results):
            if not before.is_final:
                assert result.phones != before.phones
                assert (result.times, before.times) == (result.times if result.is_final else (), ())
            assert result.is_final or result.end >= before.end
    assert [[f.phones for f in finals] for finals in found] == [[f.phones for f in found[0]]] * 3
    for time, other in zip(final(found[0], "times"), expected.times, strict=True):
        assert (time.start, time.end) == pytest.approx((other.start, other.end), abs=0.021)
    ends = [result.end for result in found[0]]
    assert ends == sorted(ends)
    assert ends[0] < 11


def test_a_phone_is_reported_when_its_audio_and_the_look_ahead_are_there(model):
    """The same partial results come later when chunks are larger; none waits for more than what look_ahead says."""
    samples = speech(2, 6)
    recognizer = StreamingRecognizer(model)
    assert recognizer.step == pytest.approx(0.03)
    assert recognizer.look_ahead == pytest.approx(
        {"window": 0.0125, "stacking": 0.01, "deltas": 0.04, "front end": 0.0}
    )
    # Step k has its middle at 22.5 ms + 30 ms k; what it needs is there look_ahead later.
    for number in range(1, 150):
        recognizer.accept(samples[(number - 1) * 160 : number * 160])
        ready = number * 0.01 - sum(recognizer.look_ahead.values())
        assert recognizer.num_steps == max(0, int(np.floor((ready - 0.0225) / 0.03 + 1 + 1e-9)))


def test_pauses_end_utterances_when_asked():
    def pause(seconds: float) -> np.ndarray:
        return np.zeros(int(seconds * RATE), np.float32)

    quiet = OnnxModel(loud_model())
    first, second = loud_speech(750), loud_speech(450)
    samples = np.concatenate([pause(1), first, pause(1), second, pause(2.5), first])
    results = run(StreamingRecognizer(quiet, endpoint=0.5), np.array_split(samples, 77))
    finals = [result for result in results if result.is_final]
    assert [[p for p in result.phones if p != "sil"] for result in finals] == [["a"], ["a"], ["a"]]
    starts = [next(time.start for time in result.times if time.phone == "a") for result in finals]
    expected = np.cumsum([1, len(first) / RATE + 1, len(second) / RATE + 2.5])
    np.testing.assert_allclose(starts, expected, atol=0.1)
    whole = run(StreamingRecognizer(quiet, endpoint=0.5), [samples])
    assert [r.phones for r in whole if r.is_final] == [r.phones for r in finals]
    assert len([r for r in run(StreamingRecognizer(quiet), [samples]) if r.is_final]) == 1
    assert run(StreamingRecognizer(quiet, endpoint=0.5), [pause(3)]) == []


def test_an_utterance_ends_after_so_many_quiet_steps_in_a_row(monkeypatch):
    """Against a search for them in the steps written as text: a single loud step, too, begins the count anew."""
    steps = "".join(np.random.default_rng(0).choice(["q", "l"], 1000, p=[0.8, 0.2]))  # quiet, loud
    given = iter(steps)
    log_probs = {"q": np.log([0.94, 0.02, 0.02, 0.02]), "l": np.log([0.02, 0.02, 0.94, 0.02])}

    def accept(self, static):
        return Outputs(np.array([log_probs[next(given)] for _ in static]).reshape(-1, 4))

    monkeypatch.setattr(OutputStream, "accept", accept)
    recognizer = StreamingRecognizer(OnnxModel(loud_model()), endpoint=0.06)  # steps of 10 ms
    found = []
    while recognizer.num_steps < len(steps):
        if any(result.is_final for result in recognizer.accept(np.zeros(RATE // 100, np.float32))):
            found.append(recognizer.num_steps)
    ends = [match.end() for match in re.finditer("q{6}", steps)]
    assert len(ends) > 30
    assert found == [end for begin, end in itertools.pairwise([0, *ends]) if "l" in steps[begin:end]]


def test_memory_does_not_grow_where_pauses_end_utterances():
    recognizer = StreamingRecognizer(OnnxModel(loud_model()), endpoint=0.4)
    turn = np.concatenate([loud_speech(), np.zeros(RATE // 2, np.float32)])
    sizes = []
    for _ in range(40):
        recognizer.accept(turn)
        sizes.append((len(recognizer._static._frames), len(recognizer._pieces)))
    assert max(max(size) for size in sizes) < 200


def test_memory_is_bounded_while_somebody_speaks(model, monkeypatch):
    monkeypatch.setattr(streaming, "_COMMIT_S", 0.5)
    monkeypatch.setattr("asrkit.inference.phone_time_stream.SETTLE", 1.0)
    recognizer = StreamingRecognizer(model)
    sizes = []
    for number in range(20):
        recognizer.accept(speech(2, number))
        sizes.append(len(recognizer._static._frames))
    assert max(sizes) < 1200
    assert recognizer.num_steps > 1300


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_sampling_rates(model, rate):
    samples = speech(3, 7)[: rate * 2]
    expected = Recognizer(model).transcribe(Waveform(samples, rate))
    recognizer = StreamingRecognizer(model, sample_rate=rate)
    results = run(recognizer, np.array_split(samples, 50))
    assert final(results, "phones") == expected.phones
    assert 0 < recognizer.look_ahead["resampling"] < 0.3


def test_what_it_refuses(model):
    for settings, message in (
        ({"model": replace(UNIDIRECTIONAL, bidirectional=True)}, r"model\.bidirectional: this model reads .* its end"),
        (
            {"model": ModelConfig(encoder="conformer", num_layers=1)},
            r"model\.encoder conformer: this model reads .* end",
        ),
        ({"cmvn": "speaker"}, r"features\.cmvn: this model takes statistics of the whole speaker"),
        ({"cmvn": "utterance"}, r"features\.cmvn: this model takes statistics of the whole utterance"),
    ):
        with pytest.raises(ConfigError, match=message):
            StreamingRecognizer(make(**settings))
    for endpoint in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="endpoint"):
            StreamingRecognizer(model, endpoint=endpoint)
    recognizer = StreamingRecognizer(model, utt_id="utt1")
    recognizer.accept(np.zeros(100, np.int16))
    with pytest.raises(AudioError, match="utt1: 100 samples"):
        recognizer.finish()
    with pytest.raises(AudioError, match="NaN or infinite"):
        StreamingRecognizer(model).accept(np.full(4000, np.nan, np.float32))
