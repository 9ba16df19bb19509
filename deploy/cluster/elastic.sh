#!/bin/bash
# A node of a training that Paddle's elastic mode restarts, with an etcd that all nodes reach; on each of them:
# ETCD=10.0.0.1:2379 DATA=/datasets/imagenet OUTPUT=/shared/peleenet bash deploy/cluster/elastic.sh

set -eu
umask 077                                # the launcher writes the environment into its logs
JOB=${JOB:-peleenet}                     # a name of its own for each training in one etcd
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python   # or etcd3 0.12 does not import beside protobuf 4 and later
export GRPC_ENABLE_FORK_SUPPORT=false                  # or a rank now and then aborts when the launcher starts it

# The supervisor starts the launcher again where it gives up: docs/reliability.md says when.
exec python -m engine.supervise --patience 10 -- \
    python -m paddle.distributed.launch --master "etcd://$ETCD" --nnodes "${NNODES:-2}" --job_id "$JOB" \
        --elastic_level 1 --max_restart 10 --elastic_timeout 30 --log_dir "/tmp/launch-$JOB" \
    main.py --config configs/recipes/peleenet_imagenet_120.yaml --data_path "$DATA" --output_dir "$OUTPUT" \
        --resume auto --save_steps 500 --keep_last 3
