#!/usr/bin/env bash
# The same training steps eagerly and through to_static: the losses have equal text.
# usage: bash test_tipc/test_train_dy2static_python.sh CONFIG dy2static
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common_func.sh"

(($# == 2)) || die "usage: bash test_tipc/test_train_dy2static_python.sh CONFIG dy2static"
MODE=$2
[[ $MODE == dy2static ]] || die "unknown mode '$MODE'; this script knows dy2static"

read_config "$1"
require_keys 2 model_name 3 python 4 train 5 --to_static
PYTHON=$(value 3)
FOLDER=$OUTPUT/$MODE

use_project_python
start_run dy2static "$MODE"
logs=()
for to_static in $(each "$(value 5)"); do
    NUM_CHAINS=$((NUM_CHAINS + 1))
    log=$FOLDER/train_to_static_$to_static.log
    run "$log" "$(join "$(program "$(value 4)")" "$(flag "$(key 5)" "$to_static")")" && logs+=("$log")
done
((${#logs[@]} != 2)) || check "$FOLDER" losses_equal "${logs[@]}"
finish_run
