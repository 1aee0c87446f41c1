# shellcheck shell=bash disable=SC2154 # run.sh and this file share their variables
# The stage "the textbook's findings": it trains networks that differ in direction, depth and cell, each with several
# seeds, and prints a table with their differences.

findings_networks="lstm 1 uni
lstm 1 bi
lstm 2 uni
lstm 2 bi
lstm 3 bi
elman 1 bi
elman 2 bi"
findings_seeds="1 2 3"

# Train, decode and score what is not up to date, two runs at a time if $nj allows; then print the table.
findings() {
  local exp network seed lane num_lanes runs=() dirs=()
  exp=$(dirname "$dir")/findings
  while read -r network; do
    for seed in $findings_seeds; do
      runs+=("$network $seed")
      dirs+=("$exp/${network// /_}.$seed")
    done
  done <<<"$findings_networks"
  config=$root/conf/findings.yaml force='' extract
  num_lanes=$((nj < 2 ? 1 : 2))
  for ((lane = 0; lane < num_lanes; lane++)); do start_child findings_lane "$lane" "$num_lanes"; done
  wait_for_children
  asrkit table "${dirs[@]}"
}

# Do every $2-th of the runs, from $1 on, one after the other. After a run that fails, the others are still done.
findings_lane() {
  end_children_with_me
  local number failed=0
  for ((number = $1; number < ${#runs[@]}; number += $2)); do
    # shellcheck disable=SC2086 # its words
    start_child findings_run "$exp" ${runs[number]}
    wait_for_children || failed=1
  done
  return "$failed"
}

# Do one run in its own shell: EXP CELL LAYERS uni|bi SEED. Its output goes to a log.
# Search is greedy, because a language model hides the differences between the networks.
findings_run() {
  end_children_with_me
  dir=$1/$2_$3_$4.$5
  mkdir -p "$dir"
  exec 3>&1 4>&2 >>"$dir/findings.log" 2>&1
  trap '[ $? = 0 ] || echo "$0: error: ${dir##*/} did not finish; see the end of $dir/findings.log, then run the stage again" >&4' EXIT
  asrkit train --config "$root/conf/findings.yaml" --set model.cell="$2" --set model.num_layers="$3" \
    --set model.bidirectional="$([ "$4" = uni ] && echo false || echo true)" --set training.seed="$5" \
    --train "$data/train" --dev "$data/dev" --tokens "$data/tokens.txt" --out "$dir" \
    ${device:+--device "$device"} --resume ${force:+--force}
  for set in dev test; do
    asrkit decode --method greedy --model "$dir" --data "$data/$set" --out "$dir/decode_$set" --nj 1 \
      ${device:+--device "$device"} ${force:+--force}
    asrkit report --data "$data/$set" --hyp "$dir/decode_$set/hyp" --out "$dir/decode_$set" ${force:+--force}
  done
  echo "$dir: test $(grep '^%PER' "$dir/findings.log" | tail -n 1)" >&3
}
