"""Training sets from disk: tokens, frame labels, batches, and what they cost."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asrkit.errors import DataError
from asrkit.features.config import FeatureConfig
from asrkit.formats.ctm import PhoneTimes
from asrkit.formats.data_dir import write_data_dir
from asrkit.io.ark import ArkWriter
from asrkit.io.scp import read_table, write_table
from asrkit.lang.phone_map import FoldedTokens, PhoneMap
from asrkit.lang.tokens import TokenTable
from asrkit.training.dataset import FrameLabels, TrainingSet, min_steps, split_infeasible
from asrkit.types import PhoneTime, Utterance

TOKENS = TokenTable(["a", "b", "c"])
CONFIG = FeatureConfig()
STATS = np.array([[0.0] * 13 + [50.0], [50.0] * 13 + [0.0]])
LENS = {"spk1-a": 30, "spk1-b": 12, "spk2-a": 45, "spk2-b": 3}
PHONES = {"spk1-a": "a b c", "spk1-b": "c c", "spk2-a": "b b b a", "spk2-b": "a a"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    times = {
        utt_id: tuple(PhoneTime(phone, 0.1 * i + 0.02, 0.1 * i + 0.09) for i, phone in enumerate(phones.split()))
        for utt_id, phones in PHONES.items()
    }
    utts = [
        Utterance(utt_id, utt_id[:4], f"/{utt_id}.wav", tuple(PHONES[utt_id].split()), phone_times=times[utt_id])
        for utt_id in LENS
    ]
    write_data_dir(tmp_path / "data", utts, dict.fromkeys(LENS, 1.0))
    rng = np.random.default_rng(1)
    with ArkWriter(tmp_path / "data" / "feats.ark", tmp_path / "data" / "feats.scp") as writer:
        for utt_id, length in LENS.items():
            writer.write(utt_id, rng.standard_normal((length, 13)).astype(np.float32))
    with ArkWriter(tmp_path / "data" / "cmvn.ark", tmp_path / "data" / "cmvn.scp") as writer:
        for spk_id in ("spk1", "spk2"):
            writer.write(spk_id, STATS)
    return tmp_path / "data"


class Thirds:
    """A model that takes three frames a step."""

    def num_steps(self, num_frames: int) -> int:
        return (num_frames + 2) // 3


def test_a_part_has_some_of_the_utterances(data_dir: Path) -> None:
    part = TrainingSet.open(data_dir, CONFIG, STATS, TOKENS).part({"spk1-b", "spk2-a", "other"})
    assert dict(part.num_frames) == {"spk1-b": 12, "spk2-a": 45}
    assert [*part.batches(8)] == [["spk1-b", "spk2-a"]]


def test_symbols_are_read_as_other_tokens_or_left_out(data_dir: Path) -> None:
    tokens = TokenTable(["x", "y"])
    folded = FoldedTokens(tokens, PhoneMap("", {"a": "y", "b": "x", "c": None}))
    with pytest.raises(DataError, match=r"^\S*text: spk1-b: empty transcript; give its phones or remove it$"):
        TrainingSet.open(data_dir, CONFIG, STATS, folded)
    folded = FoldedTokens(tokens, PhoneMap("", {"a": None, "b": "x", "c": "y"}))
    write_table(data_dir / "text", {**read_table(data_dir / "text"), "spk2-b": "a y"})
    data = TrainingSet.open(data_dir, CONFIG, STATS, folded, with_frame_labels=True)
    assert dict(data.tokens) == {"spk1-a": [1, 2], "spk1-b": [2, 2], "spk2-a": [1, 1, 1], "spk2-b": [2]}
    assert set(data.frame_labels["spk1-a"].tolist()) == {-1, 1, 2}


def test_a_set_from_disk(data_dir: Path) -> None:
    data = pickle.loads(pickle.dumps(TrainingSet.open(data_dir, CONFIG, STATS, TOKENS, with_frame_labels=True)))
    assert len(data) == 4
    assert dict(data.num_frames) == LENS
    assert dict(data.tokens) == {utt_id: TOKENS.encode(phones.split()) for utt_id, phones in PHONES.items()}
    assert [list(batch) for batch in data.batches(2)] == [["spk2-b", "spk1-b"], ["spk1-a", "spk2-a"]]
    batch = data.load(["spk1-b", "spk1-a"])
    assert batch.feats.shape == (2, 30, 39)
    assert batch.tokens.tolist() == [[3, 3, 0], [1, 2, 3]]
    assert batch.frame_labels.shape == (2, 30)
    np.testing.assert_array_equal(batch.frame_labels[1], data.frame_labels["spk1-a"])
    assert batch.frame_labels[0, 12:].tolist() == [-1] * 18
    assert data.load(["spk1-a"], np.random.default_rng(1)).feats.equal(data.load(["spk1-a"]).feats)
    assert TrainingSet.open(data_dir, CONFIG, STATS, TOKENS).load(["spk1-a"]).frame_labels is None


def test_extractions_count_of_frames_is_believed(data_dir: Path) -> None:
    write_table(data_dir / "utt2num_frames", {utt_id: str(length + 1) for utt_id, length in LENS.items()})
    assert dict(TrainingSet.open(data_dir, CONFIG, STATS, TOKENS).num_frames) == LENS  # another tool's is not
    (data_dir / "feats.json").write_text(json.dumps(CONFIG.static_settings()))
    counts = TrainingSet.open(data_dir, CONFIG, STATS, TOKENS).num_frames
    assert dict(counts) == {utt_id: length + 1 for utt_id, length in LENS.items()}


def test_faults_of_the_transcripts(data_dir: Path) -> None:
    write_table(data_dir / "text", {"spk1-a": "a x b y x", "spk1-b": "", "spk2-a": "a", "spk3-a": "a"})
    with pytest.raises(DataError) as error:
        TrainingSet.open(data_dir, CONFIG, STATS, TOKENS)
    assert str(error.value).split("\n") == [
        f"{data_dir}/text: spk1-a: phones not in the token table: x y",
        f"{data_dir}/text: spk1-b: empty transcript; give its phones or remove it",
        f"{data_dir}/text: no transcript for spk2-b, which feats.scp has; repeat stage 1 (asrkit extract)",
        f"{data_dir}/text: no features for spk3-a; repeat stage 1 (asrkit extract)",
    ]


@pytest.mark.parametrize("num_tokens", [200, 300])
def test_tables_of_many_tokens(data_dir: Path, num_tokens: int) -> None:
    tokens = TokenTable([f"p{i}" for i in range(1, num_tokens)])
    write_table(data_dir / "text", dict.fromkeys(LENS, f"p1 p{num_tokens - 1} p7"))
    assert TrainingSet.open(data_dir, CONFIG, STATS, tokens).tokens["spk1-a"] == [1, num_tokens - 1, 7]


def test_frame_labels_need_phone_times(data_dir: Path) -> None:
    (data_dir / "phones.ctm").unlink()
    assert len(TrainingSet.open(data_dir, CONFIG, STATS, TOKENS)) == 4
    with pytest.raises(DataError, match=r"phones\.ctm: no such file; frame labels need the times of phones"):
        TrainingSet.open(data_dir, CONFIG, STATS, TOKENS, with_frame_labels=True)


@pytest.mark.parametrize("speed", [1.0, 0.9, 1.1])
@pytest.mark.parametrize(
    "config",
    [FeatureConfig(), FeatureConfig(snip_edges=False), FeatureConfig(frame_length_ms=16.0, frame_shift_ms=8.0)],
    ids=["snipped", "not snipped", "16 ms"],
)
def test_frame_labels_by_hand(tmp_path: Path, config: FeatureConfig, speed: float) -> None:
    rng = np.random.default_rng(3)
    bounds = np.sort(rng.uniform(0, 1.2, 20)).round(3) + 0.0004  # no frame's centre lies there
    spans = [
        (start, end, rng.choice(["a", "b", "c", "sil"])) for start, end in zip(bounds[::2], bounds[1::2], strict=True)
    ]
    lines = [f"utt 1 {start:.4f} {end - start:.4f} {phone}\n" for start, end, phone in spans]
    (tmp_path / "c").write_text("".join(lines))
    labels = FrameLabels(PhoneTimes(tmp_path / "c"), TOKENS, config, {"utt": 100, "other": 4})
    assert labels["other"].tolist() == [-1] * 4
    found = labels.at_speed("utt", 100, speed)
    shift, length = config.frame_shift_ms / 1000, config.frame_length_ms / 1000
    for frame, label in enumerate(found):
        centre = frame * shift + (length / 2 if config.snip_edges else shift / 2)
        inside = [TOKENS.ids.get(phone, -1) for start, end, phone in spans if start <= centre * speed < end]
        assert label == (inside[0] if inside else -1), frame
    if speed == 1.0:
        np.testing.assert_array_equal(labels["utt"], found)


def test_phones_of_no_length_and_of_overlap(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("utt 1 0 0.1 a\nutt 1 0.05 0.1 b\nutt 1 0.15 0 c\n")
    labels = FrameLabels(PhoneTimes(tmp_path / "c"), TOKENS, FeatureConfig(snip_edges=False), {"utt": 20})["utt"]
    assert labels.tolist() == [1] * 5 + [2] * 10 + [-1] * 5  # the later phone where two overlap


def test_what_ctc_cannot_align_is_left_out(data_dir: Path) -> None:
    data = TrainingSet.open(data_dir, CONFIG, STATS, TOKENS)
    kept, excluded = split_infeasible(data, Thirds())
    assert excluded == {"spk2-b": (1, 3)}
    assert dict(kept.num_frames) == {utt_id: length for utt_id, length in LENS.items() if utt_id != "spk2-b"}
    assert len(kept) == 3
    for utt_id in kept.num_frames:  # the fewest frames that the tokens need
        needed = min_steps(kept.tokens[utt_id])
        assert (
            Thirds().num_steps(int(kept.min_frames[needed]))
            >= needed
            > Thirds().num_steps(int(kept.min_frames[needed]) - 1)
        )
    assert dict(split_infeasible(kept, Thirds())[0].num_frames) == dict(kept.num_frames)


def test_nothing_is_left(data_dir: Path) -> None:
    write_table(data_dir / "text", dict.fromkeys(read_table(data_dir / "text"), "a " * 99 + "a"))
    kept, excluded = split_infeasible(TrainingSet.open(data_dir, CONFIG, STATS, TOKENS), Thirds())
    assert len(kept) == 0
    assert len(excluded) == 4
    assert len(kept.batches(3)) == 0


_HUNDRED_TIMES_TIMIT = """
import json, re, sys
from pathlib import Path
import numpy as np
from asrkit.features.config import FeatureConfig
from asrkit.io.ark import ArkWriter
from asrkit.lang.phone_map import FoldedTokens, PhoneMap
from asrkit.lang.tokens import TokenTable
from asrkit.training.dataset import TrainingSet, split_infeasible

directory, num_utts = Path(sys.argv[1]), 370_000
with ArkWriter(directory / "feats.ark", directory / "one.scp") as writer:
    writer.write("x", np.ones((300, 13), np.float32))
place = (directory / "one.scp").read_text().split()[1]
with ArkWriter(directory / "cmvn.ark", directory / "cmvn.scp") as writer:
    for number in range(num_utts // 8):
        writer.write(f"spk{number:05d}", np.array([[0.0] * 13 + [300.0], [300.0] * 13 + [0.0]]))
text = " ".join(f"p{number}" for number in range(40))
rows = {"feats.scp": "UTT " + place, "utt2spk": "UTT SPK", "utt2num_frames": "UTT 300", "text": "UTT " + text,
        "phones.ctm": "UTT 1 0 1 p1\\nUTT 1 1 1 p2"}
for name, row in rows.items():
    with open(directory / name, "w") as stream:
        for number in range(num_utts // 8):
            spk = f"spk{number:05d}"
            stream.write("".join(row.replace("UTT", f"{spk}-sx{n:03d}").replace("SPK", spk) + "\\n" for n in range(8)))
(directory / "feats.json").write_text(json.dumps(FeatureConfig().static_settings()))

class Thirds:
    def num_steps(self, num_frames):
        return (num_frames + 2) // 3

def memory(kind):  # not resource.getrusage, whose peak a process inherits from its parent
    return int(re.search(kind + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = memory("VmRSS")
stats = np.array([[0.0] * 13 + [50.0], [50.0] * 13 + [0.0]])
data = TrainingSet.open(directory, FeatureConfig(), stats, TokenTable([f"p{n}" for n in range(61)]), None, True)
data, _ = split_infeasible(data, Thirds())
batches = data.batches(16, np.random.default_rng(1))
for number in range(100):
    batch = data.load(batches[number])
assert len(data) == num_utts and len(batches) == -(-num_utts // 16) and batch.feats.shape == (16, 300, 39)
print(json.dumps({"resident": memory("VmRSS") - before, "peak": memory("VmHWM") - before}))
"""


@pytest.mark.slow
def test_a_hundred_times_timit_takes_less_than_200_mb(tmp_path: Path) -> None:
    """370,000 utterances: an index like that of a real corpus, in which all point to one matrix."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc/self/status to tell how much memory is used")
    done = subprocess.run([sys.executable, "-c", _HUNDRED_TIMES_TIMIT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    assert 10_000 < grown["resident"] < 200_000, grown  # KiB
    assert grown["peak"] < 200_000, grown
