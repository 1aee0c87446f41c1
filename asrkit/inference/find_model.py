"""Find a model by what `--model` and load_recognizer take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from asrkit.errors import ModelError, location

ENGLISH, ENGLISH_STREAMING = "english", "english-streaming"  # models that come with asrkit
_NAMES = ("final.pt", "final.onnx")  # what makes a directory an experiment with a finished model


def find_model(name: str | Path) -> Path:
    """The experiment directory or exported file that `name` stands for.

    `name` is a path to one, the name of a recipe that was run, or the name of a model that comes with asrkit. A NAME is
    looked up as NAME.onnx and NAME/ in the directory $ASRKIT_MODELS, then as recipes/NAME/exp in the current directory
    and those above it, then in the checkout that asrkit is installed from, then among the models that come with asrkit.
    Of several experiments in one place the one that finished last is taken.

    Raises:
        ModelError: there is none; the message lists the places where it was looked for.
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
    """The file of a model that comes with asrkit, even if something else has its name. Raises ModelError without it."""
    path = _pretrained() / f"{name}.onnx"
    if not path.is_file():
        raise ModelError(
            f"{location(path)}not found; this installation of asrkit comes without the model {name}: give another by "
            "--model, or make it with recipes/speechocean762/run.sh --corpus DIR --stage 8"
        )
    return path


def model_names() -> list[str]:
    """All names that `find_model` knows, in order."""
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
    """The time at which an experiment directory's model was made, in nanoseconds; 0 without a model."""
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
