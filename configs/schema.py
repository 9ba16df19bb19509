"""Every knob of the project: name, type, default, range and meaning; one frozen dataclass for each reader.

A knob's flag is its name (`batch_size` is `--batch_size`); a recipe uses the same names. Names and defaults are those
of PeleeNet-paddle wherever it has the knob; the README lists the few defaults that differ.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from common.errors import UsageError


def knob(
    default: Any,
    meaning: str,
    *,
    choices: tuple = (),
    low: float | None = None,
    high: float | None = None,
    aliases: tuple[str, ...] = (),
    style: str = "value",
    compat: bool = False,
) -> Any:
    """Declare a knob.

    `low` and `high` are inclusive. `style` says how a boolean is written: "flag" (`--eval`), "pair" (`--x`, `--no_x`)
    or "text" (`--use_gpu True`). `compat` marks a knob that is accepted for old command lines and that nothing reads.
    """
    metadata = {
        "meaning": meaning,
        "choices": choices,
        "low": low,
        "high": high,
        "aliases": aliases,
        "style": style,
        "compat": compat,
    }
    return dataclasses.field(default=default, metadata=metadata)


def check_two(name: str, values: tuple[float, ...], *, example: str) -> None:
    if len(values) != 2:
        raise UsageError(f"--{name} takes two values, got {len(values)}; for example {example}")


def check_range(name: str, values: tuple[float, ...], *, example: str) -> None:
    check_two(name, values, example=example)
    if values[0] > values[1]:
        raise UsageError(f"--{name} {values[0]} {values[1]}: the smaller one comes first; for example {example}")


# ---------------------------------------------------------------------------------------------------- shared branches


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    model: str = knob("peleenet", "name of the network; --list_models prints all")
    nb_classes: int = knob(1000, "number of classes", low=1)
    input_size: int = knob(224, "side of the square input in pixels", low=1)
    list_models: bool = knob(False, "print the names of all networks and exit", style="flag")


@dataclass(frozen=True)
class PreprocessConfig:
    """How an image becomes numbers wherever nothing is random: eval, predict, export."""

    train_interpolation: str = knob(
        "bicubic",
        "resampling of resized images; random draws one for each training image and is bicubic in evaluation",
        choices=("random", "bilinear", "bicubic"),
    )
    exif_orientation: str = knob(
        "ignore", "turn photographs as their EXIF orientation says (apply) or not (ignore)", choices=("ignore", "apply")
    )
    eval_image_backend: str | None = knob(
        None,
        "reads images that are not trained on: pil as published, cv2 and turbo faster and nearly so; default: pil in "
        "training, then what the checkpoint was evaluated with",
        choices=("pil", "cv2", "turbo"),
    )


@dataclass(frozen=True)
class DeviceConfig:
    """Where it runs."""

    device: str = knob("auto", "auto, cpu, gpu or gpu:N; auto takes a GPU where Paddle sees one")

    def __post_init__(self):
        if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", self.device, re.ASCII):
            raise UsageError(f"--device: unknown device {self.device!r}; known: auto, cpu, gpu, gpu:N")


@dataclass(frozen=True)
class EvalDataConfig:
    """The images that are evaluated, and how they are read."""

    data_path: str = knob(
        "/datasets/imagenet/", "root of the data; without list files its train/ and val/ hold a folder a class"
    )
    cls_label_path_val: str | None = knob(
        None, "list file of the validation images: a line each, relative path, blank, label"
    )
    batch_size: int = knob(64, "images a batch on each device", low=1)
    num_workers: int | None = knob(
        None, "processes or threads that read images, for each rank; default: what the machine has", low=0
    )
    worker_type: str = knob(
        "auto",
        "what reads images; auto: processes, and threads where none can be started or shared memory is short",
        choices=("auto", "process", "thread"),
    )
    dist_eval: bool = knob(
        False, "accepted: evaluation is always shared out over the ranks, and always exact", style="flag", compat=True
    )


@dataclass(frozen=True)
class WeightsConfig:
    """Where the weights come from."""

    resume: str = knob("", "checkpoint or weights file: .pd, .pdparams, .safetensors, or a PyTorch .pth")
    use_ema: bool = knob(False, "take the averaged weights (model_ema) of the checkpoint", style="flag")

    def __post_init__(self):
        if self.resume == "auto":  # the config.yaml of a run that was resumed says so
            raise UsageError("--resume auto is for main.py alone; name the file of weights")


# ---------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to a training image."""

    cls_label_path_train: str | None = knob(
        None, "list file of the training images: a line each, relative path, blank, label"
    )
    image_backend: str = knob(
        "pil",
        "decodes training images: pil exactly; cv2 and turbo faster and nearly so; auto takes the fastest installed",
        choices=("pil", "cv2", "turbo", "auto"),
    )
    on_bad_image: str = knob(
        "error", "a training image that cannot be read ends the run, or is left out", choices=("error", "skip")
    )
    max_bad_images: int = knob(100, "different images that a process may leave out before it ends", low=0)
    scale: tuple[float, ...] = knob(
        (0.08, 1.0), "smallest and largest share of the image's area in a crop", low=0, high=1
    )
    ratio: tuple[float, ...] = knob((3 / 4, 4 / 3), "smallest and largest width by height of a crop", low=0.01)
    hflip: float = knob(0.5, "probability of a horizontal flip", low=0, high=1)
    aa: str = knob(
        "rand-m9-mstd0.5-inc1",
        "automatic augmentation: rand-..., augmix-..., v0, v0r, original, originalr; '' turns it off",
    )
    color_jitter: float | None = knob(None, "strength of colour jitter, used where --aa is off", low=0)
    reprob: float = knob(0.25, "probability of random erasing", low=0, high=1)
    remode: str = knob("pixel", "what an erased box is filled with", choices=("const", "rand", "pixel"))
    recount: int = knob(1, "most boxes erased in an image", low=1)
    resplit: bool = knob(False, "accepted: the predecessor never used it", style="flag", compat=True)

    def __post_init__(self):
        check_range("scale", self.scale, example="0.08 1.0")
        check_range("ratio", self.ratio, example="0.75 1.333")


@dataclass(frozen=True)
class MixConfig:
    """Mixing of training images and softening of labels."""

    smoothing: float = knob(0.1, "label smoothing", low=0, high=1)
    mixup: float = knob(0.8, "alpha of mixup; 0 turns it off", low=0)
    cutmix: float = knob(1.0, "alpha of cutmix; 0 turns it off", low=0)
    cutmix_minmax: tuple[float, ...] | None = knob(
        None, "smallest and largest side of the cutmix box, as a share", low=0, high=1
    )
    mixup_prob: float = knob(1.0, "probability of mixing a batch", low=0, high=1)
    mixup_switch_prob: float = knob(0.5, "probability of cutmix where both are on", low=0, high=1)
    mixup_mode: str = knob("batch", "what draws its own parameters", choices=("batch", "pair", "elem"))

    def __post_init__(self):
        if self.cutmix_minmax is not None:
            check_range("cutmix_minmax", self.cutmix_minmax, example="0.2 0.8")


@dataclass(frozen=True)
class OptimConfig:
    """How a gradient changes the weights."""

    opt: str = knob("adamw", "optimizer", choices=("adamw", "momentum", "sgd", "rmsprop"))
    momentum: float = knob(0.9, "of momentum and rmsprop", low=0, high=1)
    weight_decay: float = knob(0.05, "decoupled for adamw, added to the gradient (L2) for the others", low=0)
    decay_norm_and_bias: bool | None = knob(
        None,
        "decay batch norm and biases too; default: as published, no for adamw and yes for the others",
        style="pair",
    )
    opt_eps: float = knob(1e-8, "epsilon of adamw and rmsprop", low=0)
    opt_betas: tuple[float, ...] | None = knob(None, "the two betas of adamw; default 0.9 0.999", low=0, high=1)
    opt_alpha: float = knob(0.99, "smoothing of the squares in rmsprop", low=0, high=1)
    clip_grad: float | None = knob(None, "clip the gradient to this global norm", low=0)
    accum_iter: int = knob(1, "batches whose gradients are added before a step", low=1)
    use_amp: bool = knob(False, "mixed precision on a GPU", style="pair")
    amp_dtype: str = knob("float16", "type of mixed precision", choices=("float16", "bfloat16"))
    sync_bn: bool = knob(False, "batch norm over the batches of all GPUs together", style="pair")
    model_ema: bool = knob(False, "keep a moving average of the weights", style="pair")
    model_ema_decay: float = knob(0.9999, "decay of that average", low=0, high=1)
    model_ema_eval: bool = knob(False, "evaluate the average too after every epoch", style="pair")

    def __post_init__(self):
        if self.opt_betas is not None:
            check_two("opt_betas", self.opt_betas, example="0.9 0.999")
            if 1 in self.opt_betas:
                raise UsageError(f"--opt_betas {self.opt_betas[0]} {self.opt_betas[1]}: expected numbers below 1")
        if self.clip_grad == 0:
            raise UsageError("--clip_grad 0 would make every gradient 0; leave it out to clip nothing")
        if self.model_ema_eval and not self.model_ema:
            raise UsageError("--model_ema_eval needs --model_ema")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate of every step."""

    epochs: int = knob(300, "number of epochs", low=1)
    lr: float | None = knob(None, "learning rate; default: blr * effective batch size / 512", low=0)
    blr: float = knob(5e-4, "learning rate for an effective batch of 512", low=0)
    sched: str = knob(
        "cosine",
        "cosine: falls at every step; step: times --decay_rate every --decay_epochs",
        choices=("cosine", "step"),
    )
    warmup_epochs: int = knob(5, "epochs of linear warm-up", low=0)
    warmup_lr: float = knob(0.0, "learning rate at the start of the warm-up", low=0)
    min_lr: float = knob(1e-6, "learning rate at the end of cosine", low=0)
    t_in_epochs: bool = knob(False, "change the learning rate only between epochs", style="pair")
    decay_epochs: int = knob(30, "epochs between two drops of --sched step", low=1)
    decay_rate: float = knob(0.1, "factor of a drop of --sched step", low=0, high=1)


@dataclass(frozen=True)
class RunConfig:
    """Start, stop, save and report."""

    output_dir: str = knob("", "folder of checkpoints, log.txt and config.yaml; '' saves nothing")
    resume: str = knob("", "checkpoint to go on from; auto takes the newest good one of --output_dir")
    resume_ema: str = knob("", "checkpoint whose averaged weights are taken instead")
    finetune: str = knob("", "weights to start from")
    remove_head_from_pretained: bool = knob(
        False, "leave out the classifier of --finetune even if it fits", style="pair"
    )
    start_epoch: int = knob(0, "first epoch of a run that does not resume", low=0)
    eval: bool = knob(False, "evaluate and exit", style="flag")
    seed: int = knob(0, "of every random draw", low=0, high=2**64 - 1)
    debug: bool = knob(False, "deterministic algorithms on a GPU", style="flag")
    log_every: int = knob(20, "steps between two log lines", low=1)
    save_freq: int = knob(20, "epochs between two numbered checkpoints", low=1)
    save_steps: int | None = knob(None, "also write checkpoint-latest.pd every so many steps", low=1)
    keep_last: int | None = knob(None, "numbered checkpoints to keep, the newest; default: all", low=1)
    save_attempts: int = knob(3, "failed saves in a row, of a full disk, that end the run", low=1)
    skip_nonfinite: int = knob(0, "steps of the run that may be left out because a number is not finite", low=0)
    stall_seconds: float = knob(900.0, "end the run when no batch moved for so long; 0 waits for ever", low=0)
    label_list: str = knob("", "file of class names, `<id> <names>` a line; kept in the checkpoint")
    log_wandb: bool = knob(False, "also log to Weights & Biases", style="flag")
    wandb_entity: str | None = knob(None, "entity of --log_wandb")
    wandb_project: str | None = knob(None, "project of --log_wandb")


@dataclass(frozen=True)
class TrainConfig:
    """main.py"""

    model: ModelConfig
    preprocess: PreprocessConfig
    device: DeviceConfig
    data: EvalDataConfig
    augment: AugmentConfig
    mix: MixConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    run: RunConfig

    def __post_init__(self):
        if self.run.resume == "auto" and not self.run.output_dir:
            raise UsageError("--resume auto looks for checkpoints in --output_dir, which is not given")
        if self.run.eval and not (self.run.resume or self.run.finetune):
            raise UsageError("--eval needs weights, random ones are never evaluated; give them with --resume")
        if self.run.resume_ema and not self.optim.model_ema:
            raise UsageError("--resume_ema needs --model_ema")


# ---------------------------------------------------------------------------------------------------- the other scripts


@dataclass(frozen=True)
class EvalConfig:
    """eval.py"""

    model: ModelConfig
    preprocess: PreprocessConfig
    device: DeviceConfig
    data: EvalDataConfig
    weights: WeightsConfig


@dataclass(frozen=True)
class PredictImagesConfig:
    """The images of predict.py and what is said of them."""

    infer_imgs: tuple[str, ...] = knob((), "images or folders of images (searched recursively)")
    batch_size: int = knob(1, "images a batch", low=1)
    label_list: str = knob("", "file of class names; default: those of the checkpoint, or ImageNet's for 1000 classes")
    save_path: str = knob("", "also write the predictions to this .json, .jsonl or .csv file")
    topk: int = knob(5, "classes named for each image", low=1)
    use_amp: bool = knob(False, "half precision on a GPU, as the predecessor always did", style="pair")


@dataclass(frozen=True)
class PredictConfig:
    """predict.py"""

    model: ModelConfig
    preprocess: PreprocessConfig
    device: DeviceConfig
    weights: WeightsConfig
    images: PredictImagesConfig


EXPORT_FORMATS = ("paddle", "pdmodel", "pdmodel-b1", "onnx", "onnx-int8", "paddlex")


@dataclass(frozen=True)
class ExportOutputConfig:
    """What export_model.py writes."""

    output_dir: str = knob("", "folder to write", aliases=("output",))
    format: str = knob(
        "paddle,pdmodel",
        "programs to write, separated by commas: paddle (model.json), pdmodel (Paddle 2's form), "
        "pdmodel-b1 (the same for one image at a time, faster with OpenVINO), onnx, onnx-int8, paddlex "
        "(inference.json, with a softmax)",
    )
    label_list: str = knob(
        "",
        "file of class names; default: those of the checkpoint, or ImageNet's for 1000 classes",
        aliases=("class_names",),
    )
    check_images: str = knob(
        "", "image or folder on which the programs are compared with the eager model, after four fixed pictures"
    )

    def __post_init__(self):
        for name in self.format.split(","):
            if name not in EXPORT_FORMATS:
                raise UsageError(f"--format: unknown program {name!r}; known: {', '.join(EXPORT_FORMATS)}")


@dataclass(frozen=True)
class QuantizeConfig:
    """How --format onnx-int8 is made and judged."""

    calibration_images: str = knob("", "image or folder, of the training data, on which the ranges are found")
    calibration_method: str = knob("minmax", "how they are found", choices=("minmax", "entropy", "percentile"))
    num_calibration: int = knob(128, "most images used of --calibration_images, spread evenly", low=1)
    data_path: str = knob("", "root of the validation images on which int8 is compared with fp32")
    cls_label_path_val: str | None = knob(None, "list file of these images; default: the folders of DATA_PATH/val")
    max_drop: float = knob(1.0, "points of top-1 that int8 may lose on them", low=0)


@dataclass(frozen=True)
class ExportConfig:
    """export_model.py"""

    model: ModelConfig
    preprocess: PreprocessConfig
    weights: WeightsConfig
    export: ExportOutputConfig
    quantize: QuantizeConfig

    def __post_init__(self):
        is_int8 = "onnx-int8" in self.export.format.split(",")
        if is_int8 and not self.quantize.calibration_images:
            raise UsageError("--format onnx-int8 needs --calibration_images, a folder of training images")
        if self.quantize.calibration_images and not is_int8:
            raise UsageError(f"--calibration_images are for onnx-int8, which is not in --format {self.export.format}")


@dataclass(frozen=True)
class InferEngineConfig:
    """The runtime of infer.py and its switches."""

    engine: str = knob(
        "paddle",
        "runtime; auto takes the fastest that the folder and this machine have, and says which",
        choices=("auto", "paddle", "onnxruntime", "openvino"),
    )
    model_file: str | None = knob(None, "exported folder, or a program in it: model.json, model.pdmodel, model.onnx")
    params_file: str | None = knob(None, "weights of a Paddle program: model.pdiparams; the card knows them")
    trust_program: bool = knob(
        False, "run a program that export_model.py did not write: its operators can read and write files", style="text"
    )
    use_gpu: bool = knob(True, "run on a GPU; on a machine without one it runs on the CPU and says so", style="text")
    gpu_id: int = knob(0, "which GPU", low=0)
    gpu_mem: int = knob(8000, "first size of the GPU memory pool in MB", low=1)
    precision: str = knob("fp32", "precision", choices=("fp32", "fp16", "int8"))
    ir_optim: bool = knob(True, "optimise the program at start", style="text")
    use_tensorrt: bool = knob(False, "run through TensorRT", style="text")
    enable_mkldnn: bool = knob(False, "run through oneDNN on a CPU", style="text")
    enable_openvino: bool = knob(False, "Paddle Inference runs model.pdmodel through OpenVINO on a CPU", style="text")
    cpu_threads: int | None = knob(None, "threads on a CPU; default: one a core", low=1)


@dataclass(frozen=True)
class InferImagesConfig:
    """The images of infer.py and what is said of them."""

    input_file: str | None = knob(None, "an image, or a folder (searched recursively)")
    batch_size: int = knob(1, "images a batch", low=1, aliases=("b",))
    topk: int = knob(5, "classes named for each image", low=1)
    threshold: float = knob(0.0, "leave out classes less probable than this", low=0, high=1)
    save_path: str = knob("", "also write the predictions to this .json, .jsonl or .csv file")
    resume_from: str = knob("", "file of an earlier --save_path: keep its records and run the images that it lacks")
    enable_benchmark: bool = knob(False, "report times, percentiles and memory at the end", style="text")
    train_interpolation: str = knob(
        "bicubic", "resampling for a model without a card", choices=("random", "bilinear", "bicubic")
    )
    label_list: str = knob("", "file of class names; default: those of the card, or ImageNet's for 1000 classes")


@dataclass(frozen=True)
class InferConfig:
    """infer.py"""

    engine: InferEngineConfig
    images: InferImagesConfig
