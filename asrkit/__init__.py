"""asrkit: phoneme recognition with recurrent networks and CTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asrkit.inference.recognizer import Recognizer, load_recognizer

__version__ = "0.1.0"
__all__ = ["Recognizer", "__version__", "load_recognizer"]


def __getattr__(name: str) -> Any:
    """Load what recognises only when it is asked for, so that `import asrkit` takes no time."""
    if name not in ("Recognizer", "load_recognizer"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from asrkit.inference import recognizer

    return getattr(recognizer, name)
