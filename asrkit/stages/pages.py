"""The report on a decoded set of an experiment, with a page on which errors are seen and heard."""

from __future__ import annotations

import contextlib
import csv
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import asrkit
from asrkit.audio import AudioAccess
from asrkit.config.experiment_config import load_config
from asrkit.errors import AudioError, DataError, location
from asrkit.features.pipeline import feats_input
from asrkit.findings import Findings
from asrkit.formats.ctm import PhoneTimes
from asrkit.inference.frame_clock import FrameClock, frame_clock
from asrkit.io.ark import ArkReader
from asrkit.io.atomic import atomic_dir, atomic_write
from asrkit.io.json_text import read_json
from asrkit.io.lock import lock_dir
from asrkit.io.numbers import parse_number
from asrkit.io.stamp import File, Product, Stamp
from asrkit.io.text import read_text
from asrkit.lang.articulation import MANNERS
from asrkit.lang.tokens import TokenTable
from asrkit.parallel import map_in_threads, track
from asrkit.reporting.html.details import LEVELS, Details, Sources
from asrkit.reporting.html.page import Page
from asrkit.reporting.html.symbols import FIRST, Symbols
from asrkit.reporting.html.utterances import DETAILS_A_PART, UTTS_A_PART, Utterances
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.tally import Tally
from asrkit.stages.log_probs import LOG_PROBS_STAMP
from asrkit.stages.reporting import (
    Report,
    expect_hypotheses,
    read_report,
    report_figures,
    report_stamp,
    write_report,
)
from asrkit.stages.scored_data import UTTS_AT_A_TIME, ScoredData
from asrkit.training.audio_table import AudioTable
from asrkit.training.codecs import CODECS, to_int16

PAGE, BESIDE = "report.html", "report_data"
MOST_IN_PAGE = 10_000  # utterances; of more the transcripts and details lie beside the page
NUM_SHOWN = 100  # of the worst utterances, and of the sample of all
_AUDIO_BYTES = 3_000_000  # what the audio of a page is to take, as far as the rate can do that
_KBPS = 12, 24  # the least and the best rate


@dataclass(frozen=True)
class PageOptions:
    """What a page holds besides figures.

    Attributes:
        audio: how many utterances can be heard, one half the worst, the other a random sample; None for all.
        access: how their audio is reached.
    """

    audio: int | None = 200
    access: AudioAccess = AudioAccess()

    @property
    def num_worst(self) -> int:
        return max(NUM_SHOWN, (self.audio or 0) // 2)

    @property
    def num_sample(self) -> int:
        return max(2 * NUM_SHOWN, self.audio or 0)  # enough where those are among the worst


def report_experiment(
    experiment: str | Path,
    data_dir: str | Path,
    options: PageOptions = PageOptions(),
    *,
    protocol: Protocol = AS_IS,
    force: bool = False,
) -> Report:
    """Report the errors of an experiment's hypotheses for a data directory, unless the report is up to date.

    EXP/decode_SET, where SET is the data directory's name, gets report.txt and report.json as from `report`, and
    report.html: the page, with what else is there of training, tuning and analysis.

    Args:
        experiment: the directory of the trained experiment.
        data_dir: the data directory, which was decoded to EXP/decode_SET.
        protocol: folding of symbols and treatment of silence, one of PROTOCOLS.
        force: make the report even when it is up to date.

    Raises:
        DataError: as `report`, or phone times or log-probabilities are damaged.
    """
    made = _Experiment(Path(experiment), Path(data_dir), options, protocol)
    expect_hypotheses(made.hyp)
    page_stamp = Stamp(made.out / ".page.stamp", made.inputs())
    stamp = report_stamp(made.data_dir, made.hyp, made.out, protocol)
    if not force and page_stamp.is_current() and (before := read_report(stamp, made.out)) is not None:
        return replace(before, page=made.page)
    with lock_dir(made.out, "report"):
        with page_stamp.making():
            figures = made.write()
        with stamp.making():
            report = write_report(made.out, figures)
    return replace(report, page=made.page)


@dataclass(frozen=True)
class _Experiment:
    """A decoded set of an experiment, and how its page is made."""

    directory: Path
    data_dir: Path
    options: PageOptions
    protocol: Protocol

    @property
    def out(self) -> Path:
        return self.directory / f"decode_{set_name(self.data_dir)}"

    @property
    def hyp(self) -> Path:
        return self.out / "hyp"

    @property
    def page(self) -> Path:
        return self.out / PAGE

    @property
    def config_file(self) -> Path:
        return self.directory / "config.yaml"

    @cached_property
    def clock(self) -> FrameClock | None:
        """When the network's steps are; None without its configuration."""
        if not self.config_file.exists():
            return None
        config = load_config(self.config_file)
        return frame_clock(config.features, config.model)

    def inputs(self) -> dict[str, Any]:
        """All that the page depends on."""
        files = [self.hyp, *(self.data_dir / name for name in ("text", "utt2spk", "spk2gender", "phones.ctm"))]
        files += [self.out / name for name in ("phones.ctm", "decoding.yaml", "analysis.json")]
        files += [self.directory / name for name in ("config.yaml", "history.csv", "tokens.txt")]
        files += [self.directory / "tune" / name for name in ("tune.json", "surface.csv")]
        access = self.options.access
        return {
            "files": [File(path) for path in files],
            "log_probs": Product(self.out / LOG_PROBS_STAMP),
            "feats": feats_input(self.data_dir) if (self.data_dir / "feats.scp").exists() else None,
            "protocol": self.protocol.name,
            "audio": [self.options.audio, access.allow_pipes, access.channel],
        }

    def write(self) -> dict[str, Any]:
        """Write the page and return the figures of the report."""
        data = ScoredData(self.data_dir, {"": self.hyp}, self.protocol)
        shutil.rmtree(self.out / BESIDE, ignore_errors=True)
        beside = atomic_dir(self.out / BESIDE) if len(data) > MOST_IN_PAGE else contextlib.nullcontext()
        with beside as directory, atomic_write(self.page) as stream:
            name = f"{self.directory.resolve().name}, {set_name(self.data_dir)}"
            page, symbols, tally = Page(stream, f"{name}: report", directory), Symbols(), Tally(self.options.num_worst)
            sources = self._sources()
            details = Details(sources, self.protocol, symbols)
            utterances = Utterances(page, details, symbols, self.options.num_sample)
            for utt2spk, results in track(
                data.parts(), f"report, {UTTS_AT_A_TIME} utterances at a time", data.num_parts
            ):
                tally.add(results[""], utt2spk)
                utterances.add(results[""].pairs, utt2spk)
            utterances.finish()
            worst = [(data.number(each.utt), each.utt) for each in tally.worst]
            others = [each for each in utterances.sample if each not in set(worst)]
            figures = report_figures(self.data_dir, self.hyp, data, tally)
            missing: dict[str, str] = {}
            audible = self._audible(data, worst, others)
            for (number, utt), (_, content) in zip(audible, self.encode(audible, sources), strict=True):
                if isinstance(content, bytes):
                    page.add_audio(f"a{number}", content)
                else:
                    missing[utt] = content
            if missing:
                first = next(iter(missing.values()))
                warning = f"no audio of {len(missing)} utterances in {self.page}, such as: {first}"
                figures["warnings"] = [*figures.get("warnings", []), warning]
            page.finish(
                {
                    "kind": "report",
                    "name": name,
                    "report": figures,
                    "audio": sorted(number for number, utt in audible if utt not in missing),
                    "missing": missing,
                    "boundaries": details.boundaries(),
                    "optional": symbols.string(sorted(tally.optional)),
                    "worst": [number for number, _ in worst[:NUM_SHOWN]],
                    "sample": sorted(number for number, _ in others[:NUM_SHOWN]),
                    **self._surroundings(symbols),
                    **_layout(symbols, utterances.num, directory is not None),
                }
            )
        return figures

    def _sources(self) -> Sources:
        ref_times, hyp_times = (
            PhoneTimes(path) if path.exists() else None
            for path in (self.data_dir / "phones.ctm", self.out / "phones.ctm")
        )
        log_probs = self.out / "log_probs.scp"
        return Sources(ref_times, hyp_times, ArkReader(log_probs, is_beside=True) if log_probs.exists() else None)

    def _audible(
        self, data: ScoredData, worst: Sequence[tuple[int, str]], others: Sequence[tuple[int, str]]
    ) -> Sequence[tuple[int, str]]:
        """Numbers and ids of the utterances whose audio the page has."""
        number = self.options.audio
        if number is None or number >= len(data):
            return list(enumerate(data.utt_ids))
        num_worst = min(number // 2, len(worst))
        return [*worst[:num_worst], *others[: number - num_worst]]

    def _surroundings(self, symbols: Symbols) -> dict[str, Any]:
        """What is known of the experiment and of the making of the page."""
        tokens, clock = self.directory / "tokens.txt", self.clock
        audio = "all" if self.options.audio is None else str(self.options.audio)
        protocol = ["--protocol", self.protocol.name]
        return {
            "analysis": _read_json(self.out / "analysis.json"),
            "tuning": _read_json(self.directory / "tune" / "tune.json"),
            "surface": _read_csv(self.directory / "tune" / "surface.csv"),
            "history": _read_csv(self.directory / "history.csv"),
            "config": _read_text(self.config_file),
            "decoding": _read_text(self.out / "decoding.yaml"),
            "version": asrkit.__version__,
            "commit": _commit(),
            "command": shlex.join(
                ["asrkit", "report", str(self.directory), "--data", str(self.data_dir), "--audio", audio, *protocol]
            ),
            "tokens": symbols.string(TokenTable.read(tokens).symbols) if tokens.exists() else "",
            # A step of the network, and the middle of the first one, in seconds.
            "step": clock and clock.step,
            "first": clock and clock.start + clock.shift * (clock.middle + 0.5),
        }

    def encode(self, audible: Sequence[tuple[int, str]], sources: Sources) -> Iterator[tuple[str, bytes | str]]:
        """Each of these utterances as Ogg Opus, or a line that says why there is none."""
        if not audible:
            return
        utts = [utt for _, utt in audible]
        try:
            table = AudioTable(self.data_dir, CODECS["opus"].sample_rate, self.options.access)
        except DataError as error:
            yield from ((utt, str(error).split("\n")[0]) for utt in utts)
            return
        log_probs = sources.log_probs
        steps = sum(log_probs.num_rows(utt) for utt in utts if utt in log_probs) if log_probs is not None else 0
        seconds = steps * (self.clock.step if self.clock else 0)
        least, best = _KBPS
        kbps = min(max(8 * _AUDIO_BYTES / 1000 / max(seconds, 1e-3), least), best)

        def encode(utt: str) -> bytes | str:
            try:
                return CODECS["opus"].encode(to_int16(table[utt].samples), kbps)
            except KeyError:
                return f"{table.data_dir}: no audio of {utt}"
            except (AudioError, DataError) as error:
                return str(error).split("\n")[0]

        yield from zip(utts, map_in_threads(encode, utts, len(os.sched_getaffinity(0))), strict=True)


def set_name(data_dir: Path) -> str:
    """What a set is called after: the name of its data directory."""
    return data_dir.resolve().name


def _layout(symbols: Symbols, num_utts: int, is_beside: bool) -> dict[str, Any]:
    """How parts and characters are to be read."""
    return {
        "symbols": symbols.rows(),
        "manners": MANNERS,
        "num_utts": num_utts,
        "utts_a_part": UTTS_A_PART,
        "details_a_part": DETAILS_A_PART,
        "beside": BESIDE if is_beside else None,
        "first_char": FIRST,
        "levels": LEVELS,
    }


def _read_json(path: Path) -> Any:
    """Figures that another step wrote; None without them."""
    if not path.exists():
        return None
    try:
        return read_json(path)
    except ValueError as error:
        raise DataError(f"{location(path)}not JSON ({error}); remove it, or make it again") from None


def _read_csv(path: Path) -> dict[str, list[float | None]] | None:
    """The columns of a table of numbers, None for what is none; None without it."""
    text = _read_text(path)
    if text is None:
        return None
    header, *rows = csv.reader(text.splitlines())
    return {name: [parse_number(row[place]) for row in rows] for place, name in enumerate(header)}


def _read_text(path: Path) -> str | None:
    if not path.exists():
        return None
    findings = Findings()
    text = read_text(path, findings)
    findings.raise_errors()
    return text


def _commit() -> str | None:
    """The commit of asrkit, marked when files were changed since; None outside a repository of its own."""
    root = Path(asrkit.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
