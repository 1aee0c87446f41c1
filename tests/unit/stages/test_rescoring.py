"""asrkit rescore: lists of the best labellings, ranked again."""

import itertools
import json

import numpy as np
import pytest

from asrkit.cli.main import main
from asrkit.config.yaml_config import dump_config, load_config
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.language_models import read_lm
from asrkit.formats.transcripts import read_transcripts, write_transcripts
from asrkit.lm.ngram import train_ngram, write_arpa
from asrkit.models.language_file import write_neural_lm
from tests.language_models import random_network

REFS = {"u1": ("a", "b", "a"), "u2": ("b",), "u3": ("a", "a")}


@pytest.fixture
def tree(tmp_path):
    """Lists of all labellings of up to three phones, ranked with a language model of which nothing may be left."""
    rng, rows = np.random.default_rng(4), []
    search = DecodingConfig(lm_weight=0.7, insertion_bonus=0.5)
    for utt in REFS:
        labelings = [each for n in range(4) for each in itertools.product("ab", repeat=n)]
        acoustic, old_lm = rng.normal(-3, 1.5, len(labelings)), rng.normal(-5, 3, len(labelings))
        for phones, score, lm in zip(labelings, acoustic, old_lm, strict=True):
            total = score + 0.7 * lm + 0.5 * len(phones)
            rows.append({"utt": utt, "phones": phones, "score": total, "ctc_log_prob": score, "lm_log_prob": lm})
    (tmp_path / "nbest").mkdir()
    (tmp_path / "nbest" / "nbest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dump_config(search, tmp_path / "nbest" / "decoding.yaml")
    (tmp_path / "data").mkdir()
    write_transcripts(tmp_path / "data" / "text", REFS)
    write_neural_lm(random_network(), tmp_path / "lm.npz")
    write_arpa(train_ngram([["a", "b", "a"], ["b"]], 2, ["a", "b"]), tmp_path / "lm.arpa")
    return tmp_path, rows


def command(tmp_path, *options):
    lms = [name for path in ("lm.npz", "lm.arpa") for name in ("--lm", str(tmp_path / path))]
    return ["rescore", "--decode-dir", str(tmp_path / "nbest"), *lms, "--out", str(tmp_path / "out"), *options]


def best_of(rows, lms, weight, bonus):
    found = {}
    for row in rows:
        each = np.array([np.concatenate(lm.token_log_probs([row["phones"]])) for lm in lms])
        score = row["ctc_log_prob"] + weight * np.log(np.exp(each).mean(axis=0)).sum() + bonus * len(row["phones"])
        if row["utt"] not in found or score > found[row["utt"]][0]:
            found[row["utt"]] = (score, tuple(row["phones"]))
    return {utt: phones for utt, (_, phones) in found.items()}


def test_the_mixture_takes_the_place_of_the_searchs_model(tree, capsys):
    tmp_path, rows = tree
    lms = [read_lm(tmp_path / name) for name in ("lm.npz", "lm.arpa")]
    for weight, bonus in ((0.4, 1.0), (2.0, -0.5), (0.0, 0.0)):
        options = ["--lm-weight", str(weight), "--insertion-bonus", str(bonus)]
        assert main(command(tmp_path, *options)) == 0
        assert read_transcripts(tmp_path / "out" / "hyp") == best_of(rows, lms, weight, bonus)
        assert f"lm_weight {weight:g}, insertion_bonus {bonus:g}\n" in capsys.readouterr().out
    assert main(command(tmp_path, *options)) == 0
    assert capsys.readouterr().out.endswith("up to date\n")


def test_weight_and_bonus_of_the_fewest_errors(tree, capsys):
    tmp_path, rows = tree
    lms = [read_lm(tmp_path / name) for name in ("lm.npz", "lm.arpa")]
    assert main(command(tmp_path, "--data", str(tmp_path / "data"))) == 0
    config = load_config(tmp_path / "out" / "decoding.yaml", DecodingConfig)
    chosen = best_of(rows, lms, config.lm_weight, config.insertion_bonus)
    assert read_transcripts(tmp_path / "out" / "hyp") == chosen
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "the best labellings of the lists: PER 0.00 % (0 errors of 6 phones)"
    errors = int(lines[1].split("(")[1].split()[0])
    for weight, bonus in itertools.product(np.arange(0, 2.1, 0.5), np.arange(-1, 3.1, 0.5)):
        assert edits(best_of(rows, lms, weight, bonus)) >= errors
    assert edits(chosen) == errors


def edits(hyps):
    """The sum of the edit distances to the references."""
    total = 0
    for utt, ref in REFS.items():
        row = list(range(len(hyps[utt]) + 1))
        for i, phone in enumerate(ref, 1):
            last, row[0] = row[0], i
            for j, other in enumerate(hyps[utt], 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (phone != other))
        total += row[-1]
    return total


def test_faults(tree, capsys):
    tmp_path, _ = tree
    write_transcripts(tmp_path / "data" / "text", {"u1": ("a",)})
    assert main(command(tmp_path, "--data", str(tmp_path / "data"))) == 1
    assert "u2: only the transcripts or only the lists have it" in capsys.readouterr().err
    with (tmp_path / "nbest" / "nbest.jsonl").open("a") as stream:
        stream.write('{"utt": "u4"}\n')
    assert main(command(tmp_path)) == 1
    assert "nbest.jsonl:46: not a line of asrkit decode --nbest; decode again" in capsys.readouterr().err
    (tmp_path / "nbest" / "nbest.jsonl").unlink()
    assert main(command(tmp_path)) == 1
    assert "nbest.jsonl: not found; made by stage 4 (asrkit decode --nbest)" in capsys.readouterr().err
