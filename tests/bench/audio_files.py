"""What asrkit reads of whole, cut, joined and piped audio files: `python -m tests.bench.audio_files [--write]`.

Prints a table in Markdown. For each format it has the number of samples that are read of 4 seconds at 16 kHz, or the
error message. With --write the table replaces that in docs/transcribe.md, between the two lines that name this module.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from pathlib import Path

import soundfile

from asrkit.audio import open_audio, read_audio
from asrkit.errors import AudioError
from tests.audio_bytes import RATE, encode, mp3, speechlike, without_size

PAGE = Path(__file__).parents[2] / "docs/transcribe.md"
BEGIN, END = "<!-- made by tests.bench.audio_files -->\n", "<!-- end of tests.bench.audio_files -->\n"
NUM_SAMPLES = 4 * RATE


def make_files() -> dict[str, tuple[bytes, bytes]]:
    """For each format: the content of a file, and the same as a program writes it into a pipe."""
    samples = speechlike(NUM_SAMPLES)
    info, frames = mp3(samples, "VARIABLE")
    ogg, opus = encode(samples, "OGG", "VORBIS"), encode(samples, "OGG", "OPUS")
    sphere = encode(samples, "NIST", "PCM_16")
    files = {"SPHERE": (sphere, sphere), "Ogg Vorbis": (ogg, ogg), "Opus": (opus, opus)}
    files |= {"MP3, with the frame of the length": (info + frames,) * 2, "MP3, without it": (frames, frames)}
    plain = {}
    for container in ("WAV", "FLAC", "AIFF", "AU", "W64", "CAF"):
        content = encode(samples, container, "PCM_16")
        plain[container] = content, without_size(content, container)
    return plain | files


def read_file(content: bytes) -> str:
    """The number of samples that are read of a file with this content, or the error message."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "x")
        path.write_bytes(content)
        try:
            return str(len(read_audio(path).samples))
        except AudioError as error:
            return str(error).removeprefix(f"{path}: ")


def read_pipe(content: bytes) -> str:
    """The number of samples that are read of this content from a pipe, or the error message."""
    reader, writer = os.pipe()

    def send() -> None:
        with open(writer, "wb") as sink:
            sink.write(content)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with open(reader, "rb") as source, open_audio(source) as audio:
            return str(sum(map(len, audio.blocks())))
    except AudioError as error:
        return str(error)
    finally:
        thread.join()


def make_table() -> str:
    """The table in Markdown."""
    lines = [f"libsndfile {soundfile.__libsndfile_version__}:", ""]
    lines += ["| format | whole | first half | two, one after the other | from a pipe |", "|---|---|---|---|---|"]
    for name, (content, piped) in make_files().items():
        cells = [
            read_file(content),
            read_file(content[: len(content) // 2 + 1]),
            read_file(content * 2),
            read_pipe(piped),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parts_of_page() -> tuple[str, str, str]:
    """The page before the table, the table, and the page after it."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    return before + BEGIN, table, END + after


def main() -> None:
    """Print the table or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    table = make_table()
    if parser.parse_args().write:
        before, _, after = parts_of_page()
        PAGE.write_text(before + table + after, encoding="utf-8")
    else:
        print(table, end="")


if __name__ == "__main__":
    main()
