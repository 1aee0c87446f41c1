"""Shards of data directories: all content is in one of them, speakers stay together, sizes are about equal."""

from pathlib import Path

import pytest

from asrkit.errors import DataError
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.formats.shards import shards_of, write_shards
from asrkit.stages.sharding import split
from asrkit.types import PhoneTime, Utterance


def write(directory: Path, sizes: list[int]) -> None:
    """A data directory with so many utterances of each speaker, as parts of recordings of three."""
    utts, durations = [], {}
    for spk, size in enumerate(sizes):
        for number in range(size):
            utt_id = f"s{spk:02d}-{number:02d}"
            begin, end = 1.0 * (number % 3), 1.0 * (number % 3 + 1)
            rec = f"s{spk:02d}-r{number // 3}"
            times = (PhoneTime("a", 0.1, 0.2),)
            utts.append(
                Utterance(utt_id, f"s{spk:02d}", f"/audio/{rec}.wav", ("a",), rec, begin, end, "mf"[spk % 2], times)
            )
            durations[utt_id] = 1.0
    write_data_dir(directory, utts, durations)


@pytest.mark.parametrize(
    ("sizes", "number", "expected"),
    [
        ([2] * 6, 3, [4, 4, 4]),
        ([1, 1, 1, 9], 2, [3, 9]),
        ([9, 1, 1, 1], 4, [9, 1, 1, 1]),
        ([1, 9, 1, 1], 3, [1, 9, 2]),
        ([5], 1, [5]),
    ],
)
def test_shards_have_all_and_whole_speakers(tmp_path: Path, sizes, number, expected) -> None:
    write(tmp_path / "d", sizes)
    whole = load_data_dir(tmp_path / "d")
    shards = split(tmp_path / "d", number).shards
    assert list(shards) == shards_of(tmp_path / "d") == shards_of(tmp_path / "d" / f"split{number}")
    parts = [load_data_dir(shard) for shard in shards]
    assert [len(part.text) for part in parts] == expected
    assert [utt for part in parts for utt in part.utterances()] == whole.utterances()
    assert {utt: length for part in parts for utt, length in part.utt2dur.items()} == whole.utt2dur
    speakers = [set(part.utt2spk.values()) for part in parts]
    assert sum(map(len, speakers)) == len(set().union(*speakers))


def test_shards_are_up_to_date_until_a_table_changes(tmp_path: Path) -> None:
    write(tmp_path / "d", [2, 2])
    assert not split(tmp_path / "d", 2).up_to_date
    features = tmp_path / "d/split2/1/feats.scp"
    features.write_text("s00-00 a:1\n")
    assert split(tmp_path / "d", 2).up_to_date and features.exists()
    text = tmp_path / "d/text"
    text.write_text(text.read_text().replace("s01-01 a", "s01-01 b"))
    assert (tmp_path / "d/phones.ctm").unlink() is None
    assert not split(tmp_path / "d", 2).up_to_date and not features.exists()
    assert load_data_dir(tmp_path / "d/split2/2").text["s01-01"] == ("b",)
    assert not split(tmp_path / "d", 2, force=True).up_to_date


def test_faults(tmp_path: Path) -> None:
    write(tmp_path / "d", [3, 3])
    with pytest.raises(
        DataError, match=r"^\S*d: 2 shards at most, as a speaker's utterances stay together; .* 3; give"
    ):
        split(tmp_path / "d", 3)
    split(tmp_path / "d", 2)
    split(tmp_path / "d", 1)
    with pytest.raises(DataError, match=r"^\S*d: sharded more than once, as split1 and split2; give one of them$"):
        shards_of(tmp_path / "d")
    (tmp_path / "d/feats.scp").write_text("")  # as Kaldi's scripts leave them beside features
    assert shards_of(tmp_path / "d") == []
    (tmp_path / "d/split2/2/text").unlink()
    with pytest.raises(DataError, match=r"^\S*split2/2: not found; expected data directories 1 to 2$"):
        shards_of(tmp_path / "d/split2")
    (tmp_path / "d/utt2dur").unlink()
    with pytest.raises(DataError, match=r"^\S*utt2dur: not found; write the length of each utterance, in seconds$"):
        split(tmp_path / "d", 2)
    assert shards_of(tmp_path / "nothing") == []


def test_write_shards_names_them(tmp_path: Path) -> None:
    write(tmp_path / "d", [1] * 12)
    shards = write_shards(load_data_dir(tmp_path / "d"), tmp_path / "out", 12)
    assert [path.name for path in shards] == [str(number) for number in range(1, 13)]
    assert shards_of(tmp_path / "out") == shards
