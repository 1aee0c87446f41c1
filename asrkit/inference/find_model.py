"""Find a model by the value of `--model`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from asrkit.errors import ModelError, location

ENGLISH, ENGLISH_STREAMING = "english", "english-streaming"  # the models that are part of asrkit
_NAMES = ("final.pt", "final.onnx")  # an experiment directory with one of these files has a finished model


def find_model(name: str | Path) -> Path:
    """Find the experiment directory or exported file that `name` means.

    `name` can be a path, the name of a recipe that was run, or the name of a model that comes with asrkit. A name is
    looked up in these places, in this order:

    1. NAME.onnx and NAME/ in the directory $ASRKIT_MODELS
    2. recipes/NAME/exp in the current directory and in the directories above it
    3. recipes/NAME/exp in the checkout from which asrkit is installed
    4. the models that come with asrkit

    If a place has several experiments, the one that finished last is taken.

    Raises:
        ModelError: there is none. The message lists all these places.
    """
    path = Path(name)
    if path.is_file():
        return path.parent if path.name == "final.pt" else path
    if _finished(path):
        return path
    if os.sep in str(name) or path.name in ("", ".."):
        if not path.is_dir():
            raise ModelError(f"{location(path)}no such model or experiment directory; made by stage 3 (asrkit train)")
        raise ModelError(
            f"{location(path / 'final.pt')}not found; training has not finished, run stage 3 (asrkit train)"
        )
    places = list(dict.fromkeys(_places(path.name)))
    for place in places:
        if place.suffix == ".onnx" and place.is_file():
            return place
        experiments = [child for child in (place, *place.glob("*")) if _finished(child)]
        if experiments:
            return max(experiments, key=lambda child: (_finished(child), child.name))
    looked = "".join(f"\n{name}: looked for in {place}" for place in [path, *places])
    raise ModelError(
        f"{name}: no such model; train one (recipes/{name}/run.sh), give the path of one, or see asrkit models{looked}"
    )


def find_pretrained(name: str) -> Path:
    """Find a model that comes with asrkit, even if something else has the same name.

    Raises:
        ModelError: this installation lacks it.
    """
    path = _pretrained() / f"{name}.onnx"
    if not path.is_file():
        raise ModelError(
            f"{location(path)}not found; this installation of asrkit comes without the model {name}: give another by "
            "--model, or make it with recipes/speechocean762/run.sh --corpus DIR --stage 8"
        )
    return path


def model_names() -> list[str]:
    """All names that `find_model` knows, in alphabetical order."""
    names = {path.stem for path in _pretrained().glob("*.onnx")}
    if models := os.environ.get("ASRKIT_MODELS"):
        names |= {path.stem for path in Path(models).glob("*.onnx")}
        names |= {path.name for path in Path(models).glob("*/")}
    for directory in _trees():
        names |= {path.parent.name for path in directory.glob("recipes/*/exp")}
    return sorted(name for name in names if _is_known(name))


def _is_known(name: str) -> bool:
    try:
        find_model(name)
    except ModelError:
        return False
    return True


def _finished(directory: Path) -> int:
    """When the model of an experiment directory was made, in nanoseconds; 0 if there is no model."""
    return max((file.stat().st_mtime_ns for name in _NAMES if (file := directory / name).is_file()), default=0)


def _places(name: str) -> Iterator[Path]:
    if models := os.environ.get("ASRKIT_MODELS"):
        yield Path(models) / f"{name}.onnx"
        yield Path(models) / name
    for directory in _trees():
        yield directory / "recipes" / name / "exp"
    yield _pretrained() / f"{name}.onnx"


def _trees() -> tuple[Path, ...]:
    """Directories that may contain recipes."""
    here = Path.cwd()
    return here, *here.parents, Path(__file__).resolve().parents[2]


def _pretrained() -> Path:
    return Path(__file__).resolve().parents[1] / "pretrained"
