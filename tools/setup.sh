#!/usr/bin/env bash
# Makes .venv with asrkit and the packages of requirements.txt, or brings it up to date; --bench does the same for
# .venv-bench, the benchmarks' environment. Packages must have the listed hashes, whichever index serves them. If
# nothing has changed, this is quick. An interrupted set-up starts again from the beginning.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/tools/signals.sh"
end_children_with_me
venv=$root/.venv
requirements=$root/requirements.txt
source=
torch_index=

fail() {
  printf 'tools/setup.sh: error: %s\n' "$2" >&2
  exit "$1"
}

while [ $# -gt 0 ]; do
  case $1 in
    --torch-index=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --torch-index)
      [ -n "${2:-}" ] || fail 2 "--torch-index needs the URL of a package index"
      torch_index=$2
      shift 2
      ;;
    --bench)
      venv=$root/.venv-bench
      requirements=$root/requirements-bench.txt
      source=$root/requirements-source.txt
      shift
      ;;
    -h | --help)
      cat <<'EOF'
Usage: tools/setup.sh [--bench] [--torch-index URL]
Makes .venv, or brings it up to date, with asrkit and the packages of requirements.txt.
  --bench            make .venv-bench, where the benchmarks run beside other toolkits (some GB)
  --torch-index URL  take torch from this package index, for a particular CPU or CUDA build; its hash is not checked
EOF
      exit 0
      ;;
    *) fail 2 "unknown option '$1'; see tools/setup.sh --help" ;;
  esac
done

marker=$venv/asrkit-setup

# The tests of pages need playwright and a Chromium (tests/browser.py knows the same names).
chromium=
if [ -z "$source" ]; then
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then chromium=$name; fi
  done
fi

# Two recipes that are started together share one set-up.
if command -v flock >/dev/null; then
  exec 9<"${BASH_SOURCE[0]}"
  flock 9
fi

# The marker is written last. It is a digest of all that .venv was made from. The root is part of it, because a moved
# .venv does not work. The sources of the C extension are part of it, because the extension must then be built again.
digest() { cksum | tr ' ' -; }
packages=$({
  printf '%s\n' "$root" ${chromium:+chromium}
  cat "$requirements" ${source:+"$source"} "$root/requirements-cuda.txt" "$root/setup.cfg" "$root/setup.py" "$root"/asrkit/_native/*.[ch]
} | digest)
index=$(printf '%s' "$torch_index" | digest)
made_packages='' made_index=''
if [ -f "$marker" ]; then read -r made_packages made_index <"$marker" || true; fi
if [ "$made_packages" = "$packages" ] && { [ -z "$torch_index" ] || [ "$made_index" = "$index" ]; }; then
  exit 0
fi

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=
for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
  if is_recent "$candidate"; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail 1 "Python 3.11 or later is needed, and PATH has $(python3 --version 2>/dev/null || echo none); \
install it (on Debian or Ubuntu: apt install python3 python3-venv) or add it to PATH"
if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  without_pip=
elif "$python" -c 'import venv, pip' 2>/dev/null; then
  without_pip=--without-pip
else
  fail 1 "$python has no pip; install it (on Debian or Ubuntu: apt install python3-venv python3-pip)"
fi

echo "tools/setup.sh: installing asrkit and its packages into $venv; this takes a minute or more" >&2
if [ "$made_packages" = unfinished ] || ! is_recent "$venv/bin/python"; then
  rm -rf "$venv"
  mkdir "$venv"
  echo unfinished >"$marker"
  "$python" -m venv ${without_pip:+"$without_pip"} "$venv"
fi
echo unfinished >"$marker"

# The environment's own pip came with Python. If it has none, use the pip outside: none is downloaded unchecked.
pip=("$venv/bin/python" -m pip)
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then pip=("$python" -m pip --python "$venv/bin/python"); fi
options=(-qq --disable-pip-version-check --no-input)

install() {
  run_child "${pip[@]}" install "${options[@]}" "$@" ||
    fail 1 "pip could not install the packages (its message stands above); check the network and run this again"
}
install_listed() { install --no-deps --require-hashes "${@:2}" -r "$1"; }

# Print the packages whose line matches the regular expression, with their hashes and without conditions.
list_of() {
  local line found=
  while read -r line; do
    if [[ $line =~ $1 || $found == *\\$'\n' ]]; then found+=${line/ ; extra == \"browser\"/}$'\n'; fi
  done <"$requirements"
  printf '%s' "$found"
}

# torch, with its hashes, is installed separately.
listed=$(list_of '^torch==')
torch=${listed%% *}
if [ -n "$torch_index" ]; then
  printf 'tools/setup.sh: %s and what it needs come from %s; their hashes are not checked\n' "$torch" "$torch_index" >&2
  install --force-reinstall --no-deps --index-url "$torch_index" "$torch"
elif ! "$venv/bin/python" -c 'import sys; from importlib.metadata import version
sys.exit("torch==" + version("torch").split("+")[0] != sys.argv[1])' "$torch" 2>/dev/null; then
  # If hashes are required, pip takes only a build whose hash its index gives. So torch is downloaded first. Then pip
  # takes the build that its configuration prefers, such as a CPU build in a directory of wheels. The hash is checked after.
  printf '%s\n' "$listed" >"$venv/torch.txt"
  run_child "${pip[@]}" download "${options[@]}" --no-deps --only-binary :all: -d "$venv/wheels" "$torch" ||
    fail 1 "pip could not get the packages (its message stands above); check the network and run this again"
  install --no-deps --require-hashes --no-index --find-links "$venv/wheels" -r "$venv/torch.txt"
  rm -rf "$venv/wheels" "$venv/torch.txt"
fi
install_listed "$requirements" --only-binary :all:
if [ -n "$chromium" ]; then
  list_of 'extra == "browser"' >"$venv/browser.txt"
  run_child "${pip[@]}" install "${options[@]}" --no-deps --require-hashes --only-binary :all: -r "$venv/browser.txt" ||
    echo "tools/setup.sh: playwright is not installed (pip's message stands above); the tests of pages are skipped" >&2
  rm "$venv/browser.txt"
fi
# CUDA builds of torch need more packages.
if ! "$venv/bin/python" -c 'import sys
from importlib.metadata import PackageNotFoundError, requires, version
from packaging.requirements import Requirement
for requirement in map(Requirement, requires("torch") or ()):
    try:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version(requirement.name)
    except PackageNotFoundError:
        sys.exit(1)'; then
  if [ -n "$torch_index" ]; then install "$torch"; else install_listed "$root/requirements-cuda.txt" --only-binary :all:; fi
fi
# Packages that build other packages are checked, too.
if [ -n "$source" ]; then PATH=$venv/bin:$PATH install_listed "$source" --no-build-isolation; fi
# An old environment may still have asrkit under its earlier name, perhaps from another directory.
run_child "${pip[@]}" uninstall "${options[@]}" --yes asrkit
install --no-deps --no-build-isolation -e "$root"
# If the extension could not be built, this prints one line.
"$venv/bin/python" -c 'import asrkit._native as native; [native.kernel(name) for name in native.KERNELS]' || true
echo "$packages $index" >"$marker"
