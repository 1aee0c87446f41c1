"""Where results go."""

from asrkit.cli.results import ResultWriter
from asrkit.io.processes import HOST


def test_what_a_killed_run_left_in_any_directory_of_results_goes(tmp_path):
    name = f".x.json.tmp-{HOST}-{2**22 + 1}-1-0a"  # a process of a higher number than there can be
    left = [tmp_path / name, tmp_path / "a" / name]
    (tmp_path / "a").mkdir()
    (tmp_path / "of others").mkdir()
    for path in (*left, tmp_path / "of others" / name):
        path.touch()
    with ResultWriter("json", tmp_path, ["a/x.wav"], ["a/x"]).locked("transcribe"):
        assert not any(path.exists() for path in left)
    assert (tmp_path / "of others" / name).exists()
