#!/usr/bin/env bash
# Builds the C extension with AddressSanitizer and UndefinedBehaviorSanitizer in a temporary copy and runs the
# kernels' tests on it, once for each build of their loops. Arguments replace the tests; `-m MODULE ...` runs a module.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
compiler=${CC:-gcc}
libraries=()
# The C++ library comes first: its `new` raises an exception that programs catch where AddressSanitizer's ends them.
for library in libstdc++.so libasan.so; do
  path=$("$compiler" -print-file-name="$library" 2>/dev/null) || path=
  if [ ! -e "$path" ]; then
    echo "tools/sanitize.sh: error: $compiler has no $library; install gcc's sanitizers and C++ library" >&2
    exit 1
  fi
  libraries+=("$path")
done
[ $# -gt 0 ] || set -- tests/unit/{native,decoding,features} tests/unit/inference/test_model_files.py tests/property
[ "$1" = -m ] || set -- -m pytest -q -n 2 -p no:cacheprovider --capture=sys "$@" # reports are not swallowed

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cp -r asrkit setup.py "$temporary"
cd "$temporary"
find . -name '*.so' -delete
sanitizers=-fsanitize=address,undefined
CC=$compiler CFLAGS="$sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer -g" LDFLAGS=$sanitizers \
  "$root/.venv/bin/python" setup.py -q build_ext --inplace
cd "$root"

# Python keeps memory until it ends: that is no leak of the kernels. Safe paths: the copy goes before this directory.
export PYTHONSAFEPATH=1 PYTHONPATH=$temporary:$root UBSAN_OPTIONS=print_stacktrace=1
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:verify_asan_link_order=0
for refused in 0 1; do
  export ASRKIT_NO_AVX2=$refused
  LD_PRELOAD="${libraries[*]}" .venv/bin/python - "$temporary" <<'END'
import sys

import asrkit._native as native

for name in native.KERNELS:
    module = native.kernel(name)
    if module is None or not module.__file__.startswith(sys.argv[1]):
        sys.exit(f"tools/sanitize.sh: error: {name} was not built with sanitizers")
    print(f"== sanitizers: {name}, {getattr(module, 'BUILD', 'the only')} build ==")
END
  LD_PRELOAD="${libraries[*]}" .venv/bin/python "$@"
done
