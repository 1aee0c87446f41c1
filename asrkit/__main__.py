"""Where the command begins: `asrkit`, and `python -m asrkit`."""

import os
import sys


def main() -> int:
    """Run the command. Ctrl-C while it loads ends it like Ctrl-C later: with a line, and status 130."""
    try:
        from asrkit.cli.main import main as run
    except KeyboardInterrupt:
        print("asrkit: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    return run()


if __name__ == "__main__":
    sys.exit(main())
