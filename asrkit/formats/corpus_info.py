"""corpus.json, a file beside the token table: it describes the corpus of the data directories."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from asrkit.config.plain_values import from_plain
from asrkit.errors import ConfigError, DataError, location
from asrkit.io.json_text import read_json, write_json
from asrkit.types import CorpusInfo

CORPUS_INFO = "corpus.json"


def read_corpus_info(directory: str | Path) -> CorpusInfo | None:
    """Read corpus.json in a directory; None if there is no such file. Raises DataError if its content is faulty."""
    path = Path(directory) / CORPUS_INFO
    try:
        return from_plain(CorpusInfo, read_json(path), "corpus")
    except FileNotFoundError:
        return None
    except (ValueError, ConfigError) as error:
        fault = str(error).split("\n")[0]
        raise DataError(f"{location(path)}{fault}; make it again with stage 0 (asrkit prepare), or remove it") from None


def write_corpus_info(directory: str | Path, info: CorpusInfo | None) -> None:
    """Write corpus.json in a directory, or remove it if `info` is None. Raises OSError if this is not possible."""
    path = Path(directory) / CORPUS_INFO
    if info is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, asdict(info))
