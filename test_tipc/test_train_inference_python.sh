#!/usr/bin/env bash
# Every chain of a config: train, evaluate, predict, export, infer; and whether their results are right.
# usage: bash test_tipc/test_train_inference_python.sh CONFIG MODE [GPUID]
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common_func.sh"

(($# == 2 || $# == 3)) || die "usage: bash test_tipc/test_train_inference_python.sh CONFIG MODE [GPUID]"
MODE=$2
GPUID=${3:-} # the GPU of whole_infer and klquant_whole_infer
[[ " $MODES " == *" $MODE "* ]] || die "unknown mode '$MODE'; known modes: $MODES"

# ------------------------------------------------------------------------------------------------ the config

read_config "$1"
require_keys 2 model_name 3 python 4 gpu_list 11 train_model_name 15 trainer 16 norm_train 17 pact_train \
    18 fpgm_train 19 distill_train 24 eval 30 norm_export 31 quant_export 32 fpgm_export 33 distill_export \
    37 infer_model 38 infer_export 39 infer_quant 40 inference

MODEL_NAME=$(value 2)
PYTHON=$(value 3)
GPU_LIST=$(value 4)
EPOCHS=$(flag "$(key 7)" "$(for_mode "$(value 7)" "$MODE" 2)")
TRAIN_BATCH=$(flag "$(key 9)" "$(for_mode "$(value 9)" "$MODE" 8)")
EXTRA_TRAIN=$(flag "$(key 13)" "$(value 13)")
EVAL=$(value 24)
EXTRA_EVAL=$(flag "$(key 25)" "$(value 25)")
IMAGES=$(value 48)

# trainer_lines TRAINER: the lines of its train and export commands, as TRAIN_LINE and EXPORT_LINE.
trainer_lines() {
    case $1 in
        "$(key 16)") TRAIN_LINE=16 EXPORT_LINE=30 ;;
        "$(key 17)") TRAIN_LINE=17 EXPORT_LINE=31 ;;
        "$(key 18)") TRAIN_LINE=18 EXPORT_LINE=32 ;;
        "$(key 19)") TRAIN_LINE=19 EXPORT_LINE=33 ;;
        "$(key 20)") TRAIN_LINE=20 EXPORT_LINE=34 ;;
        "$(key 21)") TRAIN_LINE=21 EXPORT_LINE=35 ;;
        *) die "$CONFIG: line 15 names the trainer '$1', which none of the lines 16 to 21 defines" ;;
    esac
    is_set "$(value "$EXPORT_LINE")" || EXPORT_LINE=30 # a trainer without an export of its own
}

# ------------------------------------------------------------------------------------------------ train

# place_chain GPUS: where a chain of `0`, `0,1`, `-1` or `ip1,ip2;0,1` runs, as IPS, IDS, NUM_NODES and LAUNCH.
place_chain() {
    local ids=()
    IPS=()
    IDS=$1
    [[ $1 == *';'* ]] && IFS=',' read -r -a IPS <<<"${1%%;*}" && IDS=${1#*;}
    IFS=',' read -r -a ids <<<"$IDS"
    NUM_NODES=${#IPS[@]}
    LAUNCH=$PYTHON
    unset CUDA_VISIBLE_DEVICES # an empty one, or one on a machine without GPUs, stops the launcher
    if ((${#ids[@]} == 1 && NUM_NODES == 0)); then
        [[ $HAS_GPU == yes && $IDS != -1 ]] && export CUDA_VISIBLE_DEVICES=$IDS
        return
    fi
    LAUNCH+=" -m paddle.distributed.launch"
    [[ $HAS_GPU == yes ]] && LAUNCH+=" --gpus=$IDS" || LAUNCH+=" --nproc_per_node ${#ids[@]}"
}

all_local() { ! printf '%s\n' "${IPS[@]}" | grep -qvE '^(127\.|localhost$)'; }
first_node() { ((NUM_NODES == 0)) || all_local || hostname -I | grep -qwF -- "${IPS[0]}"; }

# train FOLDER ARGUMENTS: on one process, on several, or on several nodes.
train() {
    local folder=$1 arguments=$2 port node status others=()
    if ((NUM_NODES == 0)); then
        [[ $LAUNCH == "$PYTHON" ]] || LAUNCH+=" --log_dir=$folder/launch"
        run "$folder/train.log" "$LAUNCH $arguments"
    elif ! all_local; then
        run "$folder/train.log" "$LAUNCH --log_dir=$folder/launch --ips=$(IFS=, && echo "${IPS[*]}") $arguments"
    else # every node is this machine: start them all; the first one is the chain's command
        port=$((20000 + RANDOM % 10000))
        LAUNCH+=" --master=127.0.0.1:$port --nnodes=$NUM_NODES --job_id=tipc"
        for ((node = 1; node < NUM_NODES; node++)); do
            split_words "$LAUNCH --rank=$node --log_dir=$folder/launch_$node $arguments"
            "${WORDS[@]}" >"$folder/train_node_$node.log" 2>&1 9>&- </dev/null &
            others+=("$!")
        done
        run "$folder/train.log" "$LAUNCH --rank=0 --log_dir=$folder/launch_0 $arguments"
        status=$?
        for ((node = 1; node < NUM_NODES; node++)); do
            ((status)) && kill "${others[node - 1]}" 2>/dev/null # it would wait for a node that is gone
            wait "${others[node - 1]}"
            status_check "$?" "$LAUNCH --rank=$node --log_dir=$folder/launch_$node $arguments" \
                "$folder/train_node_$node.log"
        done
        return "$status"
    fi
}

# train_chain GPUS AUTOCAST TRAINER
train_chain() {
    local autocast=$2 trainer=$3 chain folder weights device='' use_gpu arguments
    trainer_lines "$trainer"
    if ! is_set "$(value "$TRAIN_LINE")"; then
        note "$trainer has no command (line $TRAIN_LINE): its chains are left out"
        return
    fi
    place_chain "$1"
    chain=${trainer}_gpus_${IDS}_autocast_${autocast}
    ((NUM_NODES)) && chain+=_nodes_$NUM_NODES
    folder=$OUTPUT/$chain
    weights=$folder/$MODEL_NAME/$(value 11)
    use_gpu=$(value 5)
    [[ $IDS == -1 ]] && use_gpu=False device=--device=cpu
    use_gpu=$(flag "$(key 5)" "$use_gpu")
    NUM_CHAINS=$((NUM_CHAINS + 1))
    mkdir -p "$folder"
    chmod 700 "$folder" # the launcher writes the whole environment, secrets too, into its logs

    arguments=$(join "$(value "$TRAIN_LINE")" "$use_gpu" "$device" "$(flag "$(key 8)" "$folder/$MODEL_NAME")" \
        "$EPOCHS" "$(flag "$(key 10)" "$(value 10)")" "$(flag "$(key 6)" "$autocast")" "$TRAIN_BATCH" "$EXTRA_TRAIN")
    if ! train "$folder" "$arguments"; then
        note "$chain: training failed, so nothing follows it"
        return
    fi
    if ! first_node; then
        note "$chain: this machine is not the first node; the first one goes on"
        return
    fi
    if [[ ! -s $weights ]] && ! run "$folder/weights.log" "test -s $weights"; then
        note "$chain: training left no $weights, so nothing follows it"
        return
    fi
    check "$folder" loss "$folder/$MODEL_NAME/log.txt"

    [[ $HAS_GPU == yes && $IDS != -1 ]] && export CUDA_VISIBLE_DEVICES=${IDS%%,*}
    if evaluate "$folder" "$weights" "$use_gpu" "$device"; then
        check "$folder" trained_as_evaluated "$folder/$MODEL_NAME/log.txt" "$folder/eval.log"
    fi
    check_stored "$folder" "$folder/$MODEL_NAME/log.txt"
    export_and_infer "$folder" "$(value "$EXPORT_LINE")" "$weights" False
}

# ------------------------------------------------------------------------------------------------ evaluate, predict

# evaluate FOLDER WEIGHTS USE_GPU DEVICE: eval.py, and predict.py that must name the same classes.
evaluate() {
    local labels
    is_set "$EVAL" || return
    run "$1/eval.log" "$(join "$PYTHON" "$EVAL" "$(flag "$(key 10)" "$2")" "$3" "$4" "$EXTRA_EVAL")" || return
    labels=$(option cls_label_path_val "$EVAL")
    if [[ -n $labels ]] && predict "$1/predict_as_eval.log" "$EVAL" "$2"; then
        check "$1" evaluated_as_predicted "$1/eval.log" "$EAGER_LOG" "$labels"
    fi
    return 0 # eval.py itself ended well
}

# ------------------------------------------------------------------------------------------------ export, infer

# export_and_infer FOLDER EXPORT WEIGHTS QUANT: EXPORT null says that WEIGHTS is an exported folder already.
export_and_infer() {
    if is_set "$2"; then
        run "$1/export.log" "$(join "$PYTHON" "$2" "$(flag "$(key 29)" "$3")" "$(flag "$(key 28)" "$1")")" || return
        predict "$1/predict.log" "$2" "$3"
        infer_grid "$1" "$1" "$4"
    else
        EAGER_LOG=
        infer_grid "$3" "$1" "$4"
    fi
}

# infer_grid EXPORTED FOLDER QUANT: infer.py in every combination that the config asks for and that has a meaning.
infer_grid() {
    local use_gpu use_gpus
    use_gpus=$(each "$(value 41)")
    [[ $IDS == -1 ]] && use_gpus=False
    for use_gpu in $use_gpus; do
        case $use_gpu in
            True | gpu) infer_on_gpu "$use_gpu" "$@" ;;
            False | cpu) infer_on_cpu "$use_gpu" "$@" ;;
            *) die "$CONFIG: line 41: expected True or False, got '$use_gpu'" ;;
        esac
    done
}

# file_flag LINE FOLDER: the flag of LINE, whose value is a file in FOLDER.
file_flag() { if is_set "$(value "$1")"; then flag "$(key "$1")" "$2/$(value "$1")"; fi; }

infer_on_gpu() {
    local use_gpu=$1 exported=$2 folder=$3 quant=$4 trt precision batch
    for trt in $(each "$(value 45)"); do
        if [[ $trt == True && $HAS_GPU == no ]]; then
            note "$(key 45)=True needs a GPU: left out"
            continue
        fi
        for precision in $(each "$(value 46)"); do
            [[ $precision != fp32 && $trt != True ]] && continue # lower precision is TensorRT's
            [[ $quant == True && $precision != int8 ]] && continue
            [[ $quant != True && $precision == int8 ]] && continue
            for batch in $(each "$(value 44)"); do
                infer "$folder/python_infer_gpu_usetrt_${trt}_precision_${precision}_batchsize_$batch" "$precision" \
                    "$(flag "$(key 41)" "$use_gpu")" "$(flag "$(key 45)" "$trt")" "$(flag "$(key 46)" "$precision")" \
                    "$(file_flag 47 "$exported")" "$(flag "$(key 44)" "$batch")" \
                    "$(flag "$(key 48)" "$IMAGES")" "$(flag "$(key 50)" "$(value 50)")" \
                    "$(file_flag 51 "$exported")" "$(flag "$(key 49)" "$(value 49)")"
            done
        done
    done
}

infer_on_cpu() {
    local use_gpu=$1 exported=$2 folder=$3 quant=$4 mkldnn threads batch precision
    for mkldnn in $(each "$(value 42)"); do
        for threads in $(each "$(value 43)"); do
            for batch in $(each "$(value 44)"); do
                for precision in $(each "$(value 46)"); do
                    [[ $precision != fp32 && $mkldnn == False ]] && continue # on Paddle it is oneDNN's
                    [[ $quant == True && $precision != int8 ]] && continue
                    [[ $quant != True && $precision == int8 ]] && continue
                    infer "$folder/python_infer_cpu_usemkldnn_${mkldnn}_threads_${threads}_precision_${precision}_batchsize_$batch" \
                        "$precision" "$(flag "$(key 41)" "$use_gpu")" "$(flag "$(key 42)" "$mkldnn")" \
                        "$(flag "$(key 43)" "$threads")" "$(file_flag 47 "$exported")" \
                        "$(flag "$(key 44)" "$batch")" "$(flag "$(key 48)" "$IMAGES")" \
                        "$(flag "$(key 50)" "$(value 50)")" "$(flag "$(key 46)" "$precision")" \
                        "$(file_flag 51 "$exported")" "$(flag "$(key 49)" "$(value 49)")"
                done
            done
        done
    done
}

# infer NAME PRECISION FLAG ...: one infer.py; its answers are those of the eager model.
infer() {
    local log=$1.log precision=$2 command
    shift 2
    command=$(join "$PYTHON" "$(value 40)" "$@")
    run "$log" "$command" "$command > $log 2>&1 " || return
    LATENCY_LOGS+=("$log")
    [[ -n $EAGER_LOG ]] || return 0
    if [[ $precision == int8 ]]; then
        check "$log" same_classes "$EAGER_LOG" "$log"
    else
        check "$log" same "$EAGER_LOG" "$log" --precision "$precision"
    fi
}

# ------------------------------------------------------------------------------------------------ check

# check_stored FOLDER LOG_TXT: against the numbers kept in test_tipc/results/, where there are some.
check_stored() {
    local stored
    stored=$TIPC/results/$(basename "$CONFIG" .txt)_$MODE.txt
    [[ ! -f $stored ]] || check "$1" stored "$stored" "$2" "$(option data_path "$(value 16)")"
}

# ------------------------------------------------------------------------------------------------ the modes

# whole_infer: the weights of line 37, which are there already, exported by line 38 and run.
whole_infer() {
    local weights i=0 folder
    for weights in $(each "${TIPC_WEIGHTS:-$(value 37)}"); do
        is_set "$weights" || die "$CONFIG: line 37, infer_model, names no weights for whole_infer"
        folder=$OUTPUT/whole_infer_$i
        NUM_CHAINS=$((NUM_CHAINS + 1))
        is_set "$(value 38)" && evaluate "$folder" "$weights" '' ''
        export_and_infer "$folder" "$(value 38)" "$weights" "$(each "$(value 39)" | sed -n "$((i + 1))p")"
        i=$((i + 1))
    done
}

# klquant_whole_infer: line 34 turns weights into an INT8 program in the folder of line 37, which is run.
klquant_whole_infer() {
    local command weights
    require_keys 34 kl_quant
    command=$(value 34)
    is_set "$command" || die "$CONFIG: line 34, kl_quant, has no command for $MODE"
    weights=$(option resume "$command")
    NUM_CHAINS=1
    run "$OUTPUT/klquant_whole_infer/quantise.log" "$PYTHON $command" || return
    EAGER_LOG=
    [[ -z $weights ]] || predict "$OUTPUT/klquant_whole_infer/predict.log" "$command" "$weights"
    infer_grid "$(value 37)" "$OUTPUT/klquant_whole_infer" True
}

use_project_python
HAS_GPU=no
has_gpu && HAS_GPU=yes
[[ $HAS_GPU == yes && -n $GPUID && $GPUID != -1 ]] && export CUDA_VISIBLE_DEVICES=$GPUID
export FLAGS_cudnn_deterministic=True
case $MODE in
    *_train_*) start_run python '*_gpus_*_autocast_*' ;;
    *) start_run python "$MODE*" ;;
esac
[[ $HAS_GPU == yes ]] || note "no GPU here: the chains of gpu_list run on the CPU, with as many processes as they name GPUs"

IDS=${GPUID:-0}
case $MODE in
    whole_infer) whole_infer ;;
    klquant_whole_infer) klquant_whole_infer ;;
    *)
        for gpus in $(each "$GPU_LIST"); do
            for autocast in $(each "$(value 6)"); do
                for trainer in $(each "$(value 15)"); do train_chain "$gpus" "$autocast" "$trainer"; done
            done
        done
        ;;
esac
finish_run
