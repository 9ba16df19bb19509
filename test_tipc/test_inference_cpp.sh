#!/usr/bin/env bash
# The C++ program is built, and gives the answers of the eager model for every combination of its switches.
# usage: bash test_tipc/test_inference_cpp.sh CONFIG cpp_infer
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common_func.sh"

(($# == 2)) || die "usage: bash test_tipc/test_inference_cpp.sh CONFIG cpp_infer"
MODE=$2
[[ $MODE == cpp_infer ]] || die "unknown mode '$MODE'; this script knows cpp_infer"

read_config "$1"
require_keys 2 model_name 3 python 4 configure 5 build 6 export 7 inference
MODEL_NAME=$(value 2)
PYTHON=$(value 3)
IMAGES=$(value 9)
FOLDER=$OUTPUT/$MODE
WEIGHTS=${TIPC_WEIGHTS:-$PRETRAINED/$MODEL_NAME/checkpoint-latest.pd}

infer_all() {
    local threads batch log infer
    for threads in $(each "$(value 10)"); do
        for batch in $(each "$(value 11)"); do
            log=$FOLDER/cpp_infer_cpu_threads_${threads}_batchsize_$batch.log
            infer=$(join "$(value 7)" "$(flag "$(key 8)" "$(value 8)")" "$(flag "$(key 9)" "$IMAGES")" \
                "$(flag "$(key 10)" "$threads")" "$(flag "$(key 11)" "$batch")" "$(flag "$(key 12)" "$(value 12)")")
            run "$log" "$infer" "$infer > $log 2>&1 " || continue
            LATENCY_LOGS+=("$log")
            [[ -z $EAGER_LOG ]] || check "$log" same "$EAGER_LOG" "$log" --precision cpp
        done
    done
}

use_project_python
# the OpenVINO runtime is in its Python package
export OpenVINO_DIR=${OpenVINO_DIR:-$("$PYTHON" -c 'import openvino; print(openvino.__path__[0] + "/cmake")' 2>/dev/null)}
start_run cpp "$MODE"
NUM_CHAINS=1
if { ! is_set "$(value 4)" || run "$FOLDER/configure.log" "$(program "$(value 4)")"; } &&
    run "$FOLDER/build.log" "$(program "$(value 5)")" &&
    { ! is_set "$(value 6)" || run "$FOLDER/export.log" "$(join "$(program "$(value 6)")" "$(flag --resume "${TIPC_WEIGHTS:-null}")")"; }; then
    predict "$FOLDER/predict.log" "$(value 6) --model=$MODEL_NAME" "$WEIGHTS"
    infer_all
fi
finish_run
