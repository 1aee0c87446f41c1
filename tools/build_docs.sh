#!/usr/bin/env bash
# Makes the documentation's site from the pages and the docstrings. Each warning is an error.
#     tools/build_docs.sh [DIR]      default: build/docs
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-build/docs}
.venv/bin/python -m sphinx --builder html --conf-dir docs --fail-on-warning --keep-going --quiet . "$out"
echo '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">' >"$out/index.html"
echo "open $out/index.html"
