#!/usr/bin/env bash
# What the scripts of test_tipc share: reading a config, running a command, its status line, the summary.
# shellcheck disable=SC2034  # the scripts that source this file read its variables

set -f # no word of a config is a file pattern
TIPC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ $PWD == "$(dirname "$TIPC")" ]] && TIPC=./test_tipc
OUTPUT=./test_tipc/output
PRETRAINED=$OUTPUT/pretrained # weights and exported folders that prepare.sh makes, one folder per model
MODES="lite_train_lite_infer lite_train_whole_infer whole_train_whole_infer whole_infer klquant_whole_infer"
CANNOT_START=126 # exit status when no command ran: a count of failed commands ends at 125

say() { printf 'test_tipc: %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit "$CANNOT_START"
}

# The project's own interpreter, where `make demo` has made one and no other environment is active.
use_project_python() {
    local venv
    venv=$(dirname "$TIPC")/.venv/bin
    if [[ -z ${VIRTUAL_ENV:-} && -x $venv/python3 ]]; then
        PATH=$(cd "$venv" && pwd):$PATH
        say "python3 is .venv/bin/python3"
    fi
}

# ------------------------------------------------------------------------------------------------ config

# read_config FILE: its lines without blank ones, as LINES; line 1 is LINES[0].
read_config() {
    CONFIG=$1
    [[ -f $CONFIG ]] || die "$CONFIG: no such config; see test_tipc/config/"
    mapfile -t LINES < <(tr -d '\r' <"$CONFIG" | grep -v '^[[:space:]]*$')
}

# key LINE, value LINE: the two sides of the first colon of a line, counted from 1; nothing beyond the last line.
key() {
    local line=${LINES[$1 - 1]-}
    trim "${line%%:*}"
}

value() {
    local line=${LINES[$1 - 1]-}
    [[ $line == *:* ]] && trim "${line#*:}"
}

trim() {
    local text=${1#"${1%%[![:space:]]*}"}
    printf '%s' "${text%"${text##*[![:space:]]}"}"
}

# require_keys LINE KEY ...: the keys stand where the script reads them.
require_keys() {
    while (($#)); do
        [[ $(key "$1") == "$2" ]] ||
            die "$CONFIG: line $1 must be '$2:...', got '${LINES[$1 - 1]-}' (blank lines do not count)"
        shift 2
    done
}

is_set() { [[ -n $1 && $1 != null ]]; }

# program COMMAND: a script or module as a command of the config's interpreter, a program as it is.
program() { if [[ ${1%% *} == *.py || $1 == "-m "* ]]; then printf '%s %s' "$PYTHON" "$1"; else printf '%s' "$1"; fi; }

# flag KEY VALUE: `KEY=VALUE`, or nothing where either is null or empty.
flag() { if is_set "$1" && is_set "$2"; then printf '%s=%s' "$1" "$2"; fi; }

# join WORD ...: the words that are not empty, a blank between two.
join() {
    local word line=
    for word; do [[ -n $word ]] && line+="${line:+ }$word"; done
    printf '%s' "$line"
}

# each TEXT: the alternatives of `a|b`, one line per alternative; `null` where there is none. They hold no blanks.
each() { tr '|' '\n' <<<"${1:-null}"; }

# for_mode TEXT MODE DEFAULT: `8`, or the value of MODE in `mode=8|mode=16`; DEFAULT where the mode is not listed.
for_mode() {
    local choice
    [[ $1 == *=* ]] || { printf '%s' "$1" && return; }
    for choice in $(each "$1"); do
        [[ $choice == "$2="* ]] && printf '%s' "${choice#*=}" && return
    done
    printf '%s' "$3"
}

# split_words TEXT: WORDS, as a shell splits them, quotes and backslashes included; nothing is expanded or executed.
split_words() {
    mapfile -t WORDS < <(xargs -r printf '%s\n' <<<"$1" 2>/dev/null)
    wait "$!" && ((${#WORDS[@]}))
}

# option NAME COMMAND: the value of `--NAME=value` in COMMAND.
option() {
    local word
    split_words "$2"
    for word in "${WORDS[@]}"; do [[ $word == "--$1="* ]] && printf '%s' "${word#*=}"; done
}

# ------------------------------------------------------------------------------------------------ a run

# start_run NAME PATTERN: a fresh status file; it and the folders PATTERN of an earlier run move to output/earlier/.
start_run() {
    local earlier
    RUN=$1
    STATUS_LOG=$OUTPUT/results_$RUN.log
    SUMMARY_LOG=$OUTPUT/summary_$RUN.txt
    mkdir -p "$OUTPUT"
    exec 9>"$OUTPUT/.lock"
    flock -n 9 || die "another run writes to $OUTPUT; wait for it, or use another checkout"
    if [[ -e $STATUS_LOG ]]; then
        mkdir -p "$OUTPUT/earlier"
        earlier=$(mktemp -d "$OUTPUT/earlier/$(date -r "$STATUS_LOG" +%Y%m%d_%H%M%S)_XXXX")
        find "$OUTPUT" -mindepth 1 -maxdepth 1 \
            \( -name "results_$RUN.log" -o -name "summary_$RUN.txt" -o -name "$2" \) -exec mv {} "$earlier/" \;
        say "the earlier run is now in $earlier"
    fi
    : >"$STATUS_LOG"
    NUM_COMMANDS=0
    NUM_CHAINS=0
    FAILED=()
    REASONS=()
    EAGER_LOG=
    EAGER_COMMAND=
    NOTES=()
    LATENCY_LOGS=()
    SECONDS=0
}

# run LOG COMMAND [SHOWN]: run COMMAND, its output on the terminal and in LOG; a status line; its exit status.
run() {
    local log=$1 status
    mkdir -p "$(dirname "$log")"
    if split_words "$2"; then
        "${WORDS[@]}" 2>&1 9>&- </dev/null | tee "$log"
        status=${PIPESTATUS[0]}
    else
        echo "error: not the words of a command (an open quote?): $2" | tee "$log"
        status=2
    fi
    status_check "$status" "${3:-$2}" "$log"
}

# status_check STATUS COMMAND LOG: the line that says how COMMAND ended, and after a failure why; STATUS is the result.
status_check() {
    local verdict=successfully
    NUM_COMMANDS=$((NUM_COMMANDS + 1))
    if (($1)); then
        verdict=failed
        FAILED+=("$2")
        REASONS+=("exit status $1; $(reason "$3")")
    fi
    printf '\033[33m Run %s with command - %s!  \033[0m\n' "$verdict" "$2" | tee -a "$STATUS_LOG"
    if (($1)); then printf '    %s\n' "${REASONS[-1]}" | tee -a "$STATUS_LOG"; fi
    return "$1"
}

# reason LOG: the last error that LOG tells, or else its last line.
reason() {
    local line
    line=$(grep -a '^error: ' "$1" | tail -n 1)
    [[ -n $line ]] || line=$(grep -a '[^[:space:]]' "$1" | tail -n 1)
    printf '%s (%s)' "${line:-it printed nothing}" "$1"
}

# note TEXT: for the summary too, once.
note() {
    local known
    for known in "${NOTES[@]}"; do [[ $known == "$*" ]] && return; done
    NOTES+=("$*")
    say "$*"
}

# check PLACE CHECK ARGUMENT ...: a check of test_tipc/check.py, as one more command of the run.
check() {
    local log=$1/check_$2.log
    [[ -d $1 ]] || log=$(dirname "$1")/check_$(basename "$1")
    shift
    run "$log" "$PYTHON $TIPC/check.py $*"
}

# predict LOG COMMAND WEIGHTS: the eager model on the images of infer, built and fed as COMMAND says; EAGER_LOG tells.
predict() {
    local word command="$PYTHON predict.py"
    split_words "$2" || return
    for word in "${WORDS[@]}"; do
        if [[ $word =~ ^--(model|nb_classes|input_size|train_interpolation|exif_orientation|fit|crop_pct|eval_image_backend|use_ema|device)(=|$) ]]; then
            command+=" $word"
        fi
    done
    command+=" --resume=$3 --infer_imgs=$IMAGES"
    [[ $command == "$EAGER_COMMAND" ]] && return # eval and export are fed the same way
    EAGER_LOG='' EAGER_COMMAND=''
    run "$1" "$command" || return
    EAGER_LOG=$1
    EAGER_COMMAND=$command
}

# finish_run: the summary, then the exit status: how many commands failed, at most 125.
finish_run() {
    summary | tee "$SUMMARY_LOG"
    exit "$((${#FAILED[@]} > 125 ? 125 : ${#FAILED[@]}))"
}

summary() {
    local i
    printf '\n==== %s ====\n' "$CONFIG ${MODE:-}"
    printf 'chains %d, commands %d, failed %d, %d s\n' "$NUM_CHAINS" "$NUM_COMMANDS" "${#FAILED[@]}" "$SECONDS"
    ((${#NOTES[@]})) && printf 'note: %s\n' "${NOTES[@]}"
    for i in "${!FAILED[@]}"; do printf 'failed: %s\n        %s\n' "${FAILED[i]}" "${REASONS[i]}"; done
    ((${#LATENCY_LOGS[@]})) && "$PYTHON" "$TIPC/check.py" latencies "${LATENCY_LOGS[@]}"
    printf 'status lines: %s\n' "$STATUS_LOG"
}

# has_gpu: this machine has a GPU, and this Paddle can use it. TIPC_DEVICE=cpu or gpu overrules what is found.
has_gpu() {
    case ${TIPC_DEVICE:-} in
        cpu) return 1 ;;
        gpu) return 0 ;;
    esac
    nvidia-smi -L 2>/dev/null | grep -q '^GPU' &&
        "$PYTHON" -c 'import paddle, sys; sys.exit(not paddle.is_compiled_with_cuda())' 2>/dev/null
}
