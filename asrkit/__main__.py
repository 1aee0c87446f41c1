"""The entry point of the commands `asrkit` and `python -m asrkit`."""

import os
import sys


def main() -> int:
    """Run the command and return its exit status. Ctrl-C during loading, too, ends it with one line and status 130."""
    try:
        from asrkit.cli.main import main as run
    except KeyboardInterrupt:
        print("asrkit: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    return run()


if __name__ == "__main__":
    sys.exit(main())
