"""Text files as people and their programs write them: in UTF-8 or UTF-16, with the line ends of any system."""

from __future__ import annotations

from pathlib import Path

from asrkit.findings import Findings


def read_text(path: str | Path, findings: Findings) -> str | None:
    """A text in UTF-8 or UTF-16, with "\\n" for every line end and without byte-order mark; None after an error."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror})", path)
        return None
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in raw[:2]:
        encoding = "utf-16-be" if raw[0] == 0 else "utf-16-le"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        findings.error(
            f"neither UTF-8 nor UTF-16 (byte 0x{raw[error.start]:02x}); save it as UTF-8, since any other encoding "
            "would give other phones",
            path,
            raw.count(b"\n", 0, error.start) + 1,
        )
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")
