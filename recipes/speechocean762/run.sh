#!/usr/bin/env bash
# English read aloud by Mandarin speakers, adults and children (speechocean762): to a phone error rate.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/recipe.sh"

corpus_source="the unpacked speechocean762, from OpenSLR (resource 101)"
config=$root/conf/blstm_ctc.yaml
released="english=english english-streaming=english_streaming"
last_stage=8 # a plain run ends before stage 7, which trains 21 networks, and 8, which trains those that come with asrkit
recipe_options "$@"

stage 0 "prepare data and tokens" prepare speechocean762
stage 1 "features and CMVN" extract
stage 2 "phone language model (5-gram)" train_lm 5
stage 3 "train" train
stage 4 "tune and decode" tune_and_decode
stage 5 "score, report and analyse" report
stage 6 "transcribe one test file" transcribe
stage 7 "the textbook's findings in a table" findings
stage 8 "release: the models that come with asrkit" release speechocean762
