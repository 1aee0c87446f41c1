#!/usr/bin/env bash
# Synthetic speech that espeak-ng makes on this machine: from nothing to a phone error rate in minutes.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$recipe/path.sh"
. "$recipe/cmd.sh"
. "$recipe/../../tools/recipe.sh"
. "$recipe/../../tools/findings.sh"

corpus=$recipe/corpus
data=$recipe/data
config=$recipe/conf/blstm_ctc.yaml
last_stage=7 # a plain run ends before it, for it trains 21 networks
recipe_options "$@"

if stage 0 "prepare data and tokens"; then
  asrkit prepare mini --corpus "$corpus" --data "$data" --nj "$nj" ${force:+--force}
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
  asrkit decode --ctm --dir "$dir" --data "$data/dev" --out "$dir/decode_dev" --nj "$nj" ${force:+--force}
  asrkit tune --dir "$dir" --ref "$data/dev" --decode-dir "$dir/decode_dev" --nj "$nj" ${force:+--force}
  asrkit decode --ctm --dir "$dir" --data "$data/dev" --out "$dir/decode_dev" --nj "$nj" # as tuned
  asrkit decode --ctm --dir "$dir" --data "$data/test" --out "$dir/decode_test" --nj "$nj" ${force:+--force}
fi

if stage 5 "score, report and analyse"; then
  for set in dev test; do
    asrkit report --ref "$data/$set" --hyp "$dir/decode_$set/hyp" --out "$dir/decode_$set" ${force:+--force}
    asrkit analyse --dir "$dir" --ref "$data/$set" --decode-dir "$dir/decode_$set" --nj "$nj" ${force:+--force}
    [ ! -f "$data/$set/phones.ctm" ] || asrkit boundaries --ref "$data/$set" --hyp "$dir/decode_$set/phones.ctm"
  done
fi

if stage 6 "align the test set, transcribe one file" && first_audio "$data/test"; then
  mkdir -p "$dir" # so that it is asrkit that says when there is no experiment
  asrkit align --model "$dir" --data "$data/test" ${extract_options[@]+"${extract_options[@]}"} --format ctm \
    > "$dir/aligned_test.ctm"
  [ ! -f "$data/test/phones.ctm" ] || asrkit boundaries --ref "$data/test" --hyp "$dir/aligned_test.ctm"
  asrkit transcribe --model "$dir" ${channel:+--channel "$channel"} "$audio"
fi

if stage 7 "the textbook's findings in a table"; then
  findings
fi
