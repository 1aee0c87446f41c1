"""Scoring of a data directory in parts, by one process or several."""

from pathlib import Path

import pytest

from asrkit.io.scp import read_table
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages import scored_data
from asrkit.stages.scored_data import ScoredData
from asrkit.stages.scoring import score

NUM_UTTS = 17


@pytest.fixture
def decoded(tmp_path: Path) -> Path:
    """A data directory and two systems' hypotheses: hyp_a and hyp_b."""
    phones = ["sil", "h#", "iy", "ih", "eh", "ae", "p", "t", "k"]
    rows = {f"u{number:02}": phones[number % 7 :] + phones[: number % 5 + 1] for number in range(NUM_UTTS)}
    tables = {
        "text": rows,
        "utt2spk": {utt: [f"s{number % 3}"] for number, utt in enumerate(rows)},
        "hyp_a": {utt: row[1:] + row[:1] for utt, row in rows.items()},
        "hyp_b": {utt: row[::2] for utt, row in rows.items()},
    }
    for name, table in tables.items():
        (tmp_path / name).write_text("".join(f"{utt} {' '.join(row)}\n" for utt, row in table.items()))
    return tmp_path


@pytest.mark.parametrize("protocol", ["as-is", "optional-silence"])
@pytest.mark.parametrize("num_jobs", [1, 2])
def test_parts_have_the_scores_of_the_whole(decoded, monkeypatch, protocol, num_jobs):
    monkeypatch.setattr(scored_data, "UTTS_AT_A_TIME", 3)
    monkeypatch.setattr(scored_data, "_PARTS_AT_A_TIME", 2)
    hyps = {name: decoded / f"hyp_{name}" for name in "ab"}
    data = ScoredData(decoded, hyps, PROTOCOLS[protocol])
    parts = list(data.parts(num_jobs))
    assert [len(utt2spk) for utt2spk, _ in parts] == [3] * 5 + [2]
    assert {utt: spk for utt2spk, _ in parts for utt, spk in utt2spk.items()} == read_table(decoded / "utt2spk")
    for name, hyp in hyps.items():
        expected = score(decoded / "text", hyp, protocol=PROTOCOLS[protocol]).result
        found = [pair for _, results in parts for pair in results[name].pairs.items()]
        assert found == [*expected.pairs.items()]
        assert sum(results[name].num_errors for _, results in parts) == expected.num_errors > 0
