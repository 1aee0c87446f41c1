#!/usr/bin/env bash
# Checks training and decoding on a GPU: results are those of the CPU, a training resumes, and how long it takes.
#     tools/gpu_check.sh                 on a GPU, or on several
#     tools/gpu_check.sh --device cpu    the same on the CPU, where there is no GPU
# It needs Python 3.11 or later with PyTorch, NumPy and pytest. PYTHON names it; the default is python3. The kernels are
# built in a temporary copy, which needs setuptools and a C compiler; without these NumPy takes their place. The checks of
# torchaudio and onnxruntime are left out where these are not installed. It needs no network and takes at most 8 minutes.
set -euo pipefail

fail() {
  echo "tools/gpu_check.sh: error: $1" >&2
  exit "${2:-1}"
}

device=cuda
case "$#:${1:-}:${2:-}" in
0::) ;;
2:--device:cpu | 2:--device:cuda) device=$2 ;;
*) fail "found '$*'; expected nothing, --device cpu or --device cuda" 2 ;;
esac
python=${PYTHON:-python3}
case $python in
/*) ;;
*/*) python=$PWD/$python ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

"$python" - "$device" <<'END' || exit 1
import importlib
import sys

def fail(reason):
    sys.exit(f"tools/gpu_check.sh: error: {reason}")

if sys.version_info < (3, 11):
    fail(f"{sys.executable} is Python {sys.version.split()[0]}; set PYTHON to Python 3.11 or later")
for name in ("numpy", "torch", "pytest"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        fail(f"{sys.executable} cannot import {name} ({error}); install it, or set PYTHON to a Python that has it")
import torch

if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    fail(f"PyTorch {torch.__version__} finds no GPU; install a CUDA build and a driver, or give --device cpu")
END

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
mkdir "$temporary/tests"
cp -r asrkit setup.py "$temporary"
cp -r tests/gpu tests/bench "$temporary/tests"
cd "$temporary"
find . -name '*.so' -delete
export PYTHONPATH=$temporary${PYTHONPATH:+:$PYTHONPATH} ASRKIT_TEST_DEVICE=$device
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1

echo "== kernels =="
timeout 120 "$python" setup.py -q build_ext --inplace || echo "not built"
"$python" - <<'END'
from asrkit._native import KERNELS, kernel

print(f"{sum(kernel(name) is not None for name in KERNELS)} of {len(KERNELS)} kernels built")
END

echo "== checks on $device =="
checks=0
timeout $((360 - SECONDS)) "$python" -m pytest -q -rs -p no:cacheprovider --import-mode=importlib --rootdir="$temporary" tests/gpu ||
  checks=$?

echo "== time =="
size=()
if [ "$device" = cpu ]; then size=(--utts 16 --rounds 1); fi
bench=0
timeout $((470 - SECONDS)) "$python" -m tests.bench.gpu --device "$device" "${size[@]}" || bench=$?

echo "== summary =="
[ "$checks" -eq 0 ] || fail "$device: the checks ended with status $checks (124: out of time)"
[ "$bench" -eq 0 ] || fail "$device: the measurement of time ended with status $bench (124: out of time)"
echo "tools/gpu_check.sh: all checks passed on $device"
