"""tools/setup.sh with a Python that only records what it is asked to do: no package is fetched."""

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

# Answers the four questions that set-up asks with the words in $REFUSED, makes a virtual environment by copying
# itself, and takes pip's place.
PYTHON = """#!/bin/sh
case "$*" in
  --version) echo "Python 3.9.2"; exit ;;
  *version_info*) question=version ;;
  *"venv, ensurepip"*) question=ensurepip ;;
  *"venv, pip"*) question=pip ;;
  *"import pip"*) question=own-pip ;;
  *) question= ;;
esac
if [ -n "$question" ]; then
  case " $REFUSED " in *" $question "*) exit 1 ;; *) exit 0 ;; esac
fi
echo "$*" >>"$CALLS"
case "$*" in
  "-m venv "*) for venv; do :; done; mkdir -p "$venv/bin"; cp "$0" "$venv/bin/python" ;;
esac
case "$*" in
  *"import version"*) exit 1 ;; # no torch yet
  *PackageNotFoundError*) [ -z "$CUDA" ]; exit ;;
  *"$FAILING"*) exit 1 ;;
esac
"""


FILES = (
    "tools/setup.sh",
    "tools/signals.sh",
    "requirements.txt",
    "requirements-bench.txt",
    "requirements-cuda.txt",
    "requirements-source.txt",
    "setup.cfg",
    "setup.py",
    "asrkit/_native/_align.c",
    "asrkit/_native/common.h",
)


class Tree:
    """A tree with setup.sh alone, and a PATH with the recording Python and the few tools that setup.sh calls."""

    def __init__(self, root: Path):
        root.mkdir()
        self.locate(root)
        self.native.mkdir(parents=True)
        (root / "tools").mkdir()
        for file in FILES:
            shutil.copy(ROOT / file, root / file)
        self.bin.mkdir()
        for tool in ("bash", "cat", "cksum", "cp", "dirname", "flock", "mkdir", "rm", "tr"):
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        python = self.bin / "python3"
        python.write_text(PYTHON)
        python.chmod(0o755)

    def locate(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.native = root / "asrkit" / "_native"
        self.log = root / "calls"
        self.bin = root / "bin"

    def move(self, root: Path) -> None:
        os.rename(self.root, root)
        self.locate(root)

    def run(
        self, *options: str, refused: str = "", failing: str = "nothing", cuda: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "CALLS": str(self.log), "REFUSED": refused, "FAILING": failing}
        environment["CUDA"] = cuda
        command = [str(self.bin / "bash"), str(self.root / "tools" / "setup.sh"), *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def calls(self) -> list[str]:
        """What Python was asked since the last look: `venv`, pip's last argument, or `kernels` for the extension.

        That it was asked what torch needs is left out.
        """
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        words = {"-m venv": "venv", "asrkit._native": "kernels"}
        return [
            next((word for part, word in words.items() if part in line), line.split()[-1])
            for line in text.splitlines()
            if line.startswith("-m ") or "_native" in line
        ]

    @property
    def everything(self) -> list[str]:
        torch = ["torch==2.13.0", f"{self.venv}/torch.txt"]
        return ["venv", *torch, f"{self.root}/requirements.txt", "asrkit", f"{self.root}", "kernels"]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def test_a_second_set_up_does_nothing(tree: Tree) -> None:
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything
    again = tree.run(refused="version")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert tree.calls() == []


@pytest.mark.parametrize("file", [file for file in FILES if not re.match(r"tools|requirements-(bench|source)", file)])
def test_changed_requirements_and_sources_are_installed_into_the_same_environment(tree: Tree, file: str) -> None:
    tree.run()
    tree.calls()
    (tree.venv / "kept").touch()
    with open(tree.root / file, "a") as stream:
        stream.write("\n")
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything[1:]
    assert (tree.venv / "kept").exists()
    tree.run()
    assert tree.calls() == []


@pytest.mark.parametrize("failing", ["nothing", "browser.txt"])
def test_where_there_is_a_browser_its_package_is_installed_too(tree: Tree, failing: str) -> None:
    """With hashes, and on no condition. The set-up does without it where it cannot be had."""
    tree.run()
    tree.calls()
    (tree.bin / "chromium").symlink_to("/bin/true")
    done = tree.run(failing=failing)
    assert done.returncode == 0
    assert ("the tests of pages are skipped" in done.stderr) == (failing == "browser.txt")
    *torch, packages, old_name, root, kernels = tree.everything[1:]
    assert tree.calls() == [*torch, packages, f"{tree.venv}/browser.txt", old_name, root, kernels]
    assert not (tree.venv / "browser.txt").exists()
    assert tree.run(refused="version").stderr == ""
    assert tree.calls() == []


@pytest.mark.parametrize("failing", ["-m venv", "requirements.txt", "--no-build-isolation"])
def test_an_interrupted_set_up_is_done_again_from_the_start(tree: Tree, failing: str) -> None:
    failed = tree.run(failing=failing)
    assert failed.returncode == 1
    assert ("pip could not install the packages" in failed.stderr) == (failing != "-m venv")
    (tree.venv / "half").touch()
    tree.calls()
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything
    assert not (tree.venv / "half").exists()


def test_an_interrupted_change_is_not_taken_for_the_old_state(tree: Tree) -> None:
    tree.run()
    before = (tree.root / "setup.cfg").read_text()
    (tree.root / "setup.cfg").write_text(before + "\n")
    assert tree.run(failing="--no-build-isolation").returncode == 1
    (tree.root / "setup.cfg").write_text(before)
    tree.calls()
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything


def test_an_environment_made_otherwise_is_used_as_it_is(tree: Tree) -> None:
    (tree.venv / "bin").mkdir(parents=True)
    shutil.copy(tree.bin / "python3", tree.venv / "bin" / "python")
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything[1:]


def test_an_environment_whose_python_has_gone_is_made_again(tree: Tree) -> None:
    tree.run()
    tree.calls()
    (tree.venv / "bin" / "python").unlink()
    with open(tree.root / "setup.cfg", "a") as stream:
        stream.write("\n")
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything


def test_a_moved_tree_is_set_up_again(tree: Tree) -> None:
    tree.run()
    tree.calls()
    tree.move(tree.root.with_name("elsewhere"))
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything[1:]


def test_a_new_source_of_the_extension_is_built(tree: Tree) -> None:
    tree.run()
    tree.calls()
    tree.run()
    assert tree.calls() == []
    (tree.native / "_new.c").write_text("/* kernel */\n")
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything[1:]


@pytest.mark.parametrize("failing", ["nothing", "-m venv", "requirements-bench.txt", "--no-build-isolation"])
def test_the_kernels_of_another_environment_stay(tree: Tree, failing: str) -> None:
    """Those that `.venv` is using: whatever becomes of `--bench`, and at each of its steps."""
    kernel = tree.native / "_align.cpython-399-x86_64-linux-gnu.so"
    kernel.touch()
    python = tree.bin / "python3"
    python.write_text(python.read_text().replace("#!/bin/sh", f'#!/bin/sh\n[ -e {kernel} ] || echo gone >>"$CALLS"'))
    assert tree.run("--bench", failing=failing).returncode == (0 if failing == "nothing" else 1)
    assert kernel.exists()
    assert "gone" not in tree.calls()


def pip_calls(tree: Tree) -> list[str]:
    return [line for line in tree.log.read_text().splitlines() if line.startswith("-m pip ")]


def test_all_that_is_installed_has_a_hash(tree: Tree) -> None:
    """Or is this package, which is built with what is installed already."""
    tree.run(cuda="yes")
    download, *packages, old_name, asrkit = pip_calls(tree)
    assert old_name.endswith(" uninstall -qq --disable-pip-version-check --no-input --yes asrkit")
    assert "download" in download
    assert "--no-index" in packages[0]
    assert [line.split()[-1] for line in packages] == [
        f"{tree.venv}/torch.txt",
        f"{tree.root}/requirements.txt",
        f"{tree.root}/requirements-cuda.txt",
    ]
    assert all("--require-hashes" in line and "--no-deps" in line for line in packages)
    assert all("--only-binary :all:" in line for line in packages[1:])
    assert asrkit.endswith(f" --no-deps --no-build-isolation -e {tree.root}")


def test_the_benchmarks_have_an_environment_of_their_own(tree: Tree) -> None:
    venv = f"{tree.root}/.venv-bench"
    bench = [
        "venv",
        "torch==2.11.0",
        f"{venv}/torch.txt",
        f"{tree.root}/requirements-bench.txt",
        f"{tree.root}/requirements-source.txt",
        "asrkit",
        f"{tree.root}",
        "kernels",
    ]
    assert tree.run("--bench").returncode == 0
    torch, *listed, source, _, _ = pip_calls(tree)[1:]
    assert all("--require-hashes" in line for line in (torch, *listed, source))
    assert all("--only-binary :all:" in line for line in listed)
    assert "--no-build-isolation" in source
    assert tree.calls() == bench
    assert not tree.venv.exists()
    tree.run("--bench")
    assert tree.calls() == []
    assert tree.run().returncode == 0
    assert tree.calls() == tree.everything
    tree.run("--bench", failing="requirements-bench")  # up to date: asks for nothing
    assert tree.calls() == []
    with open(tree.root / "requirements-bench.txt", "a") as stream:
        stream.write("\n")
    assert tree.run("--bench", failing="requirements-bench").returncode == 1
    tree.calls()
    assert tree.run("--bench").returncode == 0
    assert tree.calls() == bench


@pytest.mark.parametrize("bench", [[], ["--bench"]])
def test_torch_from_an_index_is_said_to_be_unchecked(tree: Tree, bench: list[str]) -> None:
    url = "https://example.org/cpu"
    done = tree.run(*bench, "--torch-index", url, cuda="yes")
    torch = {"": "torch==2.13.0", "--bench": "torch==2.11.0"}["".join(bench)]
    assert f"{torch} and what it needs come from {url}; their hashes are not checked\n" in done.stderr
    first, listed, needed, *_ = pip_calls(tree)
    assert first.endswith(f" --no-deps --index-url {url} {torch}")
    assert "--require-hashes" in listed
    assert needed.endswith(f" --no-input {torch}")
    assert "not checked" not in tree.run(*bench).stderr


def test_torch_from_an_index(tree: Tree) -> None:
    first, second = "https://example.org/cpu", "https://example.org/cuda"
    tree.run("--torch-index", first)
    with_torch = [*tree.everything[:2], *tree.everything[3:]]
    assert tree.calls() == with_torch
    for options in (["--torch-index", first], []):
        tree.run(*options)
        assert tree.calls() == []
    tree.run(f"--torch-index={second}")
    assert tree.calls() == with_torch[1:]


@pytest.mark.parametrize("refused", ["ensurepip own-pip", "own-pip"])
def test_python_without_its_bundled_pip_uses_the_one_it_has(tree: Tree, refused: str) -> None:
    """And fetches none. So it is for an environment that was made so, whatever Python has by now."""
    tree.run(refused="ensurepip own-pip")
    first = tree.log.read_text().splitlines()
    with open(tree.root / "setup.cfg", "a") as stream:
        stream.write("\n")
    tree.log.unlink()
    assert tree.run(refused=refused).returncode == 0
    assert first[0] == f"-m venv --without-pip {tree.venv}"
    outside = f"-m pip --python {tree.venv}/bin/python "
    for calls in (first, tree.log.read_text().splitlines()):
        assert [line.startswith(outside) for line in calls if "pip " in line and "venv --" not in line] == [True] * 5
    assert tree.calls() == tree.everything[1:]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("version", "Python 3.11 or later is needed, and PATH has Python 3.9.2; install it (on Debian or Ubuntu: apt"),
        ("ensurepip pip", "python3 has no pip; install it (on Debian or Ubuntu: apt install python3-venv python3-pip)"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(tree: Tree, refused: str, message: str) -> None:
    result = tree.run(refused=refused)
    assert result.returncode == 1
    assert result.stderr.startswith(f"tools/setup.sh: error: {message}")
    assert result.stderr.count("\n") == 1
    assert not tree.venv.exists()


def test_no_python_at_all(tree: Tree) -> None:
    (tree.bin / "python3").unlink()
    result = tree.run()
    assert result.returncode == 1
    assert result.stderr.startswith("tools/setup.sh: error: Python 3.11 or later is needed, and PATH has none; ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [["--frob"], ["--torch-index"], ["--torch-index="]])
def test_wrong_usage(tree: Tree, options: list[str]) -> None:
    result = tree.run(*options)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert not tree.venv.exists()


def in_image(file: str) -> bool:
    """Whether Docker copies `file`: no pattern of .dockerignore names it or a directory above it."""
    above = [file, *map(str, Path(file).parents)]
    for pattern in (ROOT / ".dockerignore").read_text().split():
        if any(fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(f"/{path}", pattern[2:]) for path in above):
            return False
    return True


def test_the_image_holds_the_sources_and_nothing_that_was_made_from_them() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    assert [file for file in (*FILES, *tracked.stdout.split("\n")) if not in_image(file)] == []
    made = (".venv/bin/python", ".git/config", "asrkit/_native/_align.so", "asrkit/__pycache__/a.pyc")
    assert not any(map(in_image, (*made, "recipes/mini/exp/a/final.pt", "recipes/timit/data/train/text")))


def test_docker_and_conda_set_up_what_everybody_has(tree: Tree) -> None:
    """The image's commands and conda's are those that tools/setup.sh takes, and install what it installs elsewhere."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    environment = (ROOT / "environment.yml").read_text()
    commands = re.findall(
        r"^RUN .*/asrkit/(tools/\S+.*)$|^# +conda run -n asrkit (.*)$", dockerfile + environment, re.M
    )
    assert len(commands) == 2
    for command in map("".join, commands):
        script, *options = command.split()
        assert script == "tools/setup.sh"
        assert tree.run(*options).returncode == 0
        assert tree.calls() == tree.everything
        shutil.rmtree(tree.venv)

    copied, set_up, path = (
        dockerfile.index(part) for part in ("COPY . /asrkit", "/tools/setup.sh\n", "PATH=/asrkit/.venv/bin")
    )
    assert copied < set_up < path
    # What the set-up asks of Debian when it is missing, and what builds the extension (docs/first-steps.md).
    packages = re.search(r"apt-get install (.*)", dockerfile)
    assert packages and {"python3-venv", "gcc", "python3-dev"} <= set(packages[1].split())


def test_conda_has_a_python_that_set_up_takes() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "asrkit"
    python = next(package for package in environment["dependencies"] if package.startswith("python="))
    needed = re.search(r"python_requires = >=(\S+)", (ROOT / "setup.cfg").read_text())
    assert needed
    numbers = [tuple(map(int, text.split("."))) for text in (python.removeprefix("python="), needed[1])]
    assert numbers[0] >= numbers[1]
    assert {"pip", "c-compiler"} <= set(environment["dependencies"])
