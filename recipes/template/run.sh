#!/usr/bin/env bash
# One's own corpus, audio with a table of phones or with label files: to a phone error rate. Copy the directory to
# recipes/NAME and edit it, or run it as it is with --corpus DIR. docs/own-corpus.md says what DIR may look like.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/recipe.sh"

corpus= # the corpus's directory, where it is always the same
corpus_source="a directory of audio with a table of phones or with label files (docs/own-corpus.md)"
config=$recipe/conf/blstm_ctc.yaml
corpus_options="table FILE  the .csv or .tsv of utterances (default: the one in the corpus)
labels KIND  label files to take: TextGrid, phn, lab or ctm (default: what is there)
tier NAME  tier of the TextGrids that holds the phones
silence SYMBOL  phone for empty intervals of TextGrids (default: left out)
speaker REGEX  finds the speaker in a recording's path, as its first group
dev-speakers WHO  a share of the speakers (0.1), a file of them, or A,B,C
test-speakers WHO  the same for test
partial -  leave out audio without labels and labels without audio, with a warning"
recipe_options "$@"

stage 0 "prepare data and tokens" prepare own
stage 1 "features and CMVN" extract
stage 2 "phone language model (5-gram)" train_lm 5
stage 3 "train" train
stage 4 "tune and decode" tune_and_decode
stage 5 "score, report and analyse" report
stage 6 "transcribe one test file" transcribe
