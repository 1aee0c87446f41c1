#!/usr/bin/env bash
# Synthetic speech that espeak-ng makes on this machine: from nothing to a phone error rate in minutes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/recipe.sh"

corpus=$recipe/corpus
config=$recipe/conf/blstm_ctc.yaml
phone_times=yes # corpus and decoding give phones their times, and these are compared
last_stage=7 # a plain run ends before it, for it trains 21 networks
corpus_options="seed N  what the corpus is made from (default: 1)"
recipe_options "$@"

stage 0 "prepare data and tokens" prepare mini
stage 1 "features and CMVN" extract
stage 2 "phone language model (5-gram)" train_lm 5
stage 3 "train" train
stage 4 "tune and decode" tune_and_decode
stage 5 "score, report and analyse" report
stage 6 "align the test set, transcribe one file" align_and_transcribe
stage 7 "the textbook's findings in a table" findings
