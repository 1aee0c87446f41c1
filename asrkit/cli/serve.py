"""`asrkit serve`: a web page and an HTTP API on this machine that recognise and align recordings and speech."""

from __future__ import annotations

import argparse
import os
import secrets
from dataclasses import replace
from urllib.parse import quote

from asrkit.cli.options import add, add_device, tell_doubt
from asrkit.errors import ConfigError
from asrkit.extras import EXTRAS, expect_packages
from asrkit.inference.find_model import ENGLISH, ENGLISH_STREAMING

_PORT = 8763
_TOKEN = "ASRKIT_TOKEN"
_SHORTEST_TOKEN = 16


DESCRIPTION = (
    "Open a web page and an HTTP API on this machine. "
    "Both recognise and align recordings, and the page recognises speech from the microphone."
)
EXAMPLES = (
    "asrkit serve",
    "asrkit serve --model mini --model english --port 8000",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(
        parser,
        "--model",
        "Repeat the option for models to choose from",
        action="append",
        dest="models",
        shown=f"{ENGLISH} and {ENGLISH_STREAMING}",
    )
    add(
        parser,
        "--host",
        f"Any other than the default asks visitors for a token: that of ${_TOKEN}, or a new one that is printed",
        default="127.0.0.1",
        shown="127.0.0.1, this machine only",
    )
    add(parser, "--port", default=_PORT)
    add(parser, "--nj", "So many recordings are recognised at a time", shown="one per core")
    add_device(parser)
    add(parser, "--max-megabytes", default=200)
    add(parser, "--max-minutes", default=60)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit serve` with parsed arguments, until it is interrupted. Returns the exit status: 0.

    Raises ConfigError if the token in the environment is too short.
    """
    expect_packages(EXTRAS["web"])

    from asrkit.serve.guard import Access, is_loopback  # take some tenths of a second
    from asrkit.serve.server import listen, make_server
    from asrkit.serve.service import Limits, Service, load_models

    token = os.environ.get(_TOKEN)
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise ConfigError(f"${_TOKEN}: {len(token)} characters; expected {_SHORTEST_TOKEN} or more, hard to guess")
    if token is None and not is_loopback(args.host):
        token = secrets.token_urlsafe()
    limits = replace(Limits(), max_bytes=args.max_megabytes * 10**6, audio_seconds=60.0 * args.max_minutes)
    with listen(args.host, args.port) as listening:
        models = load_models(args.models or [ENGLISH, ENGLISH_STREAMING], args.device)
        for model in models:
            tell_doubt("serve", model.name, model.model)
        service = Service(models, limits, args.nj)
        host = f"[{args.host}]" if ":" in args.host else args.host
        page = f"http://{host}:{listening.getsockname()[1]}/{f'#token={quote(token)}' if token else ''}"
        print(f"{page}\nCtrl-C ends", flush=True)
        make_server(service, Access(args.host, token)).run(sockets=[listening])
    return 0
