"""`asrkit models`, and what verbs tell and write of the model that they use."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.corpora import mini, speechocean762
from asrkit.inference.export import with_test_score
from asrkit.io.seal import unsealed
from asrkit.types import TestScore
from tests.loud_model import RATE, loud_model, loud_speech

ARPABET = ("sil", "AA", "CH", "NG")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a recording, where no model has a name but those that are put into its `models`."""
    installed = tmp_path / "installed/asrkit/inference/find_model.py"
    monkeypatch.setattr("asrkit.inference.find_model.__file__", str(installed))
    monkeypatch.setenv("ASRKIT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "installed/asrkit/pretrained").mkdir(parents=True)
    samples = np.concatenate([np.zeros(RATE // 2), loud_speech(), np.zeros(RATE // 2)])
    soundfile.write(tmp_path / "loud.wav", samples.astype(np.int16), RATE)
    return tmp_path


def test_models_are_listed_by_what_their_files_tell(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    english = with_test_score(
        loud_model(phones=ARPABET, corpus=speechocean762.INFO), TestScore("speechocean762 test", 500, 8651, 3034)
    )
    ours = place / "installed/asrkit/pretrained/english.onnx"
    ours.write_bytes(english)
    (place / "models/made.onnx").write_bytes(loud_model(corpus=mini.INFO))
    recipe = place / "recipes/own/exp/lstm"
    recipe.mkdir(parents=True)
    (recipe / "final.onnx").write_bytes(loud_model())
    assert main(["models"]) == 0
    per = "35.1 % on speechocean762 test (500 utterances, 8651 phones)"
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["name", "language", "phones", "trained on", "size", "PER", "license"],
        *(
            ["english", "English", "4", "speechocean762", "0.0 MB", per, "CC BY 4.0"],
            ["made", "Persian", "3", "mini (synthetic)", "0.0 MB", "-", "-"],
            ["own", "-", "3", "-", "0.0 MB", "-", "-"],
        ),
    ]

    assert main(["models", "--json"]) == 0
    first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        **{"name": "english", "file": str(ours), "size": len(english), "phones": list(ARPABET), "streaming": True},
        **{"language": "English", "trained_on": "speechocean762", "synthetic": False, "license": "CC BY 4.0"},
        **{"attribution": speechocean762.INFO.attribution, "per": 35.07, "test_set": "speechocean762 test"},
        **{"test_utterances": 500, "test_phones": 8651},
    }
    assert [(each["name"], each["synthetic"], each["per"]) for each in others] == [
        ("made", True, None),
        ("own", None, None),
    ]


def test_a_damaged_model_is_named_and_the_others_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "models/bad.onnx").write_bytes(loud_model()[:-1])
    (place / "models/good.onnx").write_bytes(loud_model())
    assert main(["models"]) == 1
    done = capsys.readouterr()
    assert [line.split()[0] for line in done.out.splitlines()] == ["name", "good"]
    (line,) = done.err.splitlines()
    assert line.startswith(f"asrkit models: error: {place}/models/bad.onnx: ")


@pytest.mark.parametrize(
    "verb", [["transcribe"], ["transcribe", "--json"], ["align", "--phones", "AA"], ["stream"]], ids=" ".join
)
def test_each_verb_writes_ipa(place: Path, capsys: pytest.CaptureFixture[str], verb: list[str]) -> None:
    (place / "models/loud.onnx").write_bytes(loud_model(phones=ARPABET))
    for option, expected, other in (([], "AA", "ɑ"), (["--ipa"], "ɑ", "AA")):
        assert main([*verb, *option, "--model", "loud", "loud.wav"]) == 0
        out = capsys.readouterr().out
        assert (expected in out, other in out) == (True, False)


@pytest.mark.parametrize("verb", [["transcribe"], ["align", "--phones", "a"], ["stream"]], ids=" ".join)
def test_a_model_that_learned_from_a_program_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    """By what its file tells, whatever its name is."""
    said = "trained on the synthetic speech of mini; its results on human speech are not reliable"
    for name, corpus, is_said in (("mini", speechocean762.INFO, False), ("loud", mini.INFO, True)):
        (place / f"models/{name}.onnx").write_bytes(loud_model(corpus=corpus))
        assert main([*verb, "--model", name, "loud.wav"]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert (f"asrkit {verb[0]}: note: {name}: {said}" in lines) is is_said


@pytest.mark.parametrize(
    ("verb", "name"),
    [(["transcribe"], "english"), (["align", "--phones", "AA"], "english"), (["stream"], "english-streaming")],
)
def test_without_a_model_that_which_comes_with_asrkit_is_taken(
    place: Path, capsys: pytest.CaptureFixture[str], verb: list[str], name: str
) -> None:
    """Also where something else has its name; without it, one line says what to do."""
    for other in ("english", "english-streaming"):
        (place / f"models/{other}.onnx").write_bytes(loud_model())
        (place / other).write_text("no model")
    assert main([*verb, "loud.wav"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    missing = f"{place}/installed/asrkit/pretrained/{name}.onnx: not found; this installation of asrkit comes without"
    assert line.startswith(f"asrkit {verb[0]}: error: {missing} the model {name}: give another by --model, or make it")
    (place / f"installed/asrkit/pretrained/{name}.onnx").write_bytes(loud_model(phones=ARPABET))
    assert main([*verb, "loud.wav"]) == 0
    assert "AA" in capsys.readouterr().out


def test_info_tells_all_of_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = with_test_score(
        loud_model(phones=ARPABET, corpus=speechocean762.INFO), TestScore("speechocean762 test", 500, 8651, 3034)
    )
    (place / "installed/asrkit/pretrained/english.onnx").write_bytes(content)
    assert main(["info", "english"]) == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["model"] == "english, model that comes with asrkit"
    assert rows["phones"] == "4: sil AA CH NG"
    assert rows["PER"] == "35.1 % on speechocean762 test (500 utterances, 8651 phones)"
    assert rows["trained on"] == "speechocean762 (English)" and rows["licence"].startswith("CC BY 4.0; ")
    graph = onnx.load_model_from_string(unsealed(content)).graph
    arrays = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    assert not [node for node in graph.node if node.op_type == "Scan"]
    assert int(rows["size of network"].split()[0].replace(",", "")) == sum(
        each.size for each in arrays if each.dtype != np.int64
    )

    (place / "made.onnx").write_bytes(loud_model(corpus=mini.INFO))
    assert main(["info", "made.onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["path"], told["per"]) == ("exported file", "made.onnx", None)
    assert told["is_streaming"] is True and told["model"]["bidirectional"] is False
    assert told["corpus"]["is_synthetic"] is True and told["decoding"]["method"] in ("greedy", "beam")


def test_info_of_what_is_no_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "none"]) == 1
    assert capsys.readouterr().err.startswith("asrkit info: error: none: no such model; ")


def test_align_takes_directories_and_lists(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "made.onnx").write_bytes(loud_model())
    (place / "talks/a").mkdir(parents=True)
    for copy in ("talks/a/one.wav", "talks/two.wav", "three.wav"):
        (place / copy).write_bytes((place / "loud.wav").read_bytes())
    (place / "list").write_text("three.wav\n")
    (place / "text").write_text("a/one a\ntwo a\nthree a\nloud a\n")
    command = ["align", "--model", "made.onnx", "--text", "text", "--nj", "2", "--list", "list", "talks", "loud.wav"]
    assert main(command) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["talks/two.wav", "talks/a/one.wav", "loud.wav", "three.wav"]
    command = ["align", "--data", "x", "--list", "list"]
    assert main(command) == 1
    assert "--list list: with --data the audio is that of the data directory" in capsys.readouterr().err
