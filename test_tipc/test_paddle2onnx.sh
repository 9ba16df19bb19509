#!/usr/bin/env bash
# An exported model becomes ONNX, and ONNX Runtime gives the answers of the eager model.
# usage: bash test_tipc/test_paddle2onnx.sh CONFIG paddle2onnx_infer
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common_func.sh"

(($# == 2)) || die "usage: bash test_tipc/test_paddle2onnx.sh CONFIG paddle2onnx_infer"
MODE=$2
[[ $MODE == paddle2onnx_infer ]] || die "unknown mode '$MODE'; this script knows paddle2onnx_infer"

read_config "$1"
require_keys 2 model_name 3 python 4 2onnx 11 inference
MODEL_NAME=$(value 2)
PYTHON=$(value 3)
IMAGES=$(value 13)
FOLDER=$OUTPUT/$MODE
WEIGHTS=${TIPC_WEIGHTS:-$PRETRAINED/$MODEL_NAME/checkpoint-latest.pd}

convert=$(program "$(value 4)")
for line in 5 6 7 8 9 10; do convert=$(join "$convert" "$(flag "$(key "$line")" "$(value "$line")")"); done
infer=$(join "$(program "$(value 11)")" "$(flag "$(key 12)" "$(value 12)")" "$(flag "$(key 13)" "$IMAGES")")

use_project_python
start_run paddle2onnx "$MODE"
NUM_CHAINS=1
if run "$FOLDER/trans_model.log" "$convert"; then
    log=$FOLDER/paddle2onnx_infer_cpu.log
    run "$log" "$infer" "$infer > $log 2>&1 " && LATENCY_LOGS+=("$log")
    predict "$FOLDER/predict.log" "$(value 11) --model=$MODEL_NAME" "$WEIGHTS" &&
        check "$log" same "$EAGER_LOG" "$log" --precision fp32
fi
finish_run
