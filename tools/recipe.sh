# shellcheck shell=bash disable=SC2034 # run.sh, stages.sh and this file share their variables
# Every recipe's run.sh reads this file first. It has the paths, the options, the set-up of .venv, and stage().
# run.sh sets $config. It also sets $corpus, or $corpus_source, which describes what --corpus must be. Then it calls
# `recipe_options "$@"` and lists its stages. The bodies of stages are functions, of stages.sh or of run.sh.
# $corpus_options names the options that only this recipe has, for stage 0: lines of `name VALUE help`, where the VALUE -
# means that the option takes none. "${prepare_options[@]}" holds those that were given. $old_options has lines of
# `old new` for options with earlier names. "${extract_options[@]}" holds the options of stage 1, "${settings[@]}" those
# of --set. Stages after $stop_stage, up to $last_stage, run only if --stage or --stop-stage names them. A recipe that
# makes models which come with asrkit lists them in $released as NAME=CONFIGURATION.

recipe=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/tools/signals.sh"
. "$root/tools/stages.sh"
. "$root/tools/findings.sh"
end_children_with_me

. "$root/tools/cmd.sh"
[ ! -f "$recipe/cmd.sh" ] || . "$recipe/cmd.sh"
[ -z "$executor" ] || export ASRKIT_EXECUTOR="$executor"

# Run a verb with this recipe's options --verbose and --quiet. They follow the name, or names, of the verb.
asrkit() {
  local num_names=1
  [ "$1" != prepare ] || num_names=2
  run_child "$root/.venv/bin/asrkit" "${@:1:num_names}" ${telling[@]+"${telling[@]}"} "${@:num_names+1}"
}

# Run a verb as $train_cmd starts it. Each process uses as many threads as the settings say.
with_train_cmd() {
  if [ -z "$train_cmd" ]; then
    asrkit "$@"
  else
    # shellcheck disable=SC2086 # words and options
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PATH=$root/.venv/bin:$PATH run_child $train_cmd -m asrkit \
      "$1" ${telling[@]+"${telling[@]}"} "${@:2}"
  fi
}

corpus=
data=$recipe/data
nj=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) # jobs are processes of this machine, one per core
first_stage=0
stop_stage=6
last_stage=6
dir=
force=
verify=
no_archives=
torch_index=
only_help=
corpus_options=
old_options=
protocol=
phone_times=
prepare_options=()
channel=
audio_root=
extract_options=()
settings=()
telling=() # how much the verbs say
released=
models=$root/asrkit/pretrained

usage_error() {
  printf '%s: error: %s\n' "$0" "$1" >&2
  exit 2
}

# Read the command line into the variables that the stages use. Then make .venv, if needed. A relative path stays
# relative to the caller's directory, because nothing here changes the directory.
recipe_options() {
  local default_stop=$stop_stage stop_given="" option
  old_options="data data-root
dir exp
$old_options"
  while [ $# -gt 0 ]; do
    in_new_spelling "$1"
    set -- "$option" "${@:2}"
    case $1 in
      -h | --help)
        only_help=yes
        shift
        continue
        ;;
      --force)
        force=yes
        shift
        continue
        ;;
      --allow-pipes)
        extract_options+=(--allow-pipes)
        shift
        continue
        ;;
      --no-archives)
        no_archives=yes
        shift
        continue
        ;;
      --verify)
        verify=yes
        shift
        continue
        ;;
      --verbose | --quiet)
        telling+=("$1")
        shift
        continue
        ;;
      --*=*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
      --stage | --stop-stage | --nj | --corpus | --data-root | --config | --set | --exp | --torch-index) ;;
      --channel | --audio-root | --device) ;;
      --models) [ -n "$released" ] || usage_error "unknown option '$1'; see $0 --help" ;;
      --[a-z]*)
        if [[ $'\n'$corpus_options == *$'\n'"${1#--} - "* ]]; then
          prepare_options+=("$1")
          shift
          continue
        fi
        [[ $'\n'$corpus_options == *$'\n'"${1#--} "* ]] || usage_error "unknown option '$1'; see $0 --help"
        ;;
      *) usage_error "unknown option '$1'; see $0 --help" ;;
    esac
    [ -n "${2:-}" ] || usage_error "$1 needs a value; see $0 --help"
    case $1 in
      --set) settings+=("$1" "$2") ;;
      --stage | --stop-stage)
        if ! [[ $2 =~ ^[0-9]{1,3}$ ]] || ((10#$2 > last_stage)); then
          usage_error "$1: expected a stage, 0 to $last_stage, found '$2'"
        fi
        if [ "$1" = --stage ]; then first_stage=$((10#$2)); else stop_stage=$((10#$2)) stop_given=yes; fi
        ;;
      --nj)
        [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || usage_error "--nj: expected a number of jobs, 1 or more, found '$2'"
        nj=$2
        ;;
      --corpus) corpus=$2 ;;
      --data-root) data=$2 ;;
      --config) config=$2 ;;
      --exp) dir=$2 ;;
      --torch-index) torch_index=$2 ;;
      --device) device=$2 ;;
      --models) models=$2 ;;
      --channel)
        [[ $2 =~ ^(mix|[0-9]{1,3})$ ]] || usage_error "--channel: expected mix or a channel number from 0, found '$2'"
        channel=$2
        extract_options+=("$1" "$2")
        ;;
      --audio-root)
        audio_root=$2
        extract_options+=("$1" "$2")
        ;;
      *) prepare_options+=("$1" "$2") ;;
    esac
    shift 2
  done
  local name=${config##*/}
  dir=${dir:-$recipe/exp/${name%.*}}
  if [ -n "$only_help" ]; then
    recipe_help "$default_stop"
    return
  fi
  [ -n "$stop_given" ] || ((first_stage <= stop_stage)) || stop_stage=$first_stage
  ((first_stage <= stop_stage)) || usage_error "--stage $first_stage comes after --stop-stage $stop_stage"
  ((first_stage > 0)) || [ -n "$corpus" ] ||
    usage_error "--corpus DIR is needed by stage 0: ${corpus_source:?}"
  [ -f "$config" ] || usage_error "--config: no file '$config'"
  run_child "$root/tools/setup.sh" ${torch_index:+--torch-index "$torch_index"}
}

# Put the option $1 into $option. Replace a name of $old_options by the new one, and print a note.
in_new_spelling() {
  local old new
  option=$1
  while read -r old new; do
    if [ -n "$old" ] && [[ $1 == "--$old" || $1 == "--$old="* ]]; then
      printf '%s: note: --%s is now called --%s\n' "$0" "$old" "$new" >&2
      option=--$new${1#"--$old"}
    fi
  done <<<"$old_options"
}

# Print the options. The calls of stage() that follow print the stages.
recipe_help() {
  cat <<EOF
Usage: $0 [options]

Options:
  --stage N          first stage to run (default: 0)
  --stop-stage N     last stage to run (default: $1)
  --nj N             number of parallel jobs (default: $nj)
  --corpus DIR       the corpus (default: ${corpus:-none; stage 0 needs it: $corpus_source})
  --data-root DIR    directory of the data directories train, dev and test (default: $data)
  --config FILE      features, model, training and decoding (default: $config)
  --set SECTION.SETTING=VALUE
                     one setting, such as training.seed=2, before that of --config; repeat the option for more
  --exp EXP          the experiment's directory (default: $dir)
  --device NAME      where networks are trained and run: cpu, cuda or cuda:N (default: ${device:-cpu})
  --channel mix|N    of audio with several channels: average them, or take channel N (from 0)
  --allow-pipes      run the shell commands that wav.scp holds (only for data whose origin you trust)
  --audio-root DIR   where relative paths in wav.scp start (default: the current directory)
  --no-archives      stage 1: store no features, compute them from the audio whenever they are read
  --verify           stage 1: read all audio, also where nothing seems to have changed
  --force            redo stages that are up to date
  --verbose          print all faults of a long list, and the time and memory that each step used
  --quiet            print no progress, only results, warnings and errors
${released:+  --models DIR       where stage $last_stage writes the models (default: $models)
}  --torch-index URL  package index to take torch from when .venv is made, for a particular build
  --help             print this and stop
EOF
  local name value what
  while read -r name value what; do
    [ "$value" != - ] || value=
    [ -z "$name" ] || printf '  %-18s %s\n' "--$name $value" "$what"
  done <<<"$corpus_options"
  printf '\nStages:\n'
}

# Print a heading, unless --quiet is given.
announce() { [[ " ${telling[*]-} " == *" --quiet "* ]] || printf '%s\n' "$1"; }

# stage NUMBER DESCRIPTION COMMAND: if this stage is to run, print its heading and run the command.
stage() {
  if [ -n "$only_help" ]; then
    printf '  %d  %s\n' "$1" "$2"
  elif (($1 >= first_stage && $1 <= stop_stage)); then
    announce "== stage $1: $2 =="
    "${@:3}"
  fi
}

# Put an audio file of the data directory $1 into $audio: the first with only one utterance, or else the first. False if
# there are only pipes, because `asrkit transcribe` does not run them.
first_audio() {
  local rec entry whole=
  [ -s "$1/wav.scp" ] || {
    printf '%s: error: %s/wav.scp: not found; made by stage 0 (asrkit prepare)\n' "$0" "$1" >&2
    exit 1
  }
  audio=
  if [ -s "$1/segments" ]; then
    whole=$'\n'$(awk '{ num[$2] += 1 + ($3 > 0) } END { for (rec in num) if (num[rec] == 1) print rec }' <"$1/segments")
    whole+=$'\n'
  fi
  while read -r rec entry || [ -n "$rec" ]; do
    [[ $entry != *"|" && $entry != "|"* ]] || continue
    [ -z "$audio_root" ] || [[ $entry == /* ]] || entry=$audio_root/$entry
    if [ -z "$whole" ] || [[ $whole == *$'\n'"$rec"$'\n'* ]]; then
      audio=$entry
      return
    fi
    audio=${audio:-$entry}
  done <"$1/wav.scp"
  if [ -z "$audio" ]; then
    printf 'left out: every entry of %s/wav.scp is a pipe, and asrkit transcribe reads files\n' "$1" >&2
    return 1
  fi
  printf '%s/segments: every utterance is a part of a file; the whole of the first file follows\n' "$1" >&2
}
