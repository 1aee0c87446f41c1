"""The report on a decoded set of an experiment, with a page that shows and plays the errors."""

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
from typing import IO, Any

import asrkit
from asrkit.audio import AudioAccess
from asrkit.config.experiment_config import ExperimentConfig, load_config
from asrkit.decoding.attention_search import DecoderSearch
from asrkit.decoding.methods import DECODER_SEARCHES, make_search
from asrkit.errors import AudioError, DataError, ModelError, location
from asrkit.features.audio_table import AudioTable
from asrkit.features.pipeline import feats_input
from asrkit.findings import Findings
from asrkit.formats.ctm import PhoneTimes
from asrkit.formats.data_dir import feats_table
from asrkit.inference.frame_clock import FrameClock, frame_clock
from asrkit.inference.recognizer import load_model
from asrkit.io.ark import ArkReader
from asrkit.io.atomic import atomic_dir, atomic_write
from asrkit.io.json_text import read_json
from asrkit.io.lock import lock_dir, lock_file
from asrkit.io.numbers import parse_number
from asrkit.io.scp import read_table
from asrkit.io.stamp import File, Product, Stamp
from asrkit.io.tables import LazyTable
from asrkit.io.tell import tell
from asrkit.io.text import read_text
from asrkit.lang.articulation import MANNERS
from asrkit.lang.tokens import TokenTable
from asrkit.parallel import map_in_threads, track
from asrkit.reporting.html.details import LEVELS, Details, Sources, StoredAttention
from asrkit.reporting.html.page import Page
from asrkit.reporting.html.symbols import FIRST, Symbols
from asrkit.reporting.html.utterances import DETAILS_A_PART, UTTS_A_PART, Utterances
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.tally import Tally
from asrkit.stages.inputs import decode_dir, set_name
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
from asrkit.stages.scoring import SystemComparison, build_comparison, compare
from asrkit.training.codecs import CODECS, to_int16

PAGE, BESIDE = "report.html", "report_data"
MOST_IN_PAGE = 10_000  # utterances; for a larger set transcripts and details are files beside the page
NUM_SHOWN = 100  # utterances shown of the worst ones, and of the sample
_AUDIO_BYTES = 3_000_000  # desired size of the audio of a page, within the limits of the bit rate
_KBPS = 12, 24  # lowest and highest bit rate, kbit/s


@dataclass(frozen=True)
class PageOptions:
    """The audio of a page.

    Attributes:
        audio: the number of utterances with audio; half of them are the worst ones, the others a random sample. None:
            all.
        access: how to reach their audio.
    """

    audio: int | None = 200
    access: AudioAccess = AudioAccess()

    @property
    def num_worst(self) -> int:
        """The number of worst utterances on the page."""
        return max(NUM_SHOWN, (self.audio or 0) // 2)

    @property
    def num_sample(self) -> int:
        """The number of utterances in the random sample."""
        return max(2 * NUM_SHOWN, self.audio or 0)  # enough even if many of them are among the worst


def report_experiment(
    experiment: str | Path,
    data_dir: str | Path,
    options: PageOptions = PageOptions(),
    *,
    protocol: Protocol = AS_IS,
    force: bool = False,
    num_jobs: int = 1,
) -> Report:
    """Report the errors of an experiment's hypotheses for a data directory, unless the report is up to date.

    The files go to EXP/decode_SET, where SET is the name of the data directory. report.txt and report.json are those of
    `report`. The page report.html also shows training, tuning and analysis, if their results exist.

    Args:
        experiment: the directory of the trained experiment.
        data_dir: the data directory, which was decoded to EXP/decode_SET.
        options: the audio of the page.
        protocol: how errors are counted (folding of symbols, treatment of silence), one of PROTOCOLS.
        force: make the report even if it is up to date.
        num_jobs: the number of processes that score a large set.

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
            figures = made.write(num_jobs)
        with stamp.making():
            report = write_report(made.out, figures)
    return replace(report, page=made.page)


def compare_experiments(
    experiments: tuple[str | Path, str | Path],
    data_dir: str | Path,
    page: str | Path | None = None,
    options: PageOptions = PageOptions(),
    *,
    protocol: Protocol = AS_IS,
) -> SystemComparison:
    """Compare the results of two experiments, A and B, for a data directory, over utterances and over speakers.

    Args:
        experiments: their directories; each has decoded the data directory to EXP/decode_SET, where SET is its name.
        data_dir: the data directory.
        page: the file of a page that shows and plays both results side by side.
        options: the audio of the page; half of it is for the utterances with the largest differences.
        protocol: how errors are counted (folding of symbols, treatment of silence), one of PROTOCOLS.

    Raises:
        DataError: as `compare`, or phone times or log-probabilities are damaged.
    """
    a, b = (_Experiment(Path(each), Path(data_dir), options, protocol) for each in experiments)
    for each in (a, b):
        expect_hypotheses(each.hyp)
    systems = compare(a.data_dir / "text", a.hyp, b.hyp, protocol=protocol, utt2spk=a.data_dir / "utt2spk")
    if page is not None:
        with lock_file(page, "compare"), atomic_write(page) as stream:
            _write_comparison(stream, a, b, systems)
    return systems


def _write_comparison(stream: IO[str], a: _Experiment, b: _Experiment, systems: SystemComparison) -> None:
    names = [str(each.directory) for each in (a, b)]
    name = f"{set_name(a.data_dir)}: {names[0]} (A), {names[1]} (B)"
    page, symbols, sources = Page(stream, f"{name}: comparison"), Symbols(), [a.sources(), b.sources()]
    details = [Details(each, systems.protocol, symbols) for each in sources]
    utterances = Utterances(page, details, symbols, a.options.num_sample)
    utterances.add([systems.a.pairs, systems.b.pairs], read_table(a.data_dir / "utt2spk"))
    utterances.finish()
    errors = [{utt: counts.num_errors for utt, counts in each.per_utt.items()} for each in (systems.a, systems.b)]
    gaps = {(number, utt): abs(errors[0][utt] - errors[1][utt]) for number, utt in enumerate(systems.a.pairs)}
    differing = sorted((each for each in gaps if gaps[each]), key=lambda each: (-gaps[each], each))
    kept = differing[: a.options.num_worst]
    others = [each for each in utterances.sample if each not in set(kept)]
    audible = choose_audible(list(systems.a.pairs), kept, others, a.options.audio)
    missing = a.add_audio(page, audible, sources[0])
    page.finish(
        {
            "kind": "comparison",
            "name": name,
            "names": names,
            "comparison": build_comparison(systems),
            "audio": sorted(number for number, utt in audible if utt not in missing),
            "missing": missing,
            "optional": symbols.string(sorted(systems.a.optional)),
            "differing": [number for number, _ in kept[:NUM_SHOWN]],
            "sample": sorted(number for number, _ in others[:NUM_SHOWN]),
            "systems": [each.steps(symbols) for each in (a, b)],
            "configs": [_read_text(each.config_file) for each in (a, b)],
            **_program(),
            **_layout(symbols, utterances.num, False),
        }
    )


@dataclass(frozen=True)
class _Experiment:
    """A decoded set of an experiment, which makes its page."""

    directory: Path
    data_dir: Path
    options: PageOptions
    protocol: Protocol

    @property
    def out(self) -> Path:
        return decode_dir(self.directory, self.data_dir)

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
    def config(self) -> ExperimentConfig | None:
        """The configuration of the experiment, if it exists."""
        return load_config(self.config_file) if self.config_file.exists() else None

    @cached_property
    def clock(self) -> FrameClock | None:
        """The times of the network's steps; None without its configuration."""
        return None if self.config is None else frame_clock(self.config.features, self.config.model)

    def inputs(self) -> dict[str, Any]:
        """Everything on which the page depends."""
        files = [self.hyp, *(self.data_dir / name for name in ("text", "utt2spk", "spk2gender", "phones.ctm"))]
        files += [self.out / name for name in ("phones.ctm", "decoding.yaml", "analysis.json")]
        files += [self.directory / name for name in ("config.yaml", "history.csv", "tokens.txt")]
        files += [self.directory / "tune" / name for name in ("tune.json", "surface.csv")]
        access = self.options.access
        return {
            "files": [File(path) for path in files],
            "log_probs": Product(self.out / LOG_PROBS_STAMP),
            "feats": feats_input(self.data_dir) if feats_table(self.data_dir).exists() else None,
            "protocol": self.protocol.name,
            "audio": [self.options.audio, access.allow_pipes, access.channel],
        }

    def write(self, num_jobs: int) -> dict[str, Any]:
        """Write the page and return the figures of the report."""
        data = ScoredData(self.data_dir, {"": self.hyp}, self.protocol)
        shutil.rmtree(self.out / BESIDE, ignore_errors=True)
        beside = atomic_dir(self.out / BESIDE) if len(data) > MOST_IN_PAGE else contextlib.nullcontext()
        with beside as directory, atomic_write(self.page) as stream:
            name = f"{self.directory.resolve().name}, {set_name(self.data_dir)}"
            page, symbols, tally = Page(stream, f"{name}: report", directory), Symbols(), Tally(self.options.num_worst)
            sources = self.sources()
            details = Details(sources, self.protocol, symbols)
            utterances = Utterances(page, [details], symbols, self.options.num_sample)
            for utt2spk, results in track(
                data.parts(num_jobs), f"report, {UTTS_AT_A_TIME} utterances at a time", data.num_parts
            ):
                tally.add(results[""], utt2spk)
                utterances.add([results[""].pairs], utt2spk)
            utterances.finish()
            worst = [(data.number(each.utt), each.utt) for each in tally.worst]
            others = [each for each in utterances.sample if each not in set(worst)]
            figures = report_figures(self.data_dir, self.hyp, data, tally)
            audible = choose_audible(data.utt_ids, worst, others, self.options.audio)
            missing = self.add_audio(page, audible, sources)
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

    def sources(self) -> Sources:
        ref_times, hyp_times = (
            PhoneTimes(path) if path.exists() else None
            for path in (self.data_dir / "phones.ctm", self.out / "phones.ctm")
        )
        stored = self.out / "log_probs.scp"
        log_probs = ArkReader(stored, is_beside=True) if stored.exists() else None
        heads = None if self.config is None else self.config.model.heads
        if self.config is None or heads is None or not heads.has_decoder:
            return Sources(ref_times, hyp_times, log_probs)
        # The encoder's outputs are in the last columns; CTC's log-probabilities, if any, are before them.
        num_classes = len(TokenTable.read(self.directory / "tokens.txt")) if heads.has_ctc else 0
        attention = None if log_probs is None else self._attention(self.config, log_probs)
        return Sources(ref_times, hyp_times, log_probs if num_classes else None, num_classes, attention)

    def _attention(self, config: ExperimentConfig, stored: ArkReader) -> StoredAttention | None:
        """The attention of the decoder; None without an attention decoder, or if the model cannot be loaded."""
        decoder = config.model.heads.decoder
        assert decoder is not None, "callers have a model with a decoder"
        if not issubclass(DECODER_SEARCHES[decoder][config.decoding.method].load(), DecoderSearch):
            return None
        try:
            model = load_model(self.directory)
        except ModelError as error:
            tell(f"{self.page}: without attention: {error}")
            return None
        search = make_search(config.decoding, None, model.decoder)
        assert isinstance(search, DecoderSearch), "as its class is"
        return StoredAttention(search, model.tokens, stored, LazyTable(self.hyp, empty_ok=True))

    def _surroundings(self, symbols: Symbols) -> dict[str, Any]:
        """Facts about the experiment and about the making of the page."""
        audio = "all" if self.options.audio is None else str(self.options.audio)
        protocol = ["--protocol", self.protocol.name]
        return {
            "analysis": _read_json(self.out / "analysis.json"),
            "tuning": _read_json(self.directory / "tune" / "tune.json"),
            "surface": _read_csv(self.directory / "tune" / "surface.csv"),
            "history": _read_csv(self.directory / "history.csv"),
            "config": _read_text(self.config_file),
            "decoding": _read_text(self.out / "decoding.yaml"),
            **_program(),
            "command": shlex.join(
                ["asrkit", "report", str(self.directory), "--data", str(self.data_dir), "--audio", audio, *protocol]
            ),
            "systems": [self.steps(symbols)],
        }

    def steps(self, symbols: Symbols) -> dict[str, Any]:
        """The tokens of the network, the seconds from one step to the next, and the middle of the first step."""
        tokens, clock = self.directory / "tokens.txt", self.clock
        return {
            "tokens": symbols.string(TokenTable.read(tokens).symbols) if tokens.exists() else "",
            "step": clock and clock.step,
            "first": clock and clock.start + clock.shift * (clock.middle + 0.5),
        }

    def add_audio(self, page: Page, audible: Sequence[tuple[int, str]], sources: Sources) -> dict[str, str]:
        """Add the audio of these utterances, by number and id, to a page. Returns the faults of the others, by id."""
        missing = {}
        for (number, utt), content in zip(audible, self._encode(audible, sources), strict=True):
            if isinstance(content, bytes):
                page.add_audio(f"a{number}", content)
            else:
                missing[utt] = content
        return missing

    def _encode(self, audible: Sequence[tuple[int, str]], sources: Sources) -> Iterator[bytes | str]:
        """Encode each of these utterances as Ogg Opus, or return a line that says why that failed."""
        if not audible:
            return
        utts = [utt for _, utt in audible]
        try:
            table = AudioTable(self.data_dir, CODECS["opus"].sample_rate, self.options.access)
        except DataError as error:
            yield from [str(error).split("\n")[0]] * len(utts)
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

        yield from map_in_threads(encode, utts, len(os.sched_getaffinity(0)))


def choose_audible(
    utts: Sequence[str], first: Sequence[tuple[int, str]], others: Sequence[tuple[int, str]], number: int | None
) -> Sequence[tuple[int, str]]:
    """Choose utterances, by number and id, for audio. Half of them are from `first`. None chooses all."""
    if number is None or number >= len(utts):
        return list(enumerate(utts))
    num_first = min(number // 2, len(first))
    return [*first[:num_first], *others[: number - num_first]]


def _layout(symbols: Symbols, num_utts: int, is_beside: bool) -> dict[str, Any]:
    """The layout of parts and characters, for the program that reads them."""
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
    """Results that another step wrote; None without them."""
    if not path.exists():
        return None
    try:
        return read_json(path)
    except ValueError as error:
        raise DataError(f"{location(path)}not JSON ({error}); remove it, or make it again") from None


def _read_csv(path: Path) -> dict[str, list[float | None]] | None:
    """The columns of a table of numbers, with None for a cell that is not a number; None if there is no table."""
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


def _program() -> dict[str, Any]:
    return {"version": asrkit.__version__, "commit": _commit()}


def _commit() -> str | None:
    """The commit of asrkit, with a mark if files have changed since. None outside its repository."""
    root = Path(asrkit.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
