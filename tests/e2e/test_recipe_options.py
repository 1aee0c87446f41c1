"""The recipes' command lines: options, stages and what they pass on, with asrkit and set-up replaced by recorders."""

import argparse
import importlib
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asrkit.cli import main as cli
from asrkit.cli.options import OPTIONS
from asrkit.cli.prepare import configure
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from tests.recipe_tree import ROOT, copy_recipes, install_asrkit, run_recipe, write_program

RECIPES = sorted(path.parent.name for path in ROOT.glob("recipes/*/run.sh") if path.parent.name != "textbook")
TIMED = ("mini", "timit")  # recipes whose corpora have true phone times
STAGES = [
    "prepare data and tokens",
    "features and CMVN",
    "phone language model (5-gram)",
    "train",
    "tune and decode",
    "score, report and analyse",
    "transcribe one test file",
]
FINDINGS = "the textbook's findings in a table"
RELEASE = "release: the models that come with asrkit"
RELEASED = {"english": "english", "english-streaming": "english_streaming"}  # name: configuration
# Stages that a plain run leaves out.
ON_REQUEST = {
    "farsdat": ["the textbook's networks in a table"],
    "mini": [FINDINGS],
    "speechocean762": [FINDINGS, RELEASE],
}
VERBS = ["prepare", "extract", "train-lm", "train", "decode", "tune", "decode", "decode"]
VERBS += ["analyze", "report", "analyze", "report", "transcribe"]
ALIGNING = "align the test set, transcribe one file"


def stages_of(recipe: str) -> list[str]:
    return [*STAGES[:-1], ALIGNING] if recipe in TIMED else STAGES


def verbs_of(recipe: str) -> list[str]:
    """Without `boundaries`, which is called where stage 0 has found true phone times."""
    return [*VERBS[:-1], "align", "transcribe"] if recipe in TIMED else VERBS


# Writes each call's program, working directory and arguments, with a NUL behind each and one more at the end, and fails
# if the verb is told to. A shell starts in a tenth of the time that Python takes.
RECORDER = """#!/bin/sh
printf '%s\\0' "${0##*/}" "$PWD" "$@" "" >>"$CALLS"
[ "${1:-none}" != "${FAILING_VERB:-}" ]
"""


class Tree:
    """A copy of the recipes whose asrkit and tools/setup.sh only record how they are called."""

    def __init__(self, root: Path):
        copy_recipes(root)
        self.root = root
        self.log = root / "calls"
        self.caller_dir = root / "caller"
        self.caller_dir.mkdir()
        for program in ("tools/setup.sh", ".venv/bin/asrkit"):
            write_program(root / program, RECORDER)

    def run(self, recipe: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_recipe(self.root, recipe, *options, cwd=self.caller_dir, CALLS=str(self.log), **environment)

    def calls(self, program: str = "asrkit") -> list[list[str]]:
        if not self.log.exists():
            return []
        records = [record.split("\0") for record in self.log.read_text().split("\0\0")[:-1]]
        assert {cwd for _, cwd, *_ in records} <= {str(self.caller_dir)}
        return [arguments for name, _, *arguments in records if name == program]

    def write_test_set(self, data: Path) -> None:
        (data / "test").mkdir(parents=True)
        (data / "test" / "wav.scp").write_text("u1 /audio/first one.wav\nu2 /audio/second.wav\n")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path.resolve() / "with a blank"
    root.mkdir()
    return Tree(root)


def value_of(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_lists_options_and_stages_and_does_nothing(tree: Tree, recipe: str) -> None:
    result = tree.run(recipe, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    stages = result.stdout.partition("Stages:\n")[2]
    assert stages == "".join(
        f"  {number}  {what}\n" for number, what in enumerate(stages_of(recipe) + ON_REQUEST.get(recipe, []))
    )
    assert "(default: 6)" in result.stdout
    plain = ("stage", "stop-stage", "nj", "corpus", "data-root", "config", "exp", "force", "torch-index", "help")
    for option in (*plain, "channel", "allow-pipes", "audio-root", "no-archives"):
        assert f"\n  --{option} " in result.stdout
    assert f"(default: {tree.root}/recipes/{recipe}/exp/blstm_ctc)" in result.stdout
    assert not tree.log.exists()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frob"], "unknown option '--frob'"),
        (["train"], "unknown option 'train'"),
        (["--stage"], "--stage needs a value"),
        (["--data-root", ""], "--data-root needs a value"),
        (["--stage", "-1"], "--stage: expected a stage, 0 to {last}, found '-1'"),
        (["--stage=9"], "--stage: expected a stage, 0 to {last}, found '9'"),
        (["--stop-stage", "two"], "--stop-stage: expected a stage, 0 to {last}, found 'two'"),
        (["--stage", "4", "--stop-stage", "3"], "--stage 4 comes after --stop-stage 3"),
        (["--nj", "0"], "--nj: expected a number of jobs, 1 or more, found '0'"),
        (["--nj", "1.5"], "--nj: expected a number of jobs, 1 or more, found '1.5'"),
        (["--stage", "1", "--config", "no.yaml"], "--config: no file 'no.yaml'"),
        (["--channel", "both"], "--channel: expected mix or a channel number from 0, found 'both'"),
        (["--audio-root="], "--audio-root needs a value"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(tree: Tree, recipe: str, options: list[str], message: str) -> None:
    result = tree.run(recipe, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    last = len(STAGES + ON_REQUEST.get(recipe, [])) - 1
    assert f"run.sh: error: {message.format(last=last)}" in result.stderr
    assert not tree.log.exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_stages_with_the_defaults(tree: Tree, recipe: str) -> None:
    folder = tree.root / "recipes" / recipe
    tree.write_test_set(folder / "data")
    result = tree.run(recipe, "--corpus", "speech", "--nj", "3")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"== stage {number}: {what} ==" for number, what in enumerate(stages_of(recipe))
    ]
    calls = tree.calls()
    assert [call[0] for call in calls] == verbs_of(recipe)
    corpus_name = "own" if recipe == "template" else recipe
    assert calls[0][:4] == ["prepare", corpus_name, "--corpus", "speech"]
    assert value_of(calls[0], "--nj") == "3"
    assert calls[1][1:4] == [f"{folder}/data/{name}" for name in ("train", "dev", "test")]
    assert value_of(calls[3], "--out") == f"{folder}/exp/blstm_ctc"
    last = len(VERBS) - 1
    outputs = [
        value_of(call, "--out" if "--out" in call else "--decode-dir") for call in calls[4:last] if call[0] != "report"
    ]
    assert outputs == [f"{folder}/exp/blstm_ctc/decode_{name}" for name in ("dev", "dev", "dev", "test", "dev", "test")]
    assert [value_of(call, "--model") for call in calls if call[0] == "report"] == [f"{folder}/exp/blstm_ctc"] * 2
    scored = [call for call in calls if call[0] in ("tune", "analyze", "report")]
    assert [value_of(call, "--data") for call in scored] == [
        f"{folder}/data/{name}" for name in ("dev", "dev", "dev", "test", "test")
    ]
    assert len({value_of(call, "--protocol") if "--protocol" in call else None for call in scored}) == 1
    assert calls[-1][-1] == "/audio/first one.wav"
    assert not any("--force" in call for call in calls)
    assert tree.calls("setup.sh") == [[]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_verbs_know_the_arguments_they_are_given(
    tree: Tree, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.write_test_set(tree.root / "recipes" / recipe / "data")
    about_audio = ["--channel", "1", "--allow-pipes", "--audio-root=my audio"]
    tree.run(recipe, "--corpus", "speech", "--force", "--verify", "--no-archives", *about_audio)
    calls = tree.calls()
    assert {call[0] for call in calls if "--no-archives" in call} == {"extract"}
    assert {call[0] for call in calls if "--verify" in call} == {"extract"}
    assert [call[0] for call in calls] == verbs_of(recipe)
    for call in calls:
        module = importlib.import_module(cli.VERBS[call[0]][0])
        monkeypatch.setattr(module, "run", lambda args: 0)
        try:
            status = cli.main(call)
        except SystemExit as error:
            status = error.code
        assert status == 0, capsys.readouterr().err


@pytest.mark.parametrize("recipe", RECIPES)
def test_options_about_audio_reach_the_steps_that_read_it(tree: Tree, recipe: str) -> None:
    data = tree.caller_dir / "data"
    tree.write_test_set(data)
    (data / "test" / "wav.scp").write_text("u1 first one.wav\nu2 /audio/second.wav\n")
    about_audio = ["--channel", "mix", "--allow-pipes", "--audio-root", "my audio"]
    last = len(STAGES + ON_REQUEST.get(recipe, [])) - 1
    result = tree.run(recipe, "--stage", "1", "--stop-stage", str(last), "--data-root", "data", *about_audio)
    assert (result.returncode, result.stderr) == (0, "")
    extracts = [call for call in tree.calls() if call[0] == "extract"]
    exports = [call for call in tree.calls() if call[0] == "export"]
    assert len(exports) == (len(RELEASED) if RELEASE in ON_REQUEST.get(recipe, []) else 0)
    assert len(extracts) == 1 + last - 6 + max(len(exports) - 1, 0)
    assert all(call[-5:] == about_audio for call in extracts)
    assert all(call[-7:-2] == about_audio for call in exports)
    reports = [call for call in tree.calls() if call[0] == "report" and "--model" in call]
    assert len(reports) >= 2
    assert all(about_audio == call[5 : 5 + len(about_audio)] for call in reports)
    (transcribe,) = [call for call in tree.calls() if call[0] == "transcribe"]
    assert transcribe[3:] == ["--channel", "mix", "--", "my audio/first one.wav"]


@pytest.mark.parametrize(
    ("wav", "segments", "transcribed"),
    [
        ("a cat a.wav |\nb |touch b\nc /c d.wav\n", None, "/c d.wav"),
        ("a /a.wav", None, "/a.wav"),
        ("a /a.wav\nb /b.wav\nc /c.wav\n", "a1 a 0 1\na2 a 1.5 2\nb1 b 0.5 1\nc1 c 0.000 1\n", "/c.wav"),
        ("a /a.wav\nb /b.wav\n", "b1 b 0 1\n", "/b.wav"),
    ],
)
def test_the_first_file_of_one_utterance_is_transcribed(
    tree: Tree, wav: str, segments: str | None, transcribed: str
) -> None:
    tree.write_test_set(tree.caller_dir / "data")
    (tree.caller_dir / "data/test/wav.scp").write_text(wav)
    if segments is not None:
        (tree.caller_dir / "data/test/segments").write_text(segments)
    result = tree.run("mini", "--stage", "6", "--data-root", "data")
    assert (result.returncode, result.stderr) == (0, "")
    assert tree.calls()[-1][-1] == transcribed
    assert not (tree.caller_dir / "b").exists()


def test_parts_of_files_alone_are_transcribed_whole_and_it_is_said(tree: Tree) -> None:
    tree.write_test_set(tree.caller_dir / "data")
    (tree.caller_dir / "data/test/segments").write_text("a u1 0 1\nb u1 1 2\nc u2 3 4\n")
    result = tree.run("mini", "--stage", "6", "--data-root", "data")
    assert result.returncode == 0
    assert (
        result.stderr
        == "data/test/segments: every utterance is a part of a file; the whole of the first file follows\n"
    )
    assert tree.calls()[-1][-1] == "/audio/first one.wav"


def test_pipes_alone_leave_stage_6_out(tree: Tree) -> None:
    tree.write_test_set(tree.caller_dir / "data")
    (tree.caller_dir / "data/test/wav.scp").write_text("a cat a.wav |\nb cat b.wav | \n")
    result = tree.run("mini", "--stage", "5", "--data-root", "data", "--allow-pipes")
    assert result.returncode == 0
    assert result.stderr == "left out: every entry of data/test/wav.scp is a pipe, and asrkit transcribe reads files\n"
    assert [call[0] for call in tree.calls()] == VERBS[8:-1]


def test_force_reaches_every_step_that_could_be_up_to_date(tree: Tree) -> None:
    tree.write_test_set(tree.root / "recipes" / "mini" / "data")
    tree.run("mini", "--force")
    after_tuning = VERBS.index("tune") + 1  # dev is decoded again only when that has changed the settings
    unforced = [index for index, call in enumerate(tree.calls()) if "--force" not in call]
    assert unforced == [after_tuning, *range(len(VERBS) - 1, len(verbs_of("mini")))]


def test_first_and_last_stage(tree: Tree) -> None:
    result = tree.run("mini", "--stage", "2", "--stop-stage=3")
    assert result.stdout.splitlines() == [f"== stage {number}: {STAGES[number]} ==" for number in (2, 3)]
    assert [call[0] for call in tree.calls()] == ["train-lm", "train"]


def test_a_stage_on_request_runs_when_it_is_named(tree: Tree) -> None:
    """The textbook's networks, each trained, decoded and scored, then put in a table; beside --exp."""
    names = ("textbook_lstm", "textbook_lstm_deep", "textbook_blstm", "textbook_blstm_deep")
    networks = [f"{tree.root}/recipes/farsdat/exp/{name}" for name in names]
    for options in (["--stage", "7"], ["--stage=7", "--stop-stage=7"]):
        tree.log.unlink(missing_ok=True)
        result = tree.run("farsdat", *options)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == "== stage 7: the textbook's networks in a table ==\n"
        calls = tree.calls()
        assert [call[0] for call in calls] == ["extract", *(4 * VERBS[3:-1]), "table"]
        assert [value_of(call, "--out") for call in calls if call[0] == "train"] == networks
        assert calls[-1][1:] == networks
    assert tree.run("farsdat", "--stage", "7", "--stop-stage", "6").returncode == 2


def test_the_release_makes_each_model_from_the_corpus(tree: Tree) -> None:
    """Data first, then each network from its features to its export with 8-bit weights; nothing beside --models."""
    result = tree.run(
        "speechocean762", "--stage", "8", "--corpus", "speech", "--data-root", "my data", "--models", "my out"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [f"== stage 8: {RELEASE} ==", *(f"-- {name} --" for name in RELEASED)]
    prepare, *calls = tree.calls()
    assert prepare[:6] == ["prepare", "speechocean762", "--corpus", "speech", "--out", "my data"]
    steps = [*VERBS[1:-1], "export"]
    assert [call[0] for call in calls] == len(RELEASED) * steps
    for number, (name, config) in enumerate(RELEASED.items()):
        extract, _, train, *rest = calls[number * len(steps) : (number + 1) * len(steps)]
        experiment = f"{tree.root}/recipes/speechocean762/exp/{name}"
        assert {value_of(call, "--config") for call in (extract, train)} == {f"{tree.root}/conf/{config}.yaml"}
        assert {value_of(train, "--out")} | {value_of(call, "--model") for call in rest if "--model" in call} == {
            experiment
        }
        expected = ["export", "--model", experiment, "--int8", "--dev", "my data/dev", "--test", "my data/test"]
        assert rest[-1] == [*expected, "--out-file", f"my out/{name}.onnx"]
    assert (tree.caller_dir / "my out").is_dir()


def test_the_release_takes_the_data_that_are_there(tree: Tree) -> None:
    assert tree.run("speechocean762", "--stage", "8", "--models", "out").returncode == 0
    assert "prepare" not in [call[0] for call in tree.calls()]
    refused = tree.run("mini", "--stage", "3", "--models", "out")
    assert (refused.returncode, refused.stderr.count("unknown option '--models'")) == (2, 1)


@pytest.mark.parametrize("recipe", ["mini", "speechocean762"])
def test_the_findings_train_each_network_with_each_seed(tree: Tree, recipe: str) -> None:
    result = tree.run(recipe, "--stage", "7", "--force", "--nj", "2", "--data-root", "my data")
    assert (result.returncode, result.stderr) == (0, "")
    stage, *lines = result.stdout.splitlines()
    assert stage == f"== stage 7: {FINDINGS} ==" and len(lines) == 21
    extract, *calls, table = tree.calls()
    assert (extract[0], table[0]) == ("extract", "table")
    experiments = table[1:]
    systems = ("lstm_1_uni", "lstm_1_bi", "lstm_2_uni", "lstm_2_bi", "lstm_3_bi", "elman_1_bi", "elman_2_bi")
    folder = f"{tree.root}/recipes/{recipe}/exp/findings"
    assert experiments == [f"{folder}/{system}.{seed}" for system in systems for seed in (1, 2, 3)]
    of_run = {
        experiment: [call for call in calls if any(experiment in part for part in call)] for experiment in experiments
    }
    assert sum(map(len, of_run.values())) == len(calls)
    for run in of_run.values():
        assert [call[0] for call in run] == ["train", "decode", "report", "decode", "report"]
        assert all("--force" in call for call in run)
        assert all(value_of(call, "--method") == "greedy" for call in run if call[0] == "decode")
        assert [value_of(call, "--data") for call in run[1:]] == (["my data/dev"] * 2 + ["my data/test"] * 2)
    train = of_run[f"{folder}/elman_2_bi.3"][0]
    overrides = [value for option, value in itertools.pairwise(train) if option == "--set"]
    config = load_config(value_of(train, "--config"), ExperimentConfig, overrides)
    assert (config.model.cell, config.model.num_layers, config.model.bidirectional) == ("elman", 2, True)
    assert (config.training.seed, config.training.num_epochs) == (3, 8)
    assert "model.bidirectional=false" in of_run[f"{folder}/lstm_1_uni.1"][0]


def test_a_run_of_the_findings_that_fails_is_named_and_ends_the_stage(tree: Tree) -> None:
    result = tree.run("mini", "--stage", "7", "--nj", "1", FAILING_VERB="train")
    assert result.returncode != 0
    lines = result.stderr.splitlines()
    assert len(lines) == 21
    log = f"{tree.root}/recipes/mini/exp/findings/lstm_1_uni.1/findings.log"
    assert lines[0].endswith(
        f"run.sh: error: lstm_1_uni.1 did not finish; see the end of {log}, then run the stage again"
    )
    assert "table" not in [call[0] for call in tree.calls()]


def test_options_of_a_corpus_reach_stage_0(tree: Tree) -> None:
    tree.run("farsdat", "--corpus", "c", "--split", "textbook-80-20", "--by=utterances", "--stop-stage", "0")
    (call,) = tree.calls()
    assert call[-4:] == ["--split", "textbook-80-20", "--by", "utterances"]


def test_settings_reach_the_steps_that_take_them(tree: Tree) -> None:
    settings = ["--set", "training.seed=2", "--set", "features.cmvn=speaker"]
    assert tree.run("mini", *settings[:2], "--set=features.cmvn=speaker", "--stop-stage", "3").returncode == 0
    taken = {call[0]: call for call in tree.calls() if "--set" in call}
    assert list(taken) == ["extract", "train"]
    assert all(call[call.index("--set") :][:4] == settings for call in taken.values())


@pytest.mark.parametrize(
    ("example", "options", "num_calls"),
    [
        (0, ["--standalone", "--nproc-per-node", "2"], 1),
        (1, ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-endpoint", "a:29500"], 2),
        (2, ["--nnodes", "2", "--nproc-per-node", "4", "--rdzv-endpoint", "first:29500", "--rdzv-id", "7"], 1),
    ],
    ids=["one machine", "ssh", "slurm"],
)
def test_the_examples_of_cmd_sh_start_the_training(
    tree: Tree, example: int, options: list[str], num_calls: int
) -> None:
    assert tree.run("mini", "--stage", "3", "--stop-stage", "3").returncode == 0
    (alone,) = tree.calls()
    text = (ROOT / "docs/scaling.md").read_text(encoding="utf-8").split("```bash\n")[1 + example].partition("```")[0]
    (tree.root / "recipes/mini/cmd.sh").write_text(text)
    shutil.copy(tree.root / ".venv/bin/asrkit", tree.root / ".venv/bin/torchrun")
    for name, what in (("ssh", '[ "$1" = -tt ] && exec sh -c "$3"'), ("srun", 'exec "$@"'), ("scontrol", "echo first")):
        write_program(tree.root / "bin" / name, f"#!/bin/sh\n{what}\n")
    path, slurm = f"{tree.root}/bin:{os.environ['PATH']}", {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    result = tree.run("mini", "--stage", "3", "--stop-stage", "3", PATH=path, SLURM_JOB_NODELIST="n[1-2]", **slurm)
    assert result.returncode == 0, result.stderr
    calls = tree.calls("torchrun")
    assert len(calls) == num_calls
    for call in calls:
        assert call[-len(alone) - 2 :] == ["-m", "asrkit", *alone]
        assert all(option in call for option in options)
    assert tree.calls() == [alone]
    assert tree.run("mini", "--stage", "3", "--stop-stage", "3", PATH=path, FAILING_VERB=calls[0][0]).returncode == 1


def test_cmd_sh_says_where_the_jobs_run(tree: Tree) -> None:
    seen = tree.root / "seen"
    write_program(tree.root / ".venv/bin/asrkit", f'#!/bin/sh\necho "$1 $ASRKIT_EXECUTOR" >>"{seen}"\n')
    for line, environment, expected in (
        ("executor=dask://a:1", "", "dask://a:1"),
        ("executor=dask-slurm", "processes", "dask-slurm"),
        ("", "dask://b:2", "dask://b:2"),
    ):
        (tree.root / "recipes/mini/cmd.sh").write_text(line + "\n")
        assert tree.run("mini", "--stage", "1", "--stop-stage", "1", ASRKIT_EXECUTOR=environment).returncode == 0
        assert seen.read_text() == f"extract {expected}\n"
        seen.unlink()


def test_an_old_name_of_an_option_goes_on_working(tree: Tree) -> None:
    old = ("--phones", "61", "--test=full", "--data", "my data", "--dir=my exp")
    result = tree.run("timit", "--corpus", "c", *old, "--stop-stage", "3")
    prepare, *_, train = tree.calls()
    assert prepare[-4:] == ["--num-phones", "61", "--test-set", "full"]
    assert (value_of(prepare, "--out"), value_of(train, "--out")) == ("my data", "my exp")
    named = [line.partition(": note: ")[2] for line in result.stderr.splitlines()]
    renamed = {"phones": "num-phones", "test": "test-set", "data": "data-root", "dir": "exp"}
    assert named == [f"--{name} is now called --{new}" for name, new in renamed.items()]
    result = tree.run("textbook", "--dir", "my lessons", "--data=my data", "--stage", "8")
    assert value_of(tree.calls()[-1], "--out") == "my lessons/hopfield"
    assert [line.rpartition(" ")[2] for line in result.stderr.splitlines()] == ["--out", "--data-root"]


@pytest.mark.parametrize("option", ["--verbose", "--quiet"])
def test_how_much_is_said_reaches_each_step(tree: Tree, option: str) -> None:
    """In the form that the verb takes; with --quiet there are no headings either."""
    tree.write_test_set(tree.root / "recipes" / "mini" / "data")
    result = tree.run("mini", option)
    calls = tree.calls()
    assert [call[0] for call in calls] == verbs_of("mini")
    assert all(vars(cli._parse(call[0], call))[option.strip("-")] is True for call in calls)
    assert (result.stdout == "") == (option == "--quiet")
    result = tree.run("textbook", option, "--stage", "8")
    assert tree.calls()[-1][:2] == ["lesson", option]
    assert (result.stdout == "") == (option == "--quiet")


@pytest.mark.parametrize("recipe", [*RECIPES, "textbook"])
def test_an_option_of_a_recipe_means_what_it_means_in_the_verbs(tree: Tree, recipe: str) -> None:
    """Or no verb has its name."""
    usage = tree.run(recipe, "--help").stdout
    options = dict(re.findall(r"^  --([a-z-]+)(?: (\S+))? *", usage, re.MULTILINE))
    flags = {name for name, option in OPTIONS.items() if not option.metavar}
    assert len(options) > 8
    shared = {f"--{name}": value for name, value in options.items() if f"--{name}" in OPTIONS}
    assert {name for name, value in shared.items() if name not in flags and value != OPTIONS[name].metavar} == set()
    own = {"stage", "stop-stage", "data-root", "exp", "models", "torch-index", "help"}
    assert {name for name in options if f"--{name}" not in OPTIONS} <= own


def test_an_option_without_a_value_reaches_stage_0(tree: Tree) -> None:
    tree.run("template", "--corpus", "c", "--partial", "--tier", "phones", "--stop-stage", "0")
    (call,) = tree.calls()
    assert call[-3:] == ["--partial", "--tier", "phones"]
    assert "unknown option 'yes'" in tree.run("template", "--corpus", "c", "--partial=yes").stderr
    assert "unknown option '--partial'" in tree.run("timit", "--corpus", "c", "--partial").stderr


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_option_of_prepare_can_be_given_to_the_recipe(tree: Tree, recipe: str) -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    (names,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    of_corpus = names.choices["own" if recipe == "template" else recipe]
    options = {option for action in of_corpus._actions for option in action.option_strings}
    options -= {"-h", "--out", "--verbose", "--quiet"}
    usage = tree.run(recipe, "--help").stdout
    assert [option for option in sorted(options) if f"\n  {option} " not in usage] == []


def test_paths_are_relative_to_the_caller(tree: Tree) -> None:
    """The verbs run in the caller's directory (calls() checks that) and get the paths as they were given."""
    tree.write_test_set(tree.caller_dir / "my data")
    config = tree.caller_dir / "small.v2.yaml"
    config.write_text("{}\n")
    result = tree.run("mini", "--data-root", "my data", "--corpus", "../c", "--config", config.name, "--exp", "e/x")
    assert (result.returncode, result.stderr) == (0, "")
    calls = tree.calls()
    assert value_of(calls[0], "--corpus") == "../c"
    assert value_of(calls[0], "--out") == "my data"
    assert calls[1][1] == "my data/train"
    assert value_of(calls[3], "--config") == config.name
    assert value_of(calls[7], "--out") == "e/x/decode_test"


def test_the_experiment_is_named_after_the_configuration(tree: Tree) -> None:
    (tree.caller_dir / "small.v2.yaml").write_text("{}\n")
    tree.run("mini", "--stage", "3", "--stop-stage", "3", "--config", "small.v2.yaml")
    assert value_of(tree.calls()[0], "--out") == f"{tree.root}/recipes/mini/exp/small.v2"


def test_a_failing_step_ends_the_run(tree: Tree) -> None:
    result = tree.run("mini", FAILING_VERB="train")
    assert result.returncode == 1
    assert [call[0] for call in tree.calls()] == VERBS[:4]


def test_the_package_index_is_passed_to_set_up(tree: Tree) -> None:
    tree.run("mini", "--stop-stage", "0", "--torch-index", "https://example.org/cpu")
    assert tree.calls("setup.sh") == [["--torch-index", "https://example.org/cpu"]]


def test_a_failing_set_up_ends_the_run(tree: Tree) -> None:
    write_program(tree.root / "tools/setup.sh", "#!/bin/sh\necho no Python >&2\nexit 1\n")
    result = tree.run("mini")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "no Python\n")
    assert tree.calls() == []


def test_a_corpus_to_be_fetched_is_asked_for_by_stage_0_alone(tree: Tree) -> None:
    result = tree.run("speechocean762")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--corpus DIR is needed by stage 0" in result.stderr
    assert "OpenSLR" in result.stderr
    assert tree.calls() == []
    assert tree.run("speechocean762", "--stage", "1", "--stop-stage", "1").returncode == 0


@pytest.mark.parametrize("stage", range(1, len(STAGES)))
def test_a_missing_input_names_the_stage_that_makes_it(tree: Tree, stage: int) -> None:
    install_asrkit(tree.root)
    result = tree.run("mini", "--stage", str(stage), "--data-root", "nowhere", "--exp", "nothing")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    named = {
        f"made by stage {earlier} (asrkit " for earlier in range(stage) if f"made by stage {earlier}" in result.stderr
    }
    assert named, result.stderr
    lines = [line for line in result.stderr.splitlines() if "NumPy fallback" not in line]
    assert all("made by stage" in line for line in lines), result.stderr
    assert list(tree.caller_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "options", "device"),
    [("", [], None), ("device=cuda", [], "cuda"), ("device=cuda", ["--device", "cuda:1"], "cuda:1")],
)
def test_the_device_reaches_what_trains_and_runs_networks(
    tree: Tree, line: str, options: list[str], device: str | None
) -> None:
    (tree.root / "recipes/mini/cmd.sh").write_text(line + "\n")
    tree.write_test_set(tree.root / "recipes/mini/data")
    assert tree.run("mini", *options).returncode == 0
    given = [(call[0], call[call.index("--device") + 1]) for call in tree.calls() if "--device" in call]
    verbs = ["train", "decode", "tune", "decode", "decode", "align", "transcribe"]
    assert given == ([] if device is None else [(verb, device) for verb in verbs])
