#!/usr/bin/env bash
# Makes what a mode needs: images in dataset/ILSVRC2012, and weights or an exported folder in test_tipc/output/pretrained.
# usage: bash test_tipc/prepare.sh CONFIG MODE
#   Without a network it takes the digits of datasets/digits.py. What is there already, and whole, is left alone.
#   TIPC_DATA=FOLDER or TAR              other images, with train_list.txt and val_list.txt (or train.txt, val.txt)
#   TIPC_DOWNLOAD=1                      PaddleClas's little training set, from its server
#   TIPC_SHA256=SUM                      what the tar of the two lines above must be
#   TIPC_TRAIN_IMAGES=N TIPC_VAL_IMAGES=N  other numbers of images than the mode's; `all` takes every one
#   TIPC_WEIGHTS=FILE                    weights to export instead of some that are quickly trained
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common_func.sh"

DATA=./dataset/ILSVRC2012
ARCHIVE=https://paddle-imagenet-models-name.bj.bcebos.com/data/whole_chain/whole_chain_little_train.tar
FEW_TRAIN=64 # both commands with their two chains end within minutes on two cores
FEW_VAL=32

(($# == 2)) || die "usage: bash test_tipc/prepare.sh CONFIG MODE"
MODE=$2
case $MODE in
    lite_train_lite_infer | paddle2onnx_infer | cpp_infer | serving_infer) NUM_TRAIN=$FEW_TRAIN NUM_VAL=$FEW_VAL ;;
    lite_train_whole_infer | whole_infer | klquant_whole_infer) NUM_TRAIN=$FEW_TRAIN NUM_VAL=all ;;
    whole_train_whole_infer) NUM_TRAIN=all NUM_VAL=all ;;
    dy2static) say "dy2static draws its own images: nothing to prepare" && exit ;;
    *) die "unknown mode '$MODE'; known modes: $MODES paddle2onnx_infer cpp_infer serving_infer dy2static" ;;
esac
NUM_TRAIN=${TIPC_TRAIN_IMAGES:-$NUM_TRAIN}
NUM_VAL=${TIPC_VAL_IMAGES:-$NUM_VAL}
read_config "$1"
require_keys 2 model_name 3 python
MODEL_NAME=$(value 2)
PYTHON=$(value 3)

# ------------------------------------------------------------------------------------------------ images

asks_for_download() { [[ -z ${TIPC_DATA:-} && ${TIPC_DOWNLOAD:-0} == 1 ]]; }

# find_source: the folder of all images, as SOURCE.
find_source() {
    SOURCE=${TIPC_DATA:-}
    if asks_for_download; then
        SOURCE=./dataset/$(basename "$ARCHIVE")
        [[ -f $SOURCE ]] || { curl -fL --retry 3 -o "$SOURCE.part" "$ARCHIVE" && mv "$SOURCE.part" "$SOURCE"; } ||
            die "$ARCHIVE: could not be fetched; without TIPC_DOWNLOAD=1 no network is needed"
    fi
    if [[ -z $SOURCE ]]; then
        SOURCE=./dataset/digits
        [[ -f $SOURCE/val_list.txt ]] || PYTHONPATH=$(dirname "$TIPC") "$PYTHON" -m datasets.digits "$SOURCE" ||
            die "the digits could not be written; they need: pip install -r requirements-demo.txt"
    fi
    [[ -e $SOURCE ]] || die "$SOURCE: no such folder or tar (TIPC_DATA)"
    [[ -d $SOURCE ]] || unpack
    SOURCE=$(cd "$SOURCE" && pwd)
}

# unpack: SOURCE, a tar, becomes the folder in it that has the lists.
unpack() {
    local sum folder lists
    sum=$(sha256sum "$SOURCE" | cut -d' ' -f1)
    if [[ -z ${TIPC_SHA256:-} ]]; then
        say "$SOURCE has SHA-256 $sum; TIPC_SHA256=$sum makes sure of it the next time"
    elif [[ $sum != "$TIPC_SHA256" ]]; then
        die "$SOURCE has SHA-256 $sum, TIPC_SHA256 says $TIPC_SHA256: it is damaged or another one; delete it"
    fi
    folder=./dataset/unpacked_${sum:0:12}
    if [[ ! -d $folder ]]; then
        rm -rf "$folder.part"
        mkdir -p "$folder.part"
        tar -xf "$SOURCE" -C "$folder.part" --no-same-owner || die "$SOURCE: cannot be unpacked"
        mv "$folder.part" "$folder"
    fi
    lists=$(find "$folder" \( -name val_list.txt -o -name val.txt \) | sort | head -n 1)
    [[ -n $lists ]] || die "$SOURCE: no val_list.txt or val.txt in it"
    SOURCE=$(dirname "$lists")
}

# copy_split SPLIT COUNT FOLDER: COUNT images of SPLIT, evenly spread over its list, and their list.
copy_split() {
    local split=$1 count=$2 folder=$3 list=$SOURCE/$1_list.txt total path top
    [[ -f $list ]] || list=$SOURCE/$split.txt
    [[ -f $list ]] || die "$SOURCE: neither ${split}_list.txt nor $split.txt in it, with lines 'relative/path label'"
    total=$(grep -c '[^[:space:]]' "$list")
    [[ $count != all ]] || count=$total
    tr -d '\r' <"$list" | grep '[^[:space:]]' |
        awk -v total="$total" -v count="$count" 'int(NR * count / total) > int((NR - 1) * count / total)' \
            >"$folder/${split}_list.txt"
    if ((count >= total)); then # every image: a link to each folder does
        while read -r top; do ln -sfn "$SOURCE/$top" "$folder/$top"; done \
            < <(cut -d/ -f1 "$folder/${split}_list.txt" | sort -u)
        return
    fi
    while read -r path; do
        path=${path% *}
        [[ -f $SOURCE/$path ]] || die "$list names $path, which is not in $SOURCE"
        mkdir -p "$folder/$(dirname "$path")"
        cp -L "$SOURCE/$path" "$folder/$path"
    done <"$folder/${split}_list.txt"
}

# make_images: DATA as this mode needs it, unless it is there and whole. Images that we did not put there are kept.
make_images() {
    local recipe sums part=$DATA.part from=${TIPC_DATA:-}
    mkdir -p ./dataset
    asks_for_download && from=$ARCHIVE
    recipe="from $from train $NUM_TRAIN val $NUM_VAL"
    if [[ -e $DATA && ! -f $DATA/.tipc ]]; then
        [[ -z ${TIPC_DATA:-} ]] || die "$DATA is there and not from this script; move it away to use TIPC_DATA"
        [[ -f $DATA/train_list.txt && -f $DATA/val_list.txt ]] || die "$DATA needs train_list.txt and val_list.txt"
        say "$DATA is not from this script: taken as it is"
        return
    fi
    if [[ -f $DATA/.tipc && $(<"$DATA/.tipc") == "$recipe" && -d $DATA/val ]] && (cd "$DATA" && sha256sum --quiet -c SHA256SUMS); then
        say "$DATA is there and whole"
        return
    fi
    find_source
    rm -rf "$part"
    mkdir -p "$part"
    copy_split train "$NUM_TRAIN" "$part"
    copy_split val "$NUM_VAL" "$part"
    [[ -d $part/val ]] || die "$SOURCE: its validation list names no image in val/; training images are not put there"
    # what a link leads to is another's, and may be the whole of ImageNet: it is not summed
    sums=$(cd "$part" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) || die "$part: no checksums"
    printf '%s\n' "$sums" >"$part/SHA256SUMS"
    printf '%s\n' "$recipe" >"$part/.tipc"
    rm -rf "$DATA"
    mv "$part" "$DATA"
    say "$DATA has $(wc -l <"$DATA/train_list.txt") images to train on, $(wc -l <"$DATA/val_list.txt") to evaluate"
}

# ------------------------------------------------------------------------------------------------ weights

# make_weights: WEIGHTS of two quick epochs, for modes that begin with weights.
make_weights() {
    WEIGHTS=${TIPC_WEIGHTS:-$PRETRAINED/$MODEL_NAME/checkpoint-latest.pd}
    [[ -s $WEIGHTS ]] && say "$WEIGHTS is there" && return
    [[ -z ${TIPC_WEIGHTS:-} ]] || die "$WEIGHTS: no such file (TIPC_WEIGHTS)"
    "$PYTHON" main.py --model="$MODEL_NAME" --epochs=2 --batch_size=8 --aa= --smoothing=0 --reprob=0 --mixup=0 --cutmix=0 \
        --train_interpolation=bilinear --opt=momentum --lr=0.01 --warmup_epochs=0 --data_path="$DATA" \
        --cls_label_path_train="$DATA/train_list.txt" --cls_label_path_val="$DATA/val_list.txt" \
        --output_dir="$PRETRAINED/$MODEL_NAME" || die "no weights for $MODE: training them failed"
}

# make_exported: the exported folder, for modes that begin with one.
make_exported() {
    local exported=$PRETRAINED/$MODEL_NAME
    [[ -s $exported/model.json && $exported/model.json -nt $WEIGHTS && $(cat "$exported.from" 2>/dev/null) == "$WEIGHTS" ]] &&
        say "$exported/model.json is there" && return
    "$PYTHON" export_model.py --model="$MODEL_NAME" --train_interpolation=bilinear --resume="$WEIGHTS" \
        --output_dir="$exported" || die "no exported folder for $MODE: exporting it failed"
    printf '%s\n' "$WEIGHTS" >"$exported.from"
}

use_project_python
make_images
case $MODE in
    whole_infer | klquant_whole_infer | serving_infer) make_weights ;;
    paddle2onnx_infer | cpp_infer) make_weights && make_exported ;;
esac
say "$MODEL_NAME is ready for $MODE"
