"""References of a data directory with hypotheses, which are scored piece by piece, so that a set can be large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from asrkit.errors import location, raise_if_any
from asrkit.findings import Findings
from asrkit.io.scp import read_table, split_fields
from asrkit.io.tables import LazyTable
from asrkit.lang.symbols import symbol_warnings
from asrkit.parallel import map_ordered
from asrkit.scoring.per import PerResult
from asrkit.scoring.protocols import Protocol

UTTS_AT_A_TIME = 500
_PARTS_AT_A_TIME = 20  # that a process scores: about a second of work, as long as it takes to start one
_Part = tuple[dict[str, str], list[str], dict[str, list[str]]]  # references, speakers, hypotheses of each system


class ScoredData:
    """The utterances to score. Only some tens of bytes per utterance are kept in memory.

    Attributes:
        protocol: how errors are counted.
        spk2gender: speaker -> sex, if the data directory has it.
        warnings: a line for each pair of symbols that look alike but differ.
    """

    def __init__(self, data_dir: Path, hyps: Mapping[str, Path], protocol: Protocol) -> None:
        """Open references and hypotheses. `hyps`: name of a system -> file of its hypotheses.

        Raises:
            DataError: files are missing or faulty, or have different utterances; a speaker or a transcript is missing;
                or the protocol does not know a symbol, or leaves no reference phone to score.
        """
        self.protocol, self._text = protocol, data_dir / "text"
        symbols: dict[str, set[str]] = {}
        self._refs = self._read(self._text, symbols, empty_ok=False)
        self._hyp_paths = hyps
        self._hyps = {name: self._read(path, symbols, empty_ok=True) for name, path in hyps.items()}
        self._utt2spk = LazyTable(data_dir / "utt2spk")
        gender = data_dir / "spk2gender"
        self.spk2gender = read_table(gender) if gender.exists() else {}
        self._check_utterances()
        transcripts = {name: {"": sorted(of_file)} for name, of_file in symbols.items()}  # one with all symbols
        protocol.check_symbols(transcripts)
        protocol.check_references(transcripts[str(self._text)], str(self._text))
        self.warnings = symbol_warnings(symbols)

    def __len__(self) -> int:
        return len(self._refs)

    @property
    def utt_ids(self) -> Sequence[str]:
        """All utterances, in the order of the references."""
        return self._refs.keys_by_row

    @property
    def num_parts(self) -> int:
        """The number of parts that `parts` yields."""
        return -(-len(self) // UTTS_AT_A_TIME)

    def number(self, utt: str) -> int:
        """The number of an utterance, in the order of the references."""
        return self._refs.keys_by_row.row(utt)

    def parts(self, num_jobs: int = 1) -> Iterator[tuple[Mapping[str, str], Mapping[str, PerResult]]]:
        """Yield the utterances in parts: utterance id -> speaker, and the result of each system.

        `num_jobs` processes score a large set together. The order and the results do not depend on them.
        """
        score, parts = _ScorePart(self.protocol), _Parts(self)
        yield from map_ordered(score, parts, num_jobs, description=None, chunk_size=_PARTS_AT_A_TIME)

    def rows(self) -> Iterator[_Part]:
        """The lines of the tables, in parts."""
        refs, speakers = self._refs.rows(), self._utt2spk.follow(self._refs)
        hyps = {name: table.follow(self._refs) for name, table in self._hyps.items()}
        while rows := dict(islice(refs, UTTS_AT_A_TIME)):
            of_systems = {name: [*islice(of_system, len(rows))] for name, of_system in hyps.items()}
            yield rows, [*islice(speakers, len(rows))], of_systems

    def _read(self, path: Path, symbols: dict[str, set[str]], *, empty_ok: bool) -> LazyTable:
        """Read a table of transcripts. Its symbols are added to `symbols`."""
        findings, of_file = Findings(), symbols.setdefault(str(path), set())

        def look(line: int, key: str, value: str) -> None:
            of_file.update(split_fields(value))
            if not value and not empty_ok:
                findings.error(f"{key}: empty transcript; give its phones or remove it", path, line)

        table = LazyTable(path, empty_ok=True, look=look)
        findings.raise_errors()
        return table

    def _check_utterances(self) -> None:
        """Raise DataError for utterances that are in one table but not in another."""
        faults = []
        for path, table in zip(self._hyp_paths.values(), self._hyps.values(), strict=True):
            if table.keys_by_row != self._refs.keys_by_row:
                faults += [
                    f"{path}: utterance {utt} of {self._text} is missing; decode it"
                    for utt in self._refs
                    if utt not in table
                ]
                faults += [
                    f"{self._text}: utterance {utt} of {path} is missing" for utt in table if utt not in self._refs
                ]
        if self._utt2spk.keys_by_row != self._refs.keys_by_row:
            faults += [
                f"{location(self._utt2spk.path)}utterance {utt} of {self._text} has no speaker"
                for utt in self._refs
                if utt not in self._utt2spk
            ]
        raise_if_any(faults)


class _Parts:
    """The parts of a set of utterances, whose number is known."""

    def __init__(self, data: ScoredData) -> None:
        self._data = data

    def __iter__(self) -> Iterator[_Part]:
        return self._data.rows()

    def __len__(self) -> int:
        return self._data.num_parts


@dataclass(frozen=True)
class _ScorePart:
    """Scores a part; it can be sent to another process."""

    protocol: Protocol

    def __call__(self, part: _Part) -> tuple[Mapping[str, str], Mapping[str, PerResult]]:
        rows, speakers, of_systems = part
        refs = {utt: split_fields(row) for utt, row in rows.items()}
        results = {}
        for name, hyps in of_systems.items():
            hyps_of = {utt: split_fields(row) for utt, row in zip(rows, hyps, strict=True)}
            results[name] = self.protocol.score_part(refs, hyps_of)
        return dict(zip(rows, speakers, strict=True)), results
