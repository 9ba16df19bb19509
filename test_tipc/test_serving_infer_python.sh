#!/usr/bin/env bash
# An exported model is served over HTTP: start, ask by the client, compare with the eager model, stop.
# usage: bash test_tipc/test_serving_infer_python.sh CONFIG serving_infer
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common_func.sh"

(($# == 2)) || die "usage: bash test_tipc/test_serving_infer_python.sh CONFIG serving_infer"
MODE=$2
[[ $MODE == serving_infer ]] || die "unknown mode '$MODE'; this script knows serving_infer"

read_config "$1"
require_keys 2 model_name 3 python 4 trans_model 10 serving_dir 11 web_service 13 pipline
MODEL_NAME=$(value 2)
PYTHON=$(value 3)
IMAGES=$(value 14)
FOLDER=$OUTPUT/$MODE
WEIGHTS=${TIPC_WEIGHTS:-$PRETRAINED/$MODEL_NAME/checkpoint-latest.pd}
SECONDS_TO_START=120
SECONDS_TO_STOP=60
SERVICE=

# start_service LOG COMMAND: COMMAND in the background, as SERVICE; URL is the address that it prints.
start_service() {
    local end=$((SECONDS + SECONDS_TO_START)) status=1
    URL=
    mkdir -p "$(dirname "$1")"
    split_words "$2" || die "$CONFIG: line 11 is not the words of a command"
    "${WORDS[@]}" >"$1" 2>&1 9>&- </dev/null &
    SERVICE=$!
    while [[ -z $URL ]] && kill -0 "$SERVICE" 2>/dev/null && ((SECONDS < end)); do
        URL=$(grep -aom 1 'http://[^ /"]*' "$1")
        [[ -n $URL ]] || sleep 0.2
    done
    [[ -n $URL ]] && status=0
    [[ -n $URL ]] || kill_service
    status_check "$status" "$2" "$1"
}

# kill_service: at once, if there is one.
kill_service() {
    [[ -n $SERVICE ]] || return
    kill -KILL "$SERVICE" 2>/dev/null
    wait "$SERVICE" 2>/dev/null
    SERVICE=
}

# stop_service LOG: SIGTERM; the service must end with 0 in time.
stop_service() {
    local service=$SERVICE killer
    kill -TERM "$service" 2>/dev/null
    { sleep "$SECONDS_TO_STOP" && kill -KILL "$service"; } >/dev/null 2>&1 9>&- &
    killer=$!
    wait "$service"
    status_check "$?" "kill -TERM (the service of $1)" "$1"
    SERVICE=
    kill "$killer" 2>/dev/null
    wait "$killer" 2>/dev/null
}

serve() {
    local log=$FOLDER/service_$1.log asked=$FOLDER/client_$1.log ask
    start_service "$log" "$(join "$(program "$(value 11)")" "$(value 10)" "$(flag "$(key 12)" "$1")")" || return
    ask=$(join "$(program "$(value 13)")" "$URL" "$IMAGES")
    run "$asked" "$ask" "$ask > $asked 2>&1 " && [[ -n $EAGER_LOG ]] &&
        check "$asked" same "$EAGER_LOG" "$asked" --precision fp32
    stop_service "$log"
}

trap kill_service EXIT
use_project_python
start_run serving "$MODE"
NUM_CHAINS=1
export_command=$(program "$(value 4)")
for line in 5 6 7 8 9; do export_command=$(join "$export_command" "$(flag "$(key "$line")" "$(value "$line")")"); done
export_command=$(join "$export_command" "$(flag --resume "${TIPC_WEIGHTS:-null}")") # the last value counts
if ! is_set "$(value 4)" || run "$FOLDER/export.log" "$export_command"; then
    predict "$FOLDER/predict.log" "$(value 4) --model=$MODEL_NAME" "$WEIGHTS"
    for engine in $(each "$(value 12)"); do serve "$engine"; done
fi
finish_run
