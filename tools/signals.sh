# shellcheck shell=bash
# A shell that waits for a program hears of a signal only when the program is done, and a shell that is killed leaves
# its program running. So programs are started in the background and waited for, and signals are passed on to them.

num_signals=0
signal_status=

# From now on Ctrl-C, kill and a closed terminal end the programs that were started, then this shell. What is itself
# started, and starts programs, says so again.
end_children_with_me() {
  num_signals=0 signal_status=
  trap 'pass_signal_on 130' INT
  trap 'pass_signal_on 143' TERM
  trap 'pass_signal_on 129' HUP
}

# What is in the background does not hear of Ctrl-C: it is given SIGTERM. The second ends it at once.
pass_signal_on() {
  signal_status=$1
  num_signals=$((num_signals + 1))
  local children
  children=$(jobs -p)
  [ -n "$children" ] || exit "$signal_status"
  # shellcheck disable=SC2086 # one word each
  kill $children 2>/dev/null || true
}

# Start a command in the background, but with the standard input that there is.
start_child() { "$@" <&0 & }

# Wait for all that was started. Returns the status of one that failed, if any did; after a signal, ends this shell.
wait_for_children() {
  local child status=0 child_status before
  for child in $(jobs -p); do
    while :; do
      before=$num_signals child_status=0
      wait "$child" || child_status=$?
      [ "$num_signals" != "$before" ] || break # else waiting was ended by a signal
    done
    [ "$child_status" = 0 ] || status=$child_status
  done
  [ -z "$signal_status" ] || exit "$signal_status"
  return "$status"
}

# Run a command as usual, but so that it ends with this shell.
run_child() {
  start_child "$@"
  wait_for_children
}
