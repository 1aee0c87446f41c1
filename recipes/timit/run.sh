#!/usr/bin/env bash
# American English read by native speakers (TIMIT, licensed): to a phone error rate on the standard sets.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/recipe.sh"

corpus_source="a copy of TIMIT (LDC93S1), in any of the layouts that circulate"
config=$recipe/conf/blstm_ctc.yaml
phone_times=yes # corpus and decoding give phones their times, and these are compared
protocol=kaldi
corpus_options="num-phones N  train on 61, 48 or 39 phones (default: 48)
test-set NAME  core or full test set (default: core)"
old_options="phones num-phones
test test-set"
recipe_options "$@"

stage 0 "prepare data and tokens" prepare timit
stage 1 "features and CMVN" extract
stage 2 "phone language model (5-gram)" train_lm 5
stage 3 "train" train
stage 4 "tune and decode" tune_and_decode
stage 5 "score, report and analyse" report
stage 6 "align the test set, transcribe one file" align_and_transcribe
