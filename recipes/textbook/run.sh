#!/usr/bin/env bash
# The textbook's lessons: each leaves a table, its figures and the pictures that docs/textbook shows. A stage is a lesson.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/recipe.sh"

dir=$recipe/exp
data=$root/recipes/mini/data
model=$root/recipes/mini/exp/blstm_ctc
first_stage=1 stop_stage=8 last_stage=8
quick=
text=

help() {
  cat <<EOF
Usage: $0 [options]

Options:
  --stage N          first lesson to run (default: 1)
  --stop-stage N     last lesson to run (default: $last_stage)
  --out DIR          where the lessons' directories go (default: $dir)
  --data-root DIR    lessons 4 and 5: directory of a recipe's data directories (default: $data)
  --model MODEL      lessons 4 and 5: the recipe's experiment directory (default: $model)
  --quick            at a size of a minute a lesson or less
  --plain-text FILE  lesson 6: a text of your own to learn from
  --force            redo lessons that are up to date
  --verbose          print all faults of a long list, and the time and memory that each step used
  --quiet            print no progress, only results, warnings and errors
  --torch-index URL  package index to take torch from when .venv is made, for a particular build
  --help             print this and stop

Stages:
EOF
}

old_options="text plain-text
data data-root
dir out"
while [ $# -gt 0 ]; do
  in_new_spelling "$1"
  set -- "$option" "${@:2}"
  case $1 in
    -h | --help) only_help=yes ;;
    --quick) quick=yes ;;
    --force) force=yes ;;
    --verbose | --quiet) telling+=("$1") ;;
    --*=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}"
      continue
      ;;
    --stage | --stop-stage | --out | --data-root | --model | --plain-text | --torch-index)
      [ -n "${2:-}" ] || usage_error "$1 needs a value; see $0 --help"
      case $1 in
        --out) dir=$2 ;;
        --data-root) data=$2 ;;
        --model) model=$2 ;;
        --plain-text) text=$2 ;;
        --torch-index) torch_index=$2 ;;
        *)
          if ! [[ $2 =~ ^[0-9]{1,3}$ ]] || ((10#$2 < 1 || 10#$2 > last_stage)); then
            usage_error "$1: expected a lesson, 1 to $last_stage, found '$2'"
          fi
          if [ "$1" = --stage ]; then first_stage=$((10#$2)); else stop_stage=$((10#$2)); fi
          ;;
      esac
      shift
      ;;
    *) usage_error "unknown option '$1'; see $0 --help" ;;
  esac
  shift
done
((first_stage <= stop_stage)) || usage_error "--stage $first_stage comes after --stop-stage $stop_stage"
if [ -n "$only_help" ]; then help; else run_child "$root/tools/setup.sh" ${torch_index:+--torch-index "$torch_index"}; fi

# NAME, and further options of `asrkit lesson`.
lesson() {
  asrkit lesson "$1" --out "$dir/$1" ${quick:+--quick} ${force:+--force} "${@:2}"
}

# Run a command that looks at a recipe's data and model, if they are there.
on_speech() {
  local feats=$data/test/feats.scp
  [ -f "$feats" ] || feats=$data/test/speech.scp # of data without archives
  if [ -f "$feats" ] && [ -f "$model/final.pt" ]; then
    "$@"
  else
    printf 'left out: no features in %s or no model in %s; run recipes/mini/run.sh first\n' "$data/test" "$model"
  fi
}

# The lesson needs a network that reads forwards only: the recipe's own, but for that.
memory() {
  local forward=$dir/memory/unidirectional${quick:+-quick} epochs=8
  [ -z "$quick" ] || epochs=2
  asrkit train --config "$model/config.yaml" --set model.bidirectional=false --set training.num_epochs=$epochs \
    --train "$data/train" --dev "$data/dev" --tokens "$data/tokens.txt" --out "$forward" \
    ${device:+--device "$device"} --resume ${force:+--force}
  lesson memory --data "$data/test" --model "$model" --model "$forward"
}

stage 1 "Reber's grammar: what is kept in mind" lesson reber
stage 2 "gradients that vanish and gradients that explode" lesson gradients
stage 3 "back-propagation through time, cut short" lesson truncation
stage 4 "memory: what a network sees of the past and of the future" on_speech memory
stage 5 "from frames to phones" on_speech lesson phones --data "$data/test" --model "$model"
stage 6 "models of language, by character" lesson characters ${text:+--plain-text "$text"}
stage 7 "sequence to sequence, and series told ahead" lesson sequences
stage 8 "networks that remember" lesson hopfield
