#!/usr/bin/env bash
# Read Persian (FarsDat, licensed): to a phone error rate, and on request the textbook's networks in a table.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/recipe.sh"

corpus_source="a copy of FarsDat (ELRA-S0112), the directory of CD1 and CD2"
config=$recipe/conf/blstm_ctc.yaml
last_stage=7 # a plain run ends before it, for it trains four networks
corpus_options="split NAME  textbook-95-5 or textbook-80-20 (default: textbook-95-5)
by WHAT  split by speakers or by utterances (default: speakers)
speaker-lists DIR  split by train_spk.list, dev_spk.list and test_spk.list in DIR
sentences WHICH  of the speaker lists' dev and test: all or published (default: all)
seed N  what the split is drawn from (default: 1)"

# Stages 3 to 5 for each of the textbook's networks, beside $dir.
textbook_networks() {
  local name exp networks=()
  exp=$(dirname "$dir")
  config=$root/conf/textbook_lstm.yaml force='' extract # all four have its frames
  for name in textbook_lstm textbook_lstm_deep textbook_blstm textbook_blstm_deep; do
    local config=$root/conf/$name.yaml dir=$exp/$name
    train
    tune_and_decode
    report
    networks+=("$dir")
  done
  asrkit table "${networks[@]}"
}

recipe_options "$@"

stage 0 "prepare data and tokens" prepare farsdat
stage 1 "features and CMVN" extract
stage 2 "phone language model (5-gram)" train_lm 5
stage 3 "train" train
stage 4 "tune and decode" tune_and_decode
stage 5 "score, report and analyse" report
stage 6 "transcribe one test file" transcribe
stage 7 "the textbook's networks in a table" textbook_networks
