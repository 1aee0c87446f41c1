"""How the compiled kernels are built, found and done without."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import asrkit._native as native

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "asrkit" / "_native"


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASRKIT_")}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, timeout=60, check=True
    )


LOAD_ALL = "import asrkit._native as n; print([n.kernel(name) is None for name in n.KERNELS])\n"


def test_every_source_is_a_kernel_that_set_up_builds():
    assert sorted(native.KERNELS) == sorted(path.stem for path in SOURCES.glob("*.c"))
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{name}"' in text for name in native.KERNELS)


def test_without_kernels_on_request_it_says_so_once():
    result = run_python(LOAD_ALL * 2, ASRKIT_NO_NATIVE="1")
    assert result.stdout == f"{[True] * len(native.KERNELS)}\n" * 2
    assert result.stderr == "asrkit: ASRKIT_NO_NATIVE is 1: the slower NumPy fallback is used\n"


def test_kernels_that_cannot_be_imported_are_reported_once_with_the_remedy():
    hide = f"import sys; sys.modules.update({{f'asrkit._native.{{name}}': None for name in {native.KERNELS}}})\n"
    result = run_python(hide + LOAD_ALL)
    assert result.stdout == f"{[True] * len(native.KERNELS)}\n"
    assert result.stderr.startswith("asrkit: no compiled kernel _mfcc (_mfcc.")
    assert result.stderr.endswith(
        "the slower NumPy fallback is used; to have the kernels, provide a C compiler and Python's headers, then "
        "install asrkit again with pip\n"
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ([], "_mfcc{0} is not there: never built, or removed"),
        (
            ["_mfcc.cpython-399-x.so", "_mfcc.cpython-398-x.so"],
            "_mfcc{0} is not there, only _mfcc.cpython-398-x.so _mfcc.cpython-399-x.so for other Pythons",
        ),
        (["_mfcc{0}", "_mfcc.cpython-399-x.so"], "_mfcc{0} cannot be loaded: "),
    ],
)
def test_the_cause_of_a_missing_kernel_is_named(tmp_path: Path, files: list[str], cause: str):
    shutil.copy(SOURCES / "__init__.py", tmp_path / "alone.py")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone.py").rename(tmp_path / "alone" / "__init__.py")
    for file in files:
        (tmp_path / "alone" / file.format(EXTENSION_SUFFIXES[0])).touch()
    result = run_python("import alone; print(alone.kernel('_mfcc'))", PYTHONPATH=str(tmp_path))
    assert result.stdout == "None\n"
    assert result.stderr.startswith(f"asrkit: no compiled kernel _mfcc ({cause.format(EXTENSION_SUFFIXES[0])}")
    assert result.stderr.count("\n") == 1


def test_the_workers_of_a_pool_do_not_repeat_it():
    result = run_python(
        "import asrkit._native as n\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, get_context('spawn')) as pool:\n"
        "        print(n.kernel('_align'), pool.submit(n.kernel, '_align').result())\n",
        ASRKIT_NO_NATIVE="1",
    )
    assert result.stdout == "None None\n"
    assert result.stderr.count("\n") == 1


WORKER = """
import asrkit._native as n, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
hide = "import sys; sys.modules['asrkit._native._align'] = None"
if __name__ == '__main__':
    if {parent_lacks_it}:
        exec(hide)
    n.kernel('_align')
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        pool.submit(exec, hide).result()
        assert pool.submit(n.kernel, '_align').result() is None
        assert pool.submit(n.kernel, '_align').result() is None
"""


@pytest.mark.parametrize("parent_lacks_it", [False, True])
def test_a_worker_that_lacks_what_its_maker_has_says_so(parent_lacks_it: bool):
    """Kernels that are removed during a run slow only the workers that start after that."""
    if native.kernel("_align") is None:
        pytest.skip("_align is not built, or ASRKIT_NO_NATIVE is 1")
    result = run_python(WORKER.format(parent_lacks_it=parent_lacks_it))
    assert result.stderr.startswith("asrkit: no compiled kernel _align (")
    assert result.stderr.count("\n") == 1


def source_tree(tmp_path: Path) -> Path:
    """What the extension is built from, and nothing that was built."""
    tree = tmp_path / "tree"
    shutil.copytree(SOURCES, tree / "asrkit" / "_native", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "setup.py", tree)
    return tree


def build(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizer in the compiler
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(command, cwd=tree, env=kept | environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("environment", [{"CC": "false"}, {"CC": "no-such-compiler"}, {"PATH": "/nonexistent"}])
def test_building_without_a_compiler_is_no_failure(tmp_path: Path, environment: dict[str, str]):
    tree = source_tree(tmp_path)
    result = build(tree, **environment)
    assert result.returncode == 0
    assert "building extension" in result.stderr
    assert not list(tree.rglob("*.so"))


def fake_kernels(tree: Path, age: float) -> dict[str, Path]:
    """Files in the place of two kernels, `age` seconds older than the newest source; one is of another Python."""
    changed = max(path.stat().st_mtime for path in (tree / "asrkit" / "_native").glob("*.[ch]"))
    kernels = {
        tag: tree / "asrkit" / "_native" / f"_align{tag}" for tag in (EXTENSION_SUFFIXES[0], ".cpython-399-x.so")
    }
    for path in kernels.values():
        path.touch()
        os.utime(path, (changed - age, changed - age))
    return kernels


@pytest.mark.parametrize("age", [-5.0, 5.0])
def test_what_cannot_be_built_leaves_kernels_that_are_newer_than_their_sources(tmp_path: Path, age: float):
    tree = source_tree(tmp_path)
    kernels = fake_kernels(tree, age)
    assert build(tree, CC="false").returncode == 0
    assert {path.exists() for path in kernels.values()} == {age < 0}


def test_a_kernel_that_is_built_takes_the_old_ones_place_at_once(tmp_path: Path):
    """A program that has the old one open, or loaded, keeps it; nothing else is left or taken away."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    tree = source_tree(tmp_path)
    old, other = fake_kernels(tree, -5.0).values()
    with open(old, "rb") as opened:
        assert build(tree).returncode == 0
        assert os.fstat(opened.fileno()).st_size == 0 < old.stat().st_size
    assert other.exists()
    assert not list(tree.rglob("*.tmp-*"))


def test_building_gives_no_compiler_warning(tmp_path: Path):
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    tree = source_tree(tmp_path)
    result = build(tree, CFLAGS="-Werror")
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name.split(".")[0] for path in tree.rglob("*.so")} == set(native.KERNELS)


TWICE = [path.stem for path in sorted(SOURCES.glob("*.c")) if '"builds.h"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", TWICE)
def test_the_build_for_this_cpu_is_chosen_and_can_be_refused(name: str):
    if native.kernel(name) is None:
        pytest.skip(f"{name} is not built, or ASRKIT_NO_NATIVE is 1")
    flags = Path("/proc/cpuinfo")
    has_avx2 = flags.is_file() and " avx2 " in flags.read_text() and " fma " in flags.read_text()
    show = f"import asrkit._native as n; print(n.kernel('{name}').BUILD)"
    assert run_python(show).stdout == ("avx2\n" if has_avx2 else "baseline\n")
    assert run_python(show, ASRKIT_NO_AVX2="1").stdout == "baseline\n"
