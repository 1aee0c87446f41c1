#!/usr/bin/env bash
# Read Persian (FarsDat, licensed): to a phone error rate, and on request the textbook's networks in a table.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$recipe/path.sh"
. "$recipe/cmd.sh"
. "$recipe/../../tools/recipe.sh"

corpus=
corpus_source="a copy of FarsDat (ELRA-S0112), the directory of CD1 and CD2"
data=$recipe/data
config=$recipe/conf/blstm_ctc.yaml
last_stage=7 # a plain run ends before it, for it trains four networks
corpus_options="split NAME  textbook-95-5 or textbook-80-20 (default: textbook-95-5)
by WHAT  split by speakers or by utterances (default: speakers)
speaker-lists DIR  split by train_spk.list, dev_spk.list and test_spk.list in DIR
sentences WHICH  of the speaker lists' dev and test: all or published (default: all)
seed N  what the split is drawn from (default: 1)"
recipe_options "$@"

# Stages 3 to 5 for the configuration $1 and the experiment directory $2.
train() {
  asrkit train --config "$1" --train "$data/train" --dev "$data/dev" --tokens "$data/tokens.txt" \
    --lm "$data/lm.arpa" --dir "$2" --resume ${force:+--force}
}

decode() {
  asrkit decode --dir "$1" --data "$data/dev" --out "$1/decode_dev" --nj "$nj" ${force:+--force}
  asrkit tune --dir "$1" --ref "$data/dev" --decode-dir "$1/decode_dev" --nj "$nj" ${force:+--force}
  asrkit decode --dir "$1" --data "$data/dev" --out "$1/decode_dev" --nj "$nj" # as tuned
  asrkit decode --dir "$1" --data "$data/test" --out "$1/decode_test" --nj "$nj" ${force:+--force}
}

report() {
  local set
  for set in dev test; do
    asrkit report --ref "$data/$set" --hyp "$1/decode_$set/hyp" --out "$1/decode_$set" ${force:+--force}
    asrkit analyse --dir "$1" --ref "$data/$set" --decode-dir "$1/decode_$set" --nj "$nj" ${force:+--force}
  done
}

if stage 0 "prepare data and tokens"; then
  asrkit prepare farsdat --corpus "$corpus" --data "$data" --nj "$nj" \
    ${prepare_options[@]+"${prepare_options[@]}"} ${force:+--force}
fi

if stage 1 "features and CMVN"; then
  asrkit extract "$data/train" "$data/dev" "$data/test" --config "$config" --nj "$nj" \
    ${extract_options[@]+"${extract_options[@]}"} ${force:+--force}
fi

if stage 2 "phone language model (5-gram)"; then
  asrkit train-lm "$data/train" --dev "$data/dev" --tokens "$data/tokens.txt" --order 5 --out "$data/lm.arpa" \
    ${force:+--force}
fi

if stage 3 "train"; then
  train "$config" "$dir"
fi

if stage 4 "tune and decode"; then
  decode "$dir"
fi

if stage 5 "score, report and analyse"; then
  report "$dir"
fi

if stage 6 "transcribe one test file" && first_audio "$data/test"; then
  asrkit transcribe --model "$dir" ${channel:+--channel "$channel"} "$audio"
fi

if stage 7 "the textbook's networks in a table"; then
  # Up to date, unless --config has other frames.
  asrkit extract "$data/train" "$data/dev" "$data/test" --config "$recipe/../../conf/textbook_lstm.yaml" --nj "$nj" \
    ${extract_options[@]+"${extract_options[@]}"}
  networks=()
  for name in textbook_lstm textbook_lstm_deep textbook_blstm textbook_blstm_deep; do
    network=$(dirname "$dir")/$name
    train "$recipe/../../conf/$name.yaml" "$network"
    decode "$network"
    report "$network"
    networks+=("$network")
  done
  asrkit table "${networks[@]}"
fi
