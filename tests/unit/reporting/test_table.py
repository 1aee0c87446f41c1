"""The table of experiments: means over seeds, their intervals, pairs, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from asrkit.cli.main import main
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.errors import DataError
from asrkit.experiment import make_model, save_experiment
from asrkit.io.stamp import Output, Stamp
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.reporting.table import find_pairs, read_systems, render_differences, render_table
from asrkit.scoring.per import Counts
from asrkit.scoring.significance import compare, rate_interval
from asrkit.training.config import TrainingConfig

REFS = [100, 200, 150, 120, 80, 90, 110, 150]  # 1000, of eight speakers
ERRORS = {1: [10, 30, 12, 9, 7, 9, 12, 11], 2: [14, 26, 16, 13, 3, 9, 14, 15]}  # by seed: 100 and 110
DEV_REFS, DEV_ERRORS = [60, 40], [7, 6]


def make_experiment(directory, seed=1, errors=(10, 30), refs=(100, 50), protocol="as-is", cmvn=0.0, **model):
    config = ExperimentConfig(
        model=ModelConfig(**{"num_layers": 1, "hidden_size": 2, **model}), training=TrainingConfig(seed=seed)
    )
    tokens = TokenTable(["a", "b"])
    directory.mkdir()
    stats = np.full((2, 14), cmvn)
    stats[0, -1] = 10  # frames
    save_experiment(directory, config, tokens, make_model(config, tokens), stats)
    (directory / "history.csv").write_text(f"epoch,cpu_seconds\n1,5.0\n2,{10.5 + seed}\n")
    for name, counts in (("dev", (DEV_REFS, DEV_ERRORS)), ("test", (refs, errors))):
        (directory / f"decode_{name}").mkdir()
        speakers = [
            {"spk": f"s{index}", "num_ref": num_ref, "num_errors": num_errors}
            for index, (num_ref, num_errors) in enumerate(zip(*counts, strict=True))
        ]
        speakers.sort(key=lambda row: -row["num_errors"])  # worst first, as reports have them
        report = {"ref": f"data/{name}", "protocol": protocol, "speakers": speakers}
        (directory / f"decode_{name}" / "report.json").write_text(json.dumps(report))
    return directory


def words(line):
    return [field.strip() for field in line.split("  ") if field]


def test_a_row_holds_what_the_experiment_s_files_say(tmp_path, capsys):
    directory = make_experiment(tmp_path / "one")
    (system,) = read_systems([directory])
    num_parameters = system.runs[0].num_parameters
    assert main(["table", str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "dev: data/dev, 100 reference tokens, protocol as-is, 2 speakers",
        "test: data/test, 150 reference tokens, protocol as-is, 2 speakers",
    ]
    # Nothing is said of intervals, for which there are too few speakers, nor of seeds where there is one.
    assert " ".join(words(lines[-2])) == (
        "experiment seeds cell direction layers blocks parameters CPU-seconds dev PER test PER"
    )
    row = ["one", "1", "lstm", "bidirectional", "1", "2", f"{num_parameters:,}", "12", "13.00", "26.67"]
    assert words(lines[-1]) == row


def test_experiments_that_differ_in_the_seed_alone_are_one_row_of_means(tmp_path):
    seeds = [make_experiment(tmp_path / f"net.{seed}", seed, errors, REFS) for seed, errors in ERRORS.items()]
    other = make_experiment(tmp_path / "other", 1, ERRORS[1], REFS, bidirectional=False)
    system, single = read_systems([seeds[0], other, seeds[1]])
    assert (system.name, single.name) == ("net", "other")
    assert [run.seed for run in system.runs] == [1, 2]
    assert system.cpu_seconds == 12.0
    assert system.pers("test") == [10.0, 11.0]

    mean = [(one + two) / 2 for one, two in zip(*ERRORS.values(), strict=True)]
    interval = rate_interval(mean, REFS)
    assert system.interval("test") == interval
    row = words(render_table([system, single]).splitlines()[-2])
    assert row[:2] == ["net", "2"]
    assert row[-3:] == ["10.50", f"[{interval.low:.2f}, {interval.high:.2f}]", "10.00 to 11.00"]
    row = words(render_table([system, single]).splitlines()[-1])
    alone = rate_interval(ERRORS[1], REFS)
    assert row[-3:] == ["10.00", f"[{alone.low:.2f}, {alone.high:.2f}]", "-"]


def test_speakers_are_paired_by_name_in_differences(tmp_path):
    """Reports list the worst speakers first, each in an order of its own."""
    reverse = ERRORS[2][::-1]
    a, b = read_systems(
        [
            make_experiment(tmp_path / "uni", 1, reverse, REFS, bidirectional=False),
            make_experiment(tmp_path / "bi", 1, ERRORS[1], REFS),
        ]
    )
    ((what, first, second),) = find_pairs([a, b])
    assert (what, first.name, second.name) == ("bidirectional - unidirectional (1 layer, lstm, 2 blocks)", "bi", "uni")
    counts = [
        [Counts(ref, 0, 0, count) for ref, count in zip(REFS, errors, strict=True)] for errors in (ERRORS[1], reverse)
    ]
    assert first.minus(second, "test") == compare(*counts)


@pytest.mark.parametrize(("factor", "verdict"), [(3, "yes"), (1, "no")])
def test_differences_say_whether_they_can_be_told_from_0(tmp_path, factor, verdict):
    more = [factor * count for count in ERRORS[2]]
    directories = [
        make_experiment(tmp_path / "elman.1", 1, more, REFS, cell="elman"),
        make_experiment(tmp_path / "lstm.1", 1, ERRORS[1], REFS),
        make_experiment(tmp_path / "lstm.2", 2, ERRORS[2], REFS),
    ]
    systems = read_systems(directories)
    found = systems[0].minus(systems[1], "test")
    assert found.difference == pytest.approx(11.0 * factor - 10.5)
    header, line = render_differences(systems).splitlines()[-2:]
    # dev has too few speakers for an interval; there all runs have as many errors.
    assert words(header) == ["difference in PER", "dev", "lower", "test", "95 %", "not 0", "lower"]
    bracket = f"[{found.interval.low:.2f}, {found.interval.high:.2f}]"
    what = "elman - lstm (bidirectional, 1 layer, 2 blocks)"
    assert words(line) == [what, "+0.00", "0 of 2", f"{found.difference:+.2f}", bracket, verdict, "0 of 2"]


def test_pairs_differ_in_one_setting_alone(tmp_path):
    models = {
        "uni1": {"bidirectional": False},
        "uni2": {"bidirectional": False, "num_layers": 2},
        "bi1": {},
        "bi2": {"num_layers": 2},
        "bi3": {"num_layers": 3},
        "elman1": {"cell": "elman"},
        "elman3": {"cell": "elman", "num_layers": 3},
        "wide2": {"num_layers": 2, "hidden_size": 3},
    }
    directories = [make_experiment(tmp_path / name, **model) for name, model in models.items()]
    directories.append(make_experiment(tmp_path / "of_other_data", cmvn=1.0, num_layers=2))
    systems = read_systems(directories)
    assert len(systems) == len(directories)
    pairs = find_pairs(systems)
    assert [(a.name, b.name) for _, a, b in pairs] == [
        ("bi1", "uni1"),
        ("bi2", "uni2"),
        ("uni2", "uni1"),
        ("bi2", "bi1"),
        ("bi3", "bi2"),
        ("elman3", "elman1"),  # neighbours, for there is no elman2
        ("bi1", "elman1"),
        ("bi3", "elman3"),
    ]
    assert [what for what, *_ in pairs[2:]] == [
        "2 layers - 1 layer (unidirectional, lstm, 2 blocks)",
        "2 layers - 1 layer (bidirectional, lstm, 2 blocks)",
        "3 layers - 2 layers (bidirectional, lstm, 2 blocks)",
        "3 layers - 1 layer (bidirectional, elman, 2 blocks)",
        "lstm - elman (bidirectional, 1 layer, 2 blocks)",
        "lstm - elman (bidirectional, 3 layers, 2 blocks)",
    ]


def test_without_pairs_there_is_the_table_alone(tmp_path, capsys):
    assert main(["table", str(make_experiment(tmp_path / "one"))]) == 0
    assert "difference" not in capsys.readouterr().out


def test_rates_over_other_references_or_protocols_are_not_put_side_by_side(tmp_path):
    first = make_experiment(tmp_path / "first")
    others = {"tokens": {"refs": (100, 51)}, "rule": {"protocol": "merged"}, "speakers": {"refs": (90, 60)}}
    for name, options in others.items():
        with pytest.raises(DataError) as caught:
            read_systems([first, make_experiment(tmp_path / name, num_layers=2, **options)])
        assert len(str(caught.value).split("\n")) == 2 and "expected the same of all rows" in str(caught.value)


def test_an_experiment_is_in_a_table_once(tmp_path):
    first, second = make_experiment(tmp_path / "first"), make_experiment(tmp_path / "second")
    with pytest.raises(DataError) as caught:
        read_systems([first, second])
    assert str(caught.value) == "second: its settings, data and seed are those of first; leave one out"


def test_all_that_is_missing_is_named(tmp_path):
    first, second = make_experiment(tmp_path / "first"), make_experiment(tmp_path / "second")
    third = make_experiment(tmp_path / "third", refs=(0, 0))
    (first / "decode_test/report.json").unlink()
    (second / "decode_dev/report.json").write_text("[]")
    (second / "history.csv").unlink()
    (third / "history.csv").write_text("epoch,cpu_seconds\n1,-1\n")
    with pytest.raises(DataError) as caught:
        read_systems([first, second, third])
    faults = str(caught.value).split("\n")
    assert [fault.split(": ")[0].removeprefix(f"{tmp_path}/") for fault in faults] == [
        "first/decode_test/report.json",
        "second/decode_dev/report.json",
        "second/history.csv",
        "third/decode_test/report.json",
        "third/history.csv",
    ]
    assert "made by stage 5 (asrkit report)" in faults[0]
    assert "no reference tokens" in faults[3]


def test_a_report_that_was_changed_is_named(tmp_path):
    first, second = make_experiment(tmp_path / "first"), make_experiment(tmp_path / "second", seed=2)
    report = second / "decode_test/report.json"
    Stamp(report.with_name(".report.stamp"), {}).write({report: Output.found(report)})
    read_systems([first, second])
    report.write_text(report.read_text().replace('"num_errors": 30', '"num_errors": 10'))
    with pytest.raises(DataError) as caught:
        read_systems([first, second])
    said = "missing, or not as stage 5 (asrkit report) left it; run that again, or remove "
    assert str(caught.value).startswith(f"{report}: {said}")


def test_no_rows_are_refused():
    with pytest.raises(DataError):
        render_table([])
