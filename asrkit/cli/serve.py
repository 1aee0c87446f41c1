"""`asrkit serve`: a page and an HTTP API on this machine, to recognise and align recordings and speech."""

from __future__ import annotations

import argparse
import os
import secrets
from dataclasses import replace
from urllib.parse import quote

from asrkit.cli.options import positive_int, tell_doubt
from asrkit.errors import ConfigError
from asrkit.extras import EXTRAS, expect_packages
from asrkit.inference.find_model import ENGLISH, ENGLISH_STREAMING
from asrkit.io.numbers import parse_whole

_PORT = 8763
_TOKEN = "ASRKIT_TOKEN"
_SHORTEST_TOKEN = 16


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        "--dir",
        action="append",
        dest="models",
        metavar="MODEL",
        help="experiment directory, a file that asrkit export wrote, or the name of a model (asrkit models); "
        f"as often as there are models to choose from (default: {ENGLISH} and {ENGLISH_STREAMING})",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help=f"name or address to listen at (default: %(default)s, this machine alone); others need a token, that of "
        f"${_TOKEN} or one that is made up and printed",
    )
    parser.add_argument("--port", type=_port, default=_PORT, help="port to listen at (default: %(default)s; 0: any)")
    parser.add_argument(
        "--nj", type=positive_int, metavar="N", help="recordings recognised at one time (default: one per core)"
    )
    parser.add_argument(
        "--max-megabytes", type=positive_int, default=200, metavar="N", help="largest upload (default: %(default)s)"
    )
    parser.add_argument(
        "--max-minutes", type=positive_int, default=60, metavar="N", help="longest recording (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
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
        models = load_models(args.models or [ENGLISH, ENGLISH_STREAMING])
        for model in models:
            tell_doubt("serve", model.name, model.model)
        service = Service(models, limits, args.nj)
        host = f"[{args.host}]" if ":" in args.host else args.host
        page = f"http://{host}:{listening.getsockname()[1]}/{f'#token={quote(token)}' if token else ''}"
        print(f"{page}\nCtrl-C ends", flush=True)
        make_server(service, Access(args.host, token)).run(sockets=[listening])
    return 0


def _port(text: str) -> int:
    value = parse_whole(text, high=2**16 - 1)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, found {text!r}")
    return value
