"""A copy of the recipes, where they run by this Python and set nothing up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def install_asrkit(root: Path) -> None:
    """Let the recipes below `root` call these sources."""
    write_program(root / ".venv/bin/asrkit", f'#!/bin/sh\nexec "{sys.executable}" -m asrkit "$@"\n')


def copy_recipes(root: Path) -> None:
    """recipes/, tools/ and conf/ below `root`, with an asrkit, and a set-up that does nothing."""
    results = shutil.ignore_patterns("corpus", "data", "exp")
    for folder in ("recipes", "tools", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=results)
    write_program(root / "tools/setup.sh", "#!/bin/sh\n")
    install_asrkit(root)


def run_recipe(
    root: Path, name: str, *options: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the recipe `name` of the copy below `root`, there or in `cwd`."""
    return subprocess.run(
        [str(root / "recipes" / name / "run.sh"), *options],
        cwd=cwd or root,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
