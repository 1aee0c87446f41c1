#!/usr/bin/env bash
# One's own corpus, audio with a table of phones or with label files: to a phone error rate. Copy the directory to
# recipes/NAME and edit it, or run it as it is with --corpus DIR. docs/own-corpus.md tells what DIR may look like.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$recipe/path.sh"
. "$recipe/cmd.sh"
. "$recipe/../../tools/recipe.sh"

corpus= # the corpus's directory, where it is always the same
corpus_source="a directory of audio with a table of phones or with label files (docs/own-corpus.md)"
data=$recipe/data
config=$recipe/conf/blstm_ctc.yaml
corpus_options="table FILE  the .csv or .tsv of utterances (default: the one in the corpus)
labels KIND  label files to take: TextGrid, phn, lab or ctm (default: what is there)
tier NAME  tier of the TextGrids that holds the phones
silence SYMBOL  phone for empty intervals of TextGrids (default: left out)
speaker REGEX  finds the speaker in a recording's path, as its first group
dev-speakers WHO  a share of the speakers (0.1), a file of them, or A,B,C
test-speakers WHO  the same for test"
recipe_options "$@"

if stage 0 "prepare data and tokens"; then
  asrkit prepare own --corpus "$corpus" --data "$data" --nj "$nj" \
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
  asrkit train --config "$config" --train "$data/train" --dev "$data/dev" --tokens "$data/tokens.txt" \
    --lm "$data/lm.arpa" --dir "$dir" --resume ${force:+--force}
fi

if stage 4 "tune and decode"; then
  asrkit decode --dir "$dir" --data "$data/dev" --out "$dir/decode_dev" --nj "$nj" ${force:+--force}
  asrkit tune --dir "$dir" --ref "$data/dev" --decode-dir "$dir/decode_dev" --nj "$nj" ${force:+--force}
  asrkit decode --dir "$dir" --data "$data/dev" --out "$dir/decode_dev" --nj "$nj" # as tuned
  asrkit decode --dir "$dir" --data "$data/test" --out "$dir/decode_test" --nj "$nj" ${force:+--force}
fi

if stage 5 "score, report and analyse"; then
  for set in dev test; do
    asrkit report --ref "$data/$set" --hyp "$dir/decode_$set/hyp" --out "$dir/decode_$set" ${force:+--force}
    asrkit analyse --dir "$dir" --ref "$data/$set" --decode-dir "$dir/decode_$set" --nj "$nj" ${force:+--force}
  done
fi

if stage 6 "transcribe one test file" && first_audio "$data/test"; then
  asrkit transcribe --model "$dir" ${channel:+--channel "$channel"} "$audio"
fi
