#!/usr/bin/env bash
# Sets up .venv, lints shell and Python, checks types and runs the tests; then those of the kernels once more without
# kernels and with sanitizers. Two cores need up to 25 minutes.
#     tools/run_tests.sh --quick      lint, and the tests that are not marked `slow`, once: up to 4 minutes
#     tools/run_tests.sh tests/unit   lint, and what the arguments, which go to pytest, choose, once
# Tests are marked `slow` if they run whole recipes or benchmarks, or take seconds: trainings for a special case,
# simulations of statistics, measurements of memory. The others still compare every kernel with its reference, and
# train, decode, align and transcribe from end to end.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh
unset PYTHONDONTWRITEBYTECODE # else each of some hundred processes would compile all modules

if [ "${1:-}" = --quick ]; then set -- -m "not slow" "${@:2}"; fi

echo "== lint =="
shell_files=(.ci/run)
while IFS= read -r file; do shell_files+=("$file"); done < <(find tools recipes -name '*.sh')
.venv/bin/python -m ruff check --quiet .
.venv/bin/python -m ruff format --check --quiet .
# The slow ones are on one core for up to a minute, so the tests do not wait for them.
lint=$(mktemp)
(.venv/bin/shellcheck "${shell_files[@]}" && exec .venv/bin/python -m mypy --no-error-summary) >"$lint" 2>&1 &
lint_process=$!
trap 'kill "$lint_process" 2>/dev/null || true; rm -f "$lint"' EXIT

echo "== tests =="
status=0
.venv/bin/python -m pytest -q -n 2 --dist loadfile -rs "$@" || status=$? # a file's tests share what they have trained
echo "== shell and types =="
wait "$lint_process" || { status=1; cat "$lint"; }
if [ $# -gt 0 ] || [ "$status" -gt 0 ]; then exit "$status"; fi

kernel_tests=(tests/unit/{native,decoding,features} tests/unit/inference/test_model_files.py tests/property)
echo "== the kernels' tests on the NumPy fallback =="
ASRKIT_NO_NATIVE=1 .venv/bin/python -m pytest -q -n 2 "${kernel_tests[@]}"

echo "== the kernels' tests with sanitizers =="
if [ -e "$("${CC:-gcc}" -print-file-name=libasan.so 2>/dev/null)" ]; then
  tools/sanitize.sh "${kernel_tests[@]}"
else
  echo "skipped: ${CC:-gcc} has no AddressSanitizer"
fi
