# shellcheck shell=bash
# A shell that waits for a program handles a signal only after the program ends. A shell that is killed leaves its
# program running. So these functions start programs in the background, wait for them, and pass signals on to them.

num_signals=0
signal_status=

# From now on, Ctrl-C, kill and a closed terminal end the programs that were started, and then this shell. A function
# that runs in the background and starts programs must call this again.
end_children_with_me() {
  num_signals=0 signal_status=
  trap 'pass_signal_on 130' INT
  trap 'pass_signal_on 143' TERM
  trap 'pass_signal_on 129' HUP
}

# Programs in the background do not receive Ctrl-C, so they get SIGTERM. A second SIGTERM ends them at once.
pass_signal_on() {
  signal_status=$1
  num_signals=$((num_signals + 1))
  local children
  children=$(jobs -p)
  [ -n "$children" ] || exit "$signal_status"
  # shellcheck disable=SC2086 # one word each
  kill $children 2>/dev/null || true
}

# Start a command in the background. It keeps the shell's standard input.
start_child() { "$@" <&0 & }

# Wait for all programs that were started. Returns the status of one that failed, if any. After a signal, end this shell.
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

# Run a command in such a way that it ends when this shell ends.
run_child() {
  start_child "$@"
  wait_for_children
}
