"""Names of files that hold line ends, commands to a terminal and bytes that are no text: whatever prints them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asrkit.cli.main import main
from asrkit.errors import printable, printable_lines
from asrkit.io.json_text import json_text

NAMES = [
    b"plain",
    b"two words",
    "ʃ\u200cی".encode(),
    b"line\nforged.wav a a a",
    b"carriage\rreturn",
    b"\x1b[2J\x1b[31mred",
    b"\x9b31m",  # not UTF-8
    "\x9b31m".encode(),  # the same command in UTF-8
    b"\xff\xfe",
    "separator\u2028asrkit transcribe: error: forged".encode(),
    "turned \u202evaw".encode(),
    b"-",
    b"--json",
    b"tab\there",
    b"back\\slash",
    b"\x7f\x00".strip(b"\x00"),
]
RAW = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


@pytest.fixture
def directory(tones, tmp_path):
    """Recordings of such names; and such files that are no audio."""
    place = tmp_path / "recordings"
    place.mkdir()
    for name in NAMES:
        shutil.copy(tones / "audio/test0-0.wav", os.fsencode(place) + b"/" + name + b".wav")
        (Path(os.fsdecode(os.fsencode(place) + b"/" + name + b".bad.wav"))).write_bytes(b"no audio")
    return place


def checked(status, out, said, expected_status):
    """Lines of standard output and standard error: without what a terminal must not get, and in UTF-8."""
    assert status == expected_status, said
    for output in (out, said):
        assert not RAW.search(output), output
        output.decode()
    return out.split(b"\n")[:-1], said.split(b"\n")[:-1]


@pytest.fixture
def asrkit(capsysbinary):
    """Runs a verb in this process."""

    def run(*arguments, status=0):
        done = main([os.fsdecode(each) if isinstance(each, bytes) else str(each) for each in arguments])
        return checked(done, *capsysbinary.readouterr(), status)

    return run


def shown(name: bytes) -> bytes:
    return printable(os.fsdecode(name)).encode()


def test_one_line_for_each_recording(asrkit, tones, directory):
    lines, said = asrkit("transcribe", "--model", tones / "exp", directory, status=1)
    names = [os.fsencode(directory) + b"/" + name for name in sorted(NAMES, key=os.fsdecode)]
    found = {line.rsplit(b".wav ", 1)[0] for line in lines}
    assert len(lines) == len(NAMES)
    assert found == {shown(name) for name in names}
    errors = [line for line in said if b": error: " in line]
    assert len(errors) == len(NAMES)
    assert {line.split(b"error: ", 1)[1].split(b".bad.wav: ")[0] for line in errors} == {shown(name) for name in names}
    assert said[0] == os.fsencode(directory) + b": %d audio files" % (2 * len(NAMES))
    assert len(said) == len(NAMES) + 2


def test_json_gives_the_very_name_back(asrkit, tones, directory):
    lines, _ = asrkit("transcribe", "--model", tones / "exp", "--json", directory, status=1)
    names = {os.fsencode(json.loads(line)["file"]) for line in lines}
    assert names == {os.fsencode(directory) + b"/" + name + b".wav" for name in NAMES}


def test_files_of_results_have_the_recordings_names(asrkit, tones, directory, tmp_path):
    out = tmp_path / "out"
    for kind, ending in (("text", b".txt"), ("json", b".json"), ("textgrid", b".TextGrid"), ("srt", b".srt")):
        asrkit("transcribe", "--model", tones / "exp", "--format", kind, "--out", out, directory, status=1)
        files = [os.fsencode(out) + b"/" + name + ending for name in NAMES]
        assert {os.path.basename(file) for file in files} <= set(os.listdir(os.fsencode(out)))
        for file in files:
            content = Path(os.fsdecode(file)).read_bytes()
            assert not RAW.search(content)
            assert content.decode().count("\n") == 1 or kind not in ("text", "json")


def test_names_that_a_ctm_cannot_hold_are_named(asrkit, tones, directory):
    lines, said = asrkit("transcribe", "--model", tones / "exp", "--format", "ctm", directory, status=1)
    assert lines == []
    unfit = [name for name in NAMES if os.fsdecode(name).split() != [os.fsdecode(name)] or shown(name) != name]
    faults = [line for line in said if b"which CTM has no place for" in line]
    assert len(faults) == 2 * len(unfit)
    for name in unfit:
        assert any(b"the name '%s' holds" % shown(name) in fault for fault in faults)


def test_each_by_itself_and_as_an_option_would_be(asrkit, tones, directory, monkeypatch):
    """Given as arguments, behind -- where they begin with a dash."""
    monkeypatch.chdir(directory)
    for name in NAMES:
        lines, said = asrkit("transcribe", "--model", tones / "exp", "--", name + b".wav")
        assert (len(lines), said) == (1, [])
        assert lines[0].startswith(shown(name) + b".wav ")
        for arguments in (["align", "--phones", "a"], ["stream"]):
            lines, said = asrkit(*arguments, "--model", tones / "exp", "--", name + b".bad.wav", status=1)
            assert lines == []
            assert shown(name) + b".bad.wav" in said[0]
        absent = b"absent " + name
        for command in (["validate", absent], ["score", absent, "x"], ["table", absent]):
            lines, said = asrkit(*command, status=1)
            lines = [line for line in (*lines, *said) if not re.match(rb"asrkit \w+: error: |.* faults$", line)]
            assert all(line.startswith(shown(absent) + b": ") for line in lines)
            assert any(shown(absent) in line for line in (*lines, *said))


def test_a_corpus_with_such_names_is_refused(asrkit, tones, directory, tmp_path):
    for path in directory.glob("*.bad.wav"):
        path.unlink()
    _, said = asrkit("prepare", "own", "--corpus", directory, "--out", tmp_path / "data", status=1)
    refused = [line for line in said if b"control character; rename it" in line]
    assert len(refused) == sum(shown(name) != name for name in NAMES)
    assert not (tmp_path / "data").exists()


def test_a_corpus_in_a_directory_of_such_a_name(asrkit, tones, tmp_path):
    """Tables cannot hold it: nothing is written, and one line says why."""
    for number, name in enumerate([b"\xff", b"a\nb"]):
        place = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(place)
        shutil.copy(tones / "audio/test0-0.wav", place + b"/x.wav")
        shutil.copy(tones / "audio/test0-0.wav", place + b"/y.wav")
        shutil.copy(tones / "audio/test0-0.wav", place + b"/z.wav")
        rows = ["audio,phones,set", "x.wav,a,train", "y.wav,a,dev", "z.wav,a,test"]
        Path(os.fsdecode(place + b"/t.csv")).write_text("\n".join(rows))
        data = tmp_path / f"data{number}"
        _, said = asrkit("prepare", "own", "--corpus", place, "--out", data, status=1)
        assert all(line.startswith(b"asrkit prepare: error: ") for line in said[-1:])
        assert not (data / "train").exists()


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_output_is_utf_8_in_any_locale(tmp_path, locale):
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name, row in (("wav.scp", "u x.wav"), ("text", "u ʃ"), ("utt2spk", "u s"), ("tokens", "<blk> 0\na 1")):
        (tmp_path / name).write_text(f"{row}\n", encoding="utf-8")
    command = [sys.executable, "-m", "asrkit", "validate", tmp_path, "--tokens", tmp_path / "tokens"]
    done = subprocess.run(command, capture_output=True, env=environment)
    lines, _ = checked(done.returncode, done.stdout, done.stderr, 1)
    assert any(line.endswith("not in the token list: ʃ".encode()) for line in lines)


def test_ids_and_symbols_of_tables_do_not_reach_a_terminal_raw(tmp_path, capsys):
    (tmp_path / "ref").write_text("u1 a\x1b[2J b\nu2\x9b31m a\n")
    (tmp_path / "hyp").write_text("u1 a b\n")
    assert main(["score", str(tmp_path / "ref"), str(tmp_path / "hyp")]) == 1
    assert "utterance u2\\x9b31m of" in capsys.readouterr().err
    (tmp_path / "hyp").write_text("u1 a b\nu2\x9b31m c\x1b[2J\n")
    assert main(["score", str(tmp_path / "ref"), str(tmp_path / "hyp")]) == 0
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err


def test_printable_text_is_one_line_and_keeps_what_can_be_read():
    text = "".join(map(chr, range(0x3000))) + "\ud800\udcff\udfff\U0001f600"
    for each in (printable(text), printable_lines(text)):
        assert each.isprintable() or set(filter(lambda c: not c.isprintable(), each)).isdisjoint(
            map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029, 0x202E])
        )
        each.encode()
    assert len(printable(text).splitlines()) == 1
    assert printable("a ʃ\u200c\U0001f600\\") == "a ʃ\u200c\U0001f600\\"
    assert printable("\n\x1b\udcff\u2028") == "\\n\\x1b\\xff\\u2028"
    assert printable_lines("a\tb\nc\r") == "a\tb\nc\\r"


def test_json_is_utf_8_and_comes_back():
    value = {"".join(map(chr, range(0x3000))): "\udc80\udcff"}
    text = json_text(value)
    assert json.loads(text.encode()) == value
    assert len(text.splitlines()) == 1
    assert not RAW.search(text.encode())
