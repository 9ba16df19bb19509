"""Where the packages meet for the scripts: data sets, trained models, public weights, evaluation and its report."""

from .cpu_program import open_cpu_engine
from .data import TrainingData, open_datasets, open_train_images, open_val_images, with_classes
from .evaluation import (
    data_to_evaluate,
    evaluate_trained,
    remarks_on_average,
    trained_configs,
    weights_to_evaluate,
)
from .finetune_remarks import with_finetune_remarks
from .plain_folder import keep_split
from .predict_images import check_inputs, find_images_and_lists
from .public_weights import choose_start, fetch_public, with_public_weights
from .report import evaluate_and_report, prepare_report
from .run_length import with_run_length
from .run_log import log_config, log_cpu_threads, log_end, log_sizes
from .trained import TrainedModel, list_models_or_check, read_trained

__all__ = [
    "TrainedModel",
    "TrainingData",
    "check_inputs",
    "choose_start",
    "data_to_evaluate",
    "evaluate_and_report",
    "evaluate_trained",
    "fetch_public",
    "find_images_and_lists",
    "keep_split",
    "list_models_or_check",
    "log_config",
    "log_cpu_threads",
    "log_end",
    "log_sizes",
    "open_cpu_engine",
    "open_datasets",
    "open_train_images",
    "open_val_images",
    "prepare_report",
    "read_trained",
    "remarks_on_average",
    "trained_configs",
    "weights_to_evaluate",
    "with_classes",
    "with_finetune_remarks",
    "with_public_weights",
    "with_run_length",
]
