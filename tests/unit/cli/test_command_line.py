"""The rules of the command line, held over the parsers of all verbs."""

import re
import shlex
from pathlib import Path

import pytest

from asrkit.cli import main as cli
from asrkit.cli.main import VERBS, parsers_below, verb_parser
from asrkit.cli.options import OPTIONS
from asrkit.cli.spellings import OLD_ARGUMENTS, OLD_OPTIONS, in_new_spelling
from tests.command_line import PAGE, leaf_parsers, options_of, with_tables

LEAVES = dict(leaf_parsers())
leaves = pytest.mark.parametrize("verb", LEAVES)


@leaves
def test_an_option_means_the_same_everywhere(verb: str) -> None:
    for name, action in options_of(LEAVES[verb]).items():
        option = OPTIONS[name]
        assert action.help is not None
        assert action.help.replace("%%", "%").startswith(option.meaning), name
        assert (action.metavar or "") == option.metavar, name
        assert (action.nargs == 0) == (option.metavar == ""), name
        if option.metavar:
            assert action.type is option.type, name


def test_every_option_is_of_a_verb() -> None:
    assert set(OPTIONS) == {name for parser in LEAVES.values() for name in options_of(parser)}


@leaves
def test_help_names_every_default(verb: str) -> None:
    for name, action in options_of(LEAVES[verb]).items():
        said = re.search(r"\((required|default: ([^()]+))\)$", (action.help or "").replace("%%", "%"))
        assert said, f"{name}: {action.help}"
        assert (said[1] == "required") == action.required, name
        default = action.default
        if isinstance(default, int | float) and not isinstance(default, bool) and name not in ("--nj", "--nbest"):
            assert said[2] == str(default), name
        if action.choices is not None:
            assert ", ".join(map(str, action.choices)) in (action.help or ""), name


@leaves
def test_help_ends_with_examples_that_parse(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = LEAVES[verb]
    help_text = parser.format_help()
    title, *lines = help_text[help_text.index("\nexamples:") + 1 :].rstrip().replace(" \\\n", " ").split("\n")
    assert title == "examples:" and lines
    for line in lines:
        command = shlex.split(line.rpartition("|")[2])
        assert command[0] == "asrkit", line
        if "--help" not in command:
            args = cli._parse(command[1], command[1:])
            assert callable(args.run), line
    assert any(line.rpartition("|")[2].split()[1] == verb.split()[0] for line in lines)


@leaves
def test_help_begins_with_a_sentence(verb: str) -> None:
    description = LEAVES[verb].description or ""
    assert re.match(r"[A-Z].*\.$", description, re.DOTALL), description
    assert "likewise" not in LEAVES[verb].format_help()


@pytest.mark.parametrize(("verb", "old"), [(verb, old) for verb, names in OLD_OPTIONS.items() for old in names])
@pytest.mark.parametrize("form", ["{} value", "{}=value"])
def test_an_old_option_goes_on_working(verb: str, old: str, form: str) -> None:
    new = OLD_OPTIONS[verb][old]
    _, parser = verb_parser(verb)
    having = [each for each in [parser, *parsers_below(parser).values()] if new in options_of(each)]
    assert having and not any(old in options_of(each) for each in having if verb != "prepare")
    for each in having:
        renamed, notes = in_new_spelling(verb, each, form.format(old).split())
        assert renamed == form.format(new).split()
        assert notes == [f"{old} is now called {new}"]


@pytest.mark.parametrize("verb", OLD_ARGUMENTS)
@pytest.mark.parametrize("before", [[], ["--force"], ["VALUED", "x"], ["--"]])
def test_an_old_argument_goes_on_working(verb: str, before: list[str]) -> None:
    _, parser = verb_parser(verb)
    valued = next(name for name, action in options_of(parser).items() if action.nargs is None)
    before = [each.replace("VALUED", valued) for each in before]
    assert not [action for action in parser._actions if not action.option_strings]
    renamed, notes = in_new_spelling(verb, parser, [*before, "value"])
    assert renamed == [*(each for each in before if each != "--"), f"{OLD_ARGUMENTS[verb]}=value"]
    assert notes == [f"value is now given by {OLD_ARGUMENTS[verb]}"]


def test_old_names_are_told_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("u1 a b\n")
    command = ["score", str(tmp_path / "text"), str(tmp_path / "text"), "--json", str(tmp_path / "out.json")]
    assert cli.main(command) == 0
    assert capsys.readouterr().err.splitlines()[0] == "asrkit score: note: --json is now called --json-file"
    assert (tmp_path / "out.json").is_file()


def test_values_and_names_after_the_end_of_options_are_left_alone() -> None:
    _, parser = verb_parser("transcribe")
    argv = ["--model", "--dir", "--", "--dir"]
    assert in_new_spelling("transcribe", parser, argv) == (argv, [])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["transcibe", "x.wav"], "unknown verb transcibe; did you mean transcribe? asrkit --help lists the verbs"),
        (["xyzzy"], "unknown verb xyzzy; asrkit --help lists the verbs"),
        (["decode", "--modle", "x"], "unknown option --modle; did you mean --model? asrkit decode --help lists the "),
        (["decode", "--modle=x"], "unknown option --modle; did you mean --model?"),
        (["score", "a", "b", "--xyzzy"], "unknown option --xyzzy; asrkit score --help lists the options"),
        (["prepare", "timmit"], "unknown name timmit; did you mean timit? asrkit prepare --help lists the names"),
        (["prepare", "own", "--corpse", "x"], "unknown option --corpse; did you mean --corpus? asrkit prepare own "),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert f"error: {said}" in last


def test_the_page_lists_all_verbs_and_options() -> None:
    """`python -m tests.command_line` writes the tables anew."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page)
    assert page.count("\n| `asrkit ") == len(VERBS)


ROOT = PAGE.parents[1]
WRITTEN = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/*.md"), *ROOT.glob("examples/*.md")]
SCRIPTS = [*ROOT.glob("tools/*.sh"), *ROOT.glob("recipes/*/run.sh")]


@pytest.mark.parametrize("path", [*WRITTEN, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_written_with_today_s_names(path: Path) -> None:
    """The options of each command, alone on its line or between backquotes."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ").partition("\n## Old names\n")[0]
    for _ in range(2):  # ${a+${b}} is two deep
        text = re.sub(r"\$\{[^{}\n]*\}", "", text)
    faults = []
    for match in re.finditer(r"^[$ ]*asrkit ([a-z-]+) ([^\n|#]*)|`asrkit ([a-z-]+) ([^`]*)`", text, re.MULTILINE):
        verb, arguments = match[1] or match[3], (match[2] or match[4]).split()
        if verb not in VERBS:
            continue
        _, parser = verb_parser(verb)
        each = parsers_below(parser).get(arguments[0], parser) if arguments else parser
        _, notes = in_new_spelling(verb, each, arguments)
        given = {word for word in arguments for word in re.findall(r"(?<![\w$\"-])--[a-z][a-z0-9-]*", word)}
        of_verb = set().union(*(options_of(leaf) for name, leaf in LEAVES.items() if name.split()[0] == verb))
        faults += [f"{match[0].strip()}: {fault}" for fault in (*notes, *sorted(given - of_verb - {"--help"}))]
    assert faults == []
