# shellcheck shell=bash disable=SC2154 # run.sh, recipe.sh and this file share their variables
# The bodies of the stages that recipes share, one function per stage. They read $data, $config and $dir. A recipe may
# also set $protocol, the protocol for scoring PERs, and $phone_times, which is not empty if data directories can have
# true phone times (phones.ctm).

# Stage 0: read the corpus with `asrkit prepare NAME`.
prepare() {
  asrkit prepare "$1" --corpus "$corpus" --out "$data" --nj "$nj" \
    ${prepare_options[@]+"${prepare_options[@]}"} ${force:+--force}
}

# Stage 1. Data directories that already have features are up to date, unless $config changes the frames.
extract() {
  asrkit extract "$data/train" "$data/dev" "$data/test" --config "$config" ${settings[@]+"${settings[@]}"} --nj "$nj" \
    ${extract_options[@]+"${extract_options[@]}"} ${no_archives:+--no-archives} ${force:+--force} ${verify:+--verify}
}

# Stage 2: an n-gram model of ORDER.
train_lm() {
  asrkit train-lm --train "$data/train" --dev "$data/dev" --tokens "$data/tokens.txt" --order "$1" \
    --out-file "$data/lm.arpa" ${force:+--force}
}

# Stage 3: by several processes where cmd.sh says so.
train() {
  with_train_cmd train --config "$config" ${settings[@]+"${settings[@]}"} --train "$data/train" --dev "$data/dev" \
    --tokens "$data/tokens.txt" --lm "$data/lm.arpa" --out "$dir" ${device:+--device "$device"} --resume ${force:+--force}
}

# Stage 4. After tuning, dev is decoded again only if the settings have changed.
tune_and_decode() {
  decode dev ${force:+--force}
  asrkit tune --model "$dir" --data "$data/dev" --decode-dir "$dir/decode_dev" ${protocol:+--protocol "$protocol"} \
    --nj "$nj" ${device:+--device "$device"} ${force:+--force}
  decode dev
  decode test ${force:+--force}
}

# Decode SET, with further options of `asrkit decode`.
decode() {
  asrkit decode ${phone_times:+--ctm} --model "$dir" --data "$data/$1" --out "$dir/decode_$1" --nj "$nj" \
    ${device:+--device "$device"} "${@:2}"
}

# Stage 5. The report shows what the analysis found.
report() {
  local set
  for set in dev test; do
    asrkit analyze --model "$dir" --data "$data/$set" --decode-dir "$dir/decode_$set" \
      ${protocol:+--protocol "$protocol"} --nj "$nj" ${force:+--force}
    asrkit report --model "$dir" --data "$data/$set" ${extract_options[@]+"${extract_options[@]}"} \
      ${protocol:+--protocol "$protocol"} --nj "$nj" ${force:+--force}
    boundaries "$set" "$dir/decode_$set/phones.ctm"
  done
}

# Compare the phone times in the file CTM with the true times of SET, if these are known.
boundaries() {
  [ -z "$phone_times" ] || [ ! -f "$data/$1/phones.ctm" ] || asrkit boundaries --ref "$data/$1" --hyp "$2"
}

# The last stage of a recipe that lists networks in $released. It trains, tunes and scores each of them in a directory
# beside $dir. It exports each as $models/NAME.onnx, with 8-bit weights, the language model and the score. With a $corpus
# it makes the data directories first, if they are missing.
release() {
  local each
  [ -z "$corpus" ] || prepare "$1"
  for each in $released; do
    config=$root/conf/${each#*=}.yaml dir=$(dirname "$dir")/${each%%=*} release_one "${each%%=*}"
  done
}

release_one() {
  announce "-- $1 --"
  extract
  train_lm 5
  train
  tune_and_decode
  report
  mkdir -p -- "$models"
  asrkit export --model "$dir" --int8 --dev "$data/dev" --test "$data/test" \
    ${extract_options[@]+"${extract_options[@]}"} --out-file "$models/$1.onnx"
}

# Stage 6. It does nothing if no test file can be transcribed.
transcribe() {
  ! first_audio "$data/test" || transcribe_audio
}

# Stage 6 of recipes with phone times. Without a file to transcribe it does nothing, so `first_audio` comes first.
align_and_transcribe() {
  first_audio "$data/test" || return 0
  mkdir -p "$dir" # so that it is asrkit that says when there is no experiment
  asrkit align --model "$dir" ${device:+--device "$device"} --data "$data/test" ${extract_options[@]+"${extract_options[@]}"} --format ctm \
    >"$dir/aligned_test.ctm.part"
  mv -- "$dir/aligned_test.ctm.part" "$dir/aligned_test.ctm" # which is thus whole, or as it was
  boundaries test "$dir/aligned_test.ctm"
  transcribe_audio
}

transcribe_audio() {
  asrkit transcribe --model "$dir" ${device:+--device "$device"} ${channel:+--channel "$channel"} -- "$audio"
}
