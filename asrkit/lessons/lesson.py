"""The results of a lesson, and how they are written to a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from asrkit.drawing import COLORS as COLORS
from asrkit.drawing import DASHES as DASHES
from asrkit.drawing import WIDTH as WIDTH
from asrkit.drawing import draw_line as draw_line
from asrkit.drawing import plots as plots
from asrkit.io.atomic import atomic_write
from asrkit.io.json_text import json_text
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp
from asrkit.lessons import LESSONS
from asrkit.lessons.speech import Speech


@dataclass(frozen=True)
class Lesson:
    """The results of a lesson.

    Attributes:
        table: rows of cells; the first row is the header.
        figures: the numbers behind all claims of the lesson, which are written as JSON.
        pictures: name of a file without .png -> picture.
    """

    table: Sequence[Sequence[str]]
    figures: Mapping[str, Any]
    pictures: Mapping[str, Figure]


def hold_lesson(
    name: str,
    out: Path,
    quick: bool,
    files: Mapping[str, Path] = {},
    force: bool = False,
    speech: Speech | None = None,
) -> str:
    """Run the lesson `name` of LESSONS, and write table.txt, figures.json and the pictures to `out`.

    Args:
        name, out: the lesson and the directory.
        quick: run for seconds only; some networks then have not learnt yet.
        files: argument of the lesson's `study` -> file.
        force: run the lesson even if it is up to date.
        speech: the data for lessons ON_SPEECH.

    Returns:
        The text to print: the table, or that everything is up to date.
    """
    code = sorted(path for path in Path(__file__).parent.iterdir() if path.is_file())
    inputs = {path.name: File(path) for path in code} | {name: File(path) for name, path in files.items()}
    of_speech = {} if speech is None else {"speech": speech.inputs()}
    stamp = Stamp(out / ".lesson.stamp", {"lesson": name, "quick": quick, "files": inputs, **of_speech})
    if not force and stamp.is_current():
        return f"{out}: up to date"
    import torch  # takes seconds to load

    torch.set_num_threads(1)  # the networks are so small that several threads would mostly wait for each other
    with lock_dir(out, "lesson"), stamp.making():
        lesson = import_module(LESSONS[name]).study(quick, **files, **({} if speech is None else {"speech": speech}))
        table = render(lesson.table)
        with atomic_write(out / "table.txt") as stream:
            stream.write(table + "\n")
        with atomic_write(out / "figures.json") as stream:
            stream.write(json_text(lesson.figures) + "\n")
        for picture, figure in lesson.pictures.items():
            with atomic_write(out / f"{picture}.png", "wb") as stream:
                figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
    return table


def render(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns: the first one left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean of runs with different seeds, and half the width of its 95 % interval by Student's t.

    Raises:
        ValueError: there are fewer than 2 or more than 6 values.
    """
    students_t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}
    if len(values) not in students_t:
        raise ValueError(f"{len(values)} values; the table of Student's t has 2 to 6")
    return float(np.mean(values)), float(students_t[len(values)] * np.std(values, ddof=1) / np.sqrt(len(values)))


def with_interval(values: Sequence[float]) -> str:
    """The mean of several runs and its 95 % interval, as text."""
    mean, half = mean_and_interval(values)
    return f"{mean:.1f} ± {half:.1f}"
