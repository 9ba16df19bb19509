"""Every flag of the five scripts: name, type, default, range, meaning, and what a resumed run does when it changed.

One frozen dataclass is one branch of a config, for the constructors that read it. A flag's name is that of its field
(`batch_size` is `--batch_size`); a recipe uses the same names. Names and defaults are those of PeleeNet-paddle wherever
it has the flag; the README lists the few defaults that differ.
"""

import re
from dataclasses import dataclass

from common.cli import did_you_mean
from common.errors import UsageError

from .declare import check_range, check_two, flag

# ---------------------------------------------------------------------------------------------------- shared branches


@dataclass(frozen=True)
class ModelConfig:
    """Model"""

    name: str = flag("peleenet", "name of the network; --list_models prints all", spelled="model", on_resume="refuse")
    nb_classes: int | None = flag(None, "number of classes; default: that of the data", low=1, on_resume="refuse")
    list_models: bool = flag(False, "print the names of all networks and exit", style="flag", on_resume="ignore")


@dataclass(frozen=True)
class PreprocessConfig:
    """Preprocessing: how an image becomes numbers where nothing is random"""

    input_size: int = flag(224, "side of the square input in pixels", low=1, on_resume="warn")
    train_interpolation: str = flag(
        "bicubic",
        "interpolation of resized images; random draws one for each training image and is bicubic in evaluation",
        choices=("random", "bilinear", "bicubic"),
        on_resume="warn",
    )
    exif_orientation: str = flag(
        "ignore",
        "rotate photographs as their EXIF orientation says (apply) or not (ignore)",
        choices=("ignore", "apply"),
        on_resume="warn",
    )
    eval_image_backend: str | None = flag(
        None,
        "decoder of images outside training: pil as published, cv2 and turbo faster, to nearly the same pixels; "
        "default: pil in training, elsewhere the decoder that the checkpoint was evaluated with",
        choices=("pil", "cv2", "turbo"),
        on_resume="warn",
    )
    fit: str = flag(
        "crop",
        "how an image is fitted into the square: crop cuts out the centre (in training a random part), squash "
        "stretches the whole image, letterbox keeps its shape and fills the border with the mean colour",
        choices=("crop", "squash", "letterbox"),
        on_resume="warn",
    )
    crop_pct: float | None = flag(
        None,
        "side of the square as a share of the short side of the resized image, above 0, for --fit crop in evaluation; "
        "default: as published, 0.875",
        low=0,
        high=1,
        on_resume="warn",
    )

    def __post_init__(self):
        if self.crop_pct == 0:
            raise UsageError("--crop_pct 0: expected a number above 0 and at most 1; 0.875 is published, 1 cuts least")
        if self.fit not in (None, "crop") and self.crop_pct not in (None, 1):
            raise UsageError(
                f"--crop_pct {self.crop_pct} is for --fit crop; {self.fit} cuts nothing off: leave out one of them"
            )


@dataclass(frozen=True)
class DeviceConfig:
    """Device"""

    device: str = flag("auto", "auto, cpu, gpu or gpu:N; auto takes a GPU if Paddle finds one", on_resume="ignore")
    cpu_threads: int | None = flag(
        None,
        "threads that compute on a CPU; default: OMP_NUM_THREADS, else the usable processors, shared by the ranks of "
        "the machine, less one for the readers in a training on images below 160 pixels",
        low=1,
        on_resume="ignore",
    )

    def __post_init__(self):
        if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", self.device, re.ASCII):
            meant = re.sub("^cuda", "gpu", self.device)  # PyTorch's name of a GPU
            hint = f"; did you mean {meant}?" if re.fullmatch(r"gpu(:\d+)?", meant, re.ASCII) else ";"
            raise UsageError(f"--device: unknown device {self.device!r}{hint} known: auto, cpu, gpu, gpu:N")


@dataclass(frozen=True)
class TrainDeviceConfig(DeviceConfig):
    """Device"""

    onednn: bool = flag(
        True,
        "on a CPU, let oneDNN compute the convolutions of the training, where Paddle has it; the last bits differ",
        style="pair",
        on_resume="ignore",
    )


@dataclass(frozen=True)
class DataConfig:
    """Data"""

    data_path: str = flag(
        "/datasets/imagenet/",
        "root of the data: without list files it holds one folder per class, or train/ and val/ with one each",
        on_resume="ignore",
    )
    cls_label_path_val: str | None = flag(
        None, "list file of the validation images, one `<relative path> <label>` per line", on_resume="warn"
    )


@dataclass(frozen=True)
class EvalDataConfig(DataConfig):
    """Data: by default what the checkpoint says"""

    data_path: str | None = flag(
        None, "root of the data; default: that of the checkpoint with its validation images, else /datasets/imagenet/"
    )


@dataclass(frozen=True)
class LoaderConfig:
    """Loading"""

    batch_size: int = flag(64, "images per batch on each device", low=1, on_resume="warn")
    num_workers: int | None = flag(
        None,
        "processes or threads per rank that read images; default: the processors of the machine, shared by its ranks",
        low=0,
        on_resume="ignore",
    )
    worker_type: str = flag(
        "auto",
        "what reads images; auto: processes, or threads where no process can start or shared memory is short",
        choices=("auto", "process", "thread"),
        on_resume="ignore",
    )
    dist_eval: bool = flag(
        False,
        "accepted: evaluation is always distributed over the ranks, and always exact",
        style="flag",
        compat=True,
        on_resume="ignore",
    )
    on_bad_image: str = flag(
        "error",
        "an image that cannot be decoded ends the run (error), or is left out of the training and counted as wrong "
        "in the evaluation (skip)",
        choices=("error", "skip"),
        on_resume="warn",
    )
    max_bad_images: int = flag(
        100, "number of different images that one process may leave out", low=0, on_resume="warn"
    )


@dataclass(frozen=True)
class TrainedModelConfig(ModelConfig):
    """Model: by default what the checkpoint says"""

    name: str | None = flag(
        None, "name of the network; default: that of the checkpoint, else peleenet", spelled="model"
    )
    nb_classes: int | None = flag(
        None, "number of classes; default: that of the checkpoint, else the outputs of the weights", low=1
    )
    list_models: bool = flag(False, "print the names of all networks and exit", style="flag")


@dataclass(frozen=True)
class TrainedPreprocessConfig(PreprocessConfig):
    """Preprocessing: by default what the checkpoint says"""

    input_size: int | None = flag(
        None, "side of the square input in pixels; default: that of the checkpoint, else 224", low=1
    )
    train_interpolation: str | None = flag(
        None,
        "interpolation of resized images; random means bicubic; default: that of the checkpoint, else bicubic",
        choices=("random", "bilinear", "bicubic"),
    )
    exif_orientation: str | None = flag(
        None,
        "rotate photographs as their EXIF orientation says (apply) or not (ignore); default: that of the checkpoint, "
        "else ignore",
        choices=("ignore", "apply"),
    )
    eval_image_backend: str | None = flag(
        None,
        "decoder of images: pil as published, cv2 and turbo faster, to nearly the same pixels; default: the decoder "
        "that the checkpoint was evaluated with, else pil",
        choices=("pil", "cv2", "turbo"),
    )
    fit: str | None = flag(
        None,
        "how an image is fitted into the square: crop cuts out the centre, squash stretches the whole image, letterbox "
        "keeps its shape and fills the border with the mean colour; default: that of the checkpoint, else crop",
        choices=("crop", "squash", "letterbox"),
    )
    crop_pct: float | None = flag(
        None,
        "side of the square as a share of the short side of the resized image, above 0, for --fit crop; default: that "
        "of the checkpoint, else 0.875",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class TrainedDeviceConfig(DeviceConfig):
    """Device"""

    eager: bool = flag(
        False,
        "compute with the eager model on a CPU too; by default, for many images, its program computes, which is faster "
        "and is checked against the eager model",
        style="text",
    )


@dataclass(frozen=True)
class WeightsConfig:
    """Weights"""

    resume: str = flag("", "checkpoint or weights file: .pd, .pdparams, .safetensors, or a PyTorch .pth")
    use_ema: bool = flag(False, "take the averaged weights (model_ema) of the checkpoint", style="flag")
    pretrained: str = flag(
        "",
        "public weights to take where --resume is not given, downloaded once; python -m models.pretrained lists them; "
        "without a value: those of the network",
        style="optional",
    )
    weights_dir: str = flag("", "folder of downloaded weights; default: ~/.cache/peleenet-paddle/weights")

    def __post_init__(self):
        if self.resume == "auto":  # the config.yaml of a resumed run has this value
            raise UsageError("--resume auto is for main.py alone; name the file of weights")


# ---------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class TrainDataConfig(DataConfig):
    """Data"""

    cls_label_path_train: str | None = flag(
        None, "list file of the training images, one `<relative path> <label>` per line", on_resume="ignore"
    )
    label_list: str = flag(
        "", "file of class names, one `<id> <name>` per line; saved in the checkpoint", on_resume="ignore"
    )
    resplit: bool = flag(
        False, "accepted: the predecessor never used it", style="flag", compat=True, on_resume="ignore"
    )


@dataclass(frozen=True)
class TrainLoaderConfig(LoaderConfig):
    """Loading"""

    image_backend: str = flag(
        "pil",
        "decoder of training images: pil exact; cv2 and turbo faster, to nearly the same pixels; auto takes the "
        "fastest that is installed",
        choices=("pil", "cv2", "turbo", "auto"),
        on_resume="warn",
    )
    balanced_sampling: bool = flag(
        False,
        "draw every class equally often: images of rare classes several times in an epoch, each time with other "
        "random changes",
        style="pair",
        on_resume="refuse_inside_epoch",
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation: random changes to a training image"""

    crop: str = flag(
        "resized",
        "random crop of a training image; resized: a rectangle of --scale and --ratio, resized to the square; pad4 (or "
        "another number): the image as it is evaluated, with a border of 4 pixels, of which a square of the input size "
        "is cut out",
        on_resume="warn",
    )
    scale: tuple[float, ...] = flag(
        (0.08, 1.0),
        "smallest and largest area of a random resized crop, as a share of the image",
        low=0,
        high=1,
        on_resume="warn",
    )
    ratio: tuple[float, ...] = flag(
        (3 / 4, 4 / 3), "smallest and largest width / height of a random resized crop", low=0.01, on_resume="warn"
    )
    hflip: float = flag(0.5, "probability of a horizontal flip", low=0, high=1, on_resume="warn")
    aa: str = flag(
        "rand-m9-mstd0.5-inc1",
        "automatic augmentation policy: rand-..., augmix-..., v0, v0r, original, originalr; '' turns it off",
        on_resume="warn",
    )
    color_jitter: float | None = flag(
        None, "strength of colour jitter, used where --aa is off", low=0, on_resume="warn"
    )
    reprob: float = flag(0.25, "probability of random erasing", low=0, high=1, on_resume="warn")
    remode: str = flag("pixel", "content of an erased box", choices=("const", "rand", "pixel"), on_resume="warn")
    recount: int = flag(1, "largest number of boxes erased in one image", low=1, on_resume="warn")

    def __post_init__(self):
        if not re.fullmatch(r"resized|pad[1-9]\d{0,3}", self.crop, re.ASCII):
            raise UsageError(f"--crop {self.crop!r}: expected resized, or pad and a number of pixels, for example pad4")
        check_range("scale", self.scale, example="0.08 1.0")
        check_range("ratio", self.ratio, example="0.75 1.333")

    @property
    def padding(self) -> int:
        """Width of the border of a random crop with padding, in pixels; 0 for a random resized crop."""
        return int(self.crop.removeprefix("pad")) if self.crop.startswith("pad") else 0


@dataclass(frozen=True)
class MixConfig:
    """Mixup, cutmix and label smoothing"""

    smoothing: float = flag(0.1, "label smoothing", low=0, high=1, on_resume="warn")
    mixup: float = flag(0.8, "alpha of mixup; 0 turns it off", low=0, on_resume="warn")
    cutmix: float = flag(1.0, "alpha of cutmix; 0 turns it off", low=0, on_resume="warn")
    cutmix_minmax: tuple[float, ...] | None = flag(
        None,
        "smallest and largest side of the cutmix box, as a share of the image's; sets the alpha of cutmix to 1",
        low=0,
        high=1,
        on_resume="warn",
    )
    mixup_prob: float = flag(1.0, "probability that a batch is mixed", low=0, high=1, on_resume="warn")
    mixup_switch_prob: float = flag(
        0.5, "probability of cutmix where mixup and cutmix are both on", low=0, high=1, on_resume="warn"
    )
    mixup_mode: str = flag(
        "batch",
        "what draws parameters of its own: the batch, each pair of images, each element",
        choices=("batch", "pair", "elem"),
        on_resume="warn",
    )

    def __post_init__(self):
        if self.cutmix_minmax is not None:
            check_range("cutmix_minmax", self.cutmix_minmax, example="0.2 0.8")


@dataclass(frozen=True)
class LossConfig:
    """Loss: classes that count more, images that count more"""

    class_weights: str = flag(
        "",
        "weights of the classes in the loss: balanced (the rarer a class, the larger), or a file of "
        "`<class> <weight>` lines",
        on_resume="warn",
    )
    focal_gamma: float = flag(
        0.0,
        "gamma of the focal loss: images that are classified well count less; 0 turns it off",
        low=0,
        on_resume="warn",
    )


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer"""

    opt: str = flag("adamw", "optimizer", choices=("adamw", "momentum", "sgd", "rmsprop"), on_resume="refuse")
    momentum: float = flag(0.9, "momentum of momentum and rmsprop", low=0, high=1, on_resume="warn")
    weight_decay: float = flag(
        0.05,
        "weight decay: decoupled for adamw, added to the gradient (L2) for the others",
        low=0,
        on_resume="warn",
    )
    decay_norm_and_bias: bool | None = flag(
        None,
        "decay batch norm parameters and biases too; default as published: no for adamw, yes for the others",
        style="pair",
        on_resume="warn",
    )
    opt_eps: float = flag(1e-8, "epsilon of adamw and rmsprop", low=0, on_resume="warn")
    opt_betas: tuple[float, ...] | None = flag(
        None, "the two betas of adamw; default: 0.9 0.999", low=0, high=1, on_resume="warn"
    )
    opt_alpha: float = flag(
        0.99, "smoothing constant of the squared gradients in rmsprop", low=0, high=1, on_resume="warn"
    )
    clip_grad: float | None = flag(
        None, "clip the gradient to this global norm; default: no clipping", low=0, on_resume="warn"
    )
    accum_iter: int = flag(
        1, "batches whose gradients are accumulated before one optimizer step", low=1, on_resume="warn"
    )
    use_amp: bool = flag(False, "mixed precision on a GPU", style="pair", on_resume="warn")
    amp_dtype: str = flag("float16", "type of mixed precision", choices=("float16", "bfloat16"), on_resume="warn")
    sync_bn: bool = flag(False, "batch norm statistics over the batches of all GPUs", style="pair", on_resume="warn")
    backbone_lr_mult: float = flag(
        1.0,
        "learning rate of all layers but the classifier, as a share of --lr; 1 where a run starts without weights",
        low=0,
        high=1,
        on_resume="warn",
    )
    layer_decay: float | None = flag(
        None,
        "each layer learns at this share of the rate of the layer after it; default: all at --lr; off where a run "
        "starts without weights",
        low=0,
        high=1,
        on_resume="warn",
    )
    freeze: str = flag(
        "",
        "layers that keep the weights they start with: backbone (all but the classifier), or the number of layers "
        "from the input",
        on_resume="refuse",
    )

    @property
    def betas(self) -> tuple[float, ...]:
        """The two betas of adamw."""
        return self.opt_betas or (0.9, 0.999)

    def __post_init__(self):
        check_two("opt_betas", self.betas, example="0.9 0.999")
        if 1 in self.betas:
            raise UsageError(f"--opt_betas {self.betas[0]} {self.betas[1]}: expected numbers below 1")
        if self.clip_grad == 0:
            raise UsageError("--clip_grad 0 would make every gradient 0; leave it out to clip nothing")
        if self.backbone_lr_mult == 0 or self.layer_decay == 0:
            name = "layer_decay" if self.layer_decay == 0 else "backbone_lr_mult"
            raise UsageError(f"--{name} 0 would train the classifier alone; that is --freeze backbone")
        if not re.fullmatch(r"|backbone|[1-9]\d{0,5}", self.freeze, re.ASCII):
            raise UsageError(f"--freeze: expected backbone or a number of layers, at least 1, got {self.freeze!r}")
        has_rates = self.backbone_lr_mult != 1 or self.layer_decay is not None
        if self.backbone_lr_mult != 1 and self.layer_decay is not None:
            raise UsageError(
                "--backbone_lr_mult and --layer_decay both set the learning rates of layers; leave one out"
            )
        if self.freeze == "backbone" and has_rates:
            raise UsageError(
                "--freeze backbone leaves no layer for --backbone_lr_mult or --layer_decay; leave them out"
            )
        if self.freeze and self.sync_bn:
            raise UsageError("--freeze and --sync_bn cannot be combined: a frozen batch norm computes no statistics")


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the weights"""

    model_ema: bool = flag(False, "keep an exponential moving average of the weights", style="pair", on_resume="warn")
    model_ema_decay: float = flag(0.9999, "decay of the moving average", low=0, high=1, on_resume="warn")
    model_ema_eval: bool = flag(
        False, "evaluate the moving average too, after every epoch", style="pair", on_resume="warn"
    )

    def __post_init__(self):
        if self.model_ema_eval and not self.model_ema:
            raise UsageError("--model_ema_eval needs --model_ema")


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate schedule"""

    epochs: int = flag(300, "number of epochs", low=1, on_resume="warn")
    lr: float | None = flag(
        None, "peak learning rate; default: blr * effective batch size / 512", low=0, on_resume="warn"
    )
    blr: float = flag(5e-4, "peak learning rate for an effective batch size of 512", low=0, on_resume="warn")
    sched: str = flag(
        "cosine",
        "cosine: changes at every step; step: multiplied by --decay_rate every --decay_epochs epochs",
        choices=("cosine", "step"),
        on_resume="warn",
    )
    warmup_epochs: int = flag(5, "epochs of linear warm-up", low=0, on_resume="warn")
    warmup_lr: float = flag(0.0, "learning rate at the start of the warm-up", low=0, on_resume="warn")
    min_lr: float = flag(1e-6, "learning rate at the end of the cosine schedule", low=0, on_resume="warn")
    t_in_epochs: bool = flag(False, "change the learning rate between epochs only", style="pair", on_resume="warn")
    decay_epochs: int = flag(30, "epochs between two drops of --sched step", low=1, on_resume="warn")
    decay_rate: float = flag(0.1, "factor of one drop of --sched step", low=0, high=1, on_resume="warn")
    min_steps: int = flag(
        0,
        "smallest number of steps (updates of the weights) of the whole run: with few images --epochs is raised to it",
        low=0,
        on_resume="ignore",
    )
    patience: int | None = flag(
        None, "end the run after this number of epochs without a better top-1; default: never", low=1, on_resume="warn"
    )


@dataclass(frozen=True)
class ResumeConfig:
    """Resume and fine-tuning"""

    resume: str = flag(
        "", "checkpoint to continue from; auto takes the newest good one of --output_dir", on_resume="ignore"
    )
    resume_ema: str = flag("", "checkpoint whose averaged weights are taken instead", on_resume="ignore")
    finetune: str = flag("", "weights to start from", on_resume="ignore")
    pretrained: str = flag(
        "",
        "public weights to start from, downloaded once; python -m models.pretrained lists them; without a value: those "
        "of the network",
        style="optional",
        on_resume="ignore",
    )
    weights_dir: str = flag(
        "", "folder of downloaded weights; default: ~/.cache/peleenet-paddle/weights", on_resume="ignore"
    )
    remove_head_from_pretained: bool = flag(
        False,
        "leave out the classifier of --finetune or --pretrained even if it fits",
        style="pair",
        on_resume="ignore",
    )
    start_epoch: int = flag(0, "first epoch of a run that does not resume", low=0, on_resume="ignore")

    def __post_init__(self):
        if self.finetune and self.pretrained:
            raise UsageError("--finetune and --pretrained both name weights to start from; leave one of them out")


TRACKERS = ("visualdl", "tensorboard", "wandb")


@dataclass(frozen=True)
class OutputConfig:
    """Output: checkpoints and logs"""

    output_dir: str = flag("", "folder of checkpoints, log.txt and config.yaml; '' saves nothing", on_resume="ignore")
    log_every: int = flag(20, "steps between two log lines", low=1, on_resume="ignore")
    save_freq: int = flag(20, "epochs between numbered checkpoints", low=1, on_resume="ignore")
    save_steps: int | None = flag(
        None, "also write checkpoint-latest.pd every this number of steps", low=1, on_resume="ignore"
    )
    keep_last: int | None = flag(
        None, "number of numbered checkpoints to keep, the newest; default: all", low=1, on_resume="ignore"
    )
    save_attempts: int = flag(
        3, "number of failed saves in a row, for example on a full disk, that ends the run", low=1, on_resume="ignore"
    )
    log_to: str = flag(
        "",
        "programs that also get the numbers of the run, separated by commas: visualdl, tensorboard, wandb",
        on_resume="ignore",
    )
    log_wandb: bool = flag(False, "also log to Weights & Biases; as --log_to wandb", style="flag", on_resume="ignore")
    wandb_entity: str | None = flag(None, "entity of --log_wandb", on_resume="ignore")
    wandb_project: str | None = flag(None, "project of --log_wandb", on_resume="ignore")

    def __post_init__(self):
        for name in self.trackers:
            if name not in TRACKERS:
                raise UsageError(
                    f"--log_to: unknown program {name!r}{did_you_mean(name, TRACKERS)}; known: {', '.join(TRACKERS)}"
                )

    @property
    def trackers(self) -> list[str]:
        """Names of the programs that get the numbers of the run, each once."""
        names = [name for name in self.log_to.split(",") if name] + ["wandb"] * self.log_wandb
        return list(dict.fromkeys(names))


@dataclass(frozen=True)
class RunConfig:
    """Run"""

    eval: bool = flag(False, "evaluate the weights and exit", style="flag", on_resume="ignore")
    seed: int = flag(0, "seed of every random draw", low=0, high=2**64 - 1, on_resume="refuse_inside_epoch")
    debug: bool = flag(False, "deterministic algorithms on a GPU", style="flag", on_resume="ignore")
    skip_nonfinite: int = flag(
        0,
        "number of steps of the run that may be skipped because loss or gradient is not finite",
        low=0,
        on_resume="ignore",
    )
    stall_seconds: float = flag(
        900.0, "end the run when no batch moved for this time; 0 waits without end", low=0, on_resume="ignore"
    )


@dataclass(frozen=True)
class TrainConfig:
    """main.py"""

    model: ModelConfig
    preprocess: PreprocessConfig
    device: TrainDeviceConfig
    data: TrainDataConfig
    loader: TrainLoaderConfig
    augment: AugmentConfig
    mix: MixConfig
    loss: LossConfig
    optim: OptimConfig
    ema: EmaConfig
    schedule: ScheduleConfig
    resume: ResumeConfig
    output: OutputConfig
    run: RunConfig

    def __post_init__(self):
        if self.resume.resume == "auto" and not self.output.output_dir:
            raise UsageError("--resume auto looks for checkpoints in --output_dir, which is not given")
        if self.run.eval and not (self.resume.resume or self.resume.finetune or self.resume.pretrained):
            raise UsageError(
                "--eval needs weights, random ones are never evaluated; give them with --resume or --pretrained"
            )
        if self.resume.resume_ema and not self.ema.model_ema:
            raise UsageError("--resume_ema needs --model_ema")
        if self.optim.freeze and not (self.resume.resume or self.has_weights_to_start):
            raise UsageError(
                "--freeze needs weights to start from, frozen random ones would never learn; give --pretrained or "
                "--finetune"
            )
        if self.loss.class_weights == "balanced" and self.loader.balanced_sampling:
            raise UsageError(
                "--class_weights balanced and --balanced_sampling would correct the rare classes twice; leave one out"
            )

    @property
    def has_weights_to_start(self) -> bool:
        """Whether the run begins with trained weights, which --pretrained or --finetune names."""
        return bool(self.resume.pretrained or self.resume.finetune)


# ---------------------------------------------------------------------------------------------------- the other scripts


@dataclass(frozen=True)
class ReportConfig:
    """Report of an evaluation"""

    output_dir: str = flag(
        "", "folder of a report: report.html, metrics.json, tables and pictures; '' only prints the scores"
    )
    tta: str = flag(
        "none",
        "flip: average the probabilities of each image and its mirror image, in twice the time",
        choices=("none", "flip"),
    )
    temperature: str = flag(
        "none",
        "fit: find the temperature with which confidence and accuracy agree, and write it to metrics.json of "
        "--output_dir, for export_model.py --temperature",
        choices=("none", "fit"),
    )
    suspects: str = flag(
        "auto",
        "list training images whose label may be wrong in suspects.csv of --output_dir; auto: if the training images "
        "are found and are at most 20,000, in about the time that as many images take to evaluate",
        choices=("auto", "always", "never"),
    )
    cls_label_path_train: str | None = flag(
        None, "list file of the training images, for --suspects; default: that of the checkpoint, else DATA_PATH/train"
    )

    def __post_init__(self):
        if self.temperature == "fit" and not self.output_dir:
            raise UsageError("--temperature fit writes it to metrics.json; give the folder by --output_dir")
        if self.suspects == "always" and not self.output_dir:
            raise UsageError("--suspects always writes suspects.csv; give its folder by --output_dir")
        if self.temperature == "fit" and self.tta != "none":
            raise UsageError(
                "--temperature fit is for the exported model, which averages no mirror images; leave out --tta"
            )


@dataclass(frozen=True)
class EvalConfig:
    """eval.py"""

    model: TrainedModelConfig
    preprocess: TrainedPreprocessConfig
    device: TrainedDeviceConfig
    data: EvalDataConfig
    loader: LoaderConfig
    weights: WeightsConfig
    report: ReportConfig


@dataclass(frozen=True)
class PredictionOutputConfig:
    """Output of predictions"""

    print: str = flag(
        "auto",
        "form of the printed predictions; auto: a table on a terminal, nothing but a summary there with --save_path, "
        "and elsewhere records, the lists of the predecessor; jsonl: one JSON object per image",
        choices=("auto", "records", "jsonl", "table", "none"),
    )
    save_path: str = flag("", "also write the predictions to this .json, .jsonl or .csv file")
    csv_rows: str = flag(
        "images",
        "rows of a .csv; images: one per image, with all its classes; classes: one per class",
        choices=("images", "classes"),
    )
    csv_formulas: bool = flag(
        False,
        "leave a .csv text as it is that a spreadsheet runs (= + - @); by default a ' is put before it",
        style="flag",
    )
    save_images: str = flag("", "also write each image with names and scores drawn below it into this folder")
    sort_into: str = flag("", "also copy each image into a folder per predicted class, below this folder")


@dataclass(frozen=True)
class PredictImagesConfig:
    """Images and predictions"""

    infer_imgs: tuple[str, ...] = flag(
        (),
        "images, folders of images (searched recursively), or list files *.txt, whose paths begin at the data of the "
        "training",
    )
    batch_size: int = flag(1, "images per batch", low=1)
    label_list: str = flag("", "file of class names; default: those of the checkpoint, or ImageNet's for 1000 classes")
    topk: int = flag(5, "number of classes reported per image", low=1)
    temperature: str = flag(
        "",
        "divide the logits by this number before the softmax, for calibrated probabilities: a number above 0, or the "
        "metrics.json that eval.py --temperature fit writes; default: 1",
    )
    explain: str = flag("", "also write each image beside a map of the places that made its class, into this folder")
    use_amp: bool = flag(False, "half precision on a GPU, as the predecessor always did", style="pair")


@dataclass(frozen=True)
class PredictConfig:
    """predict.py"""

    model: TrainedModelConfig
    preprocess: TrainedPreprocessConfig
    device: TrainedDeviceConfig
    weights: WeightsConfig
    images: PredictImagesConfig
    output: PredictionOutputConfig


EXPORT_FORMATS = ("paddle", "pdmodel", "pdmodel-b1", "onnx", "onnx-int8", "paddlex", "triton")


@dataclass(frozen=True)
class ExportOutputConfig:
    """Output"""

    output_dir: str = flag("", "folder to write", aliases=("output",))
    format: str = flag(
        "paddle,pdmodel",
        "programs to write, separated by commas: paddle (model.json), pdmodel (Paddle 2's form), "
        "pdmodel-b1 (the same for one image at a time, faster with OpenVINO), onnx, onnx-int8, paddlex "
        "(inference.json, with a softmax), triton (model repository of model.onnx)",
    )
    paddlex_name: str = flag(
        "",
        "name of the model in the files for PaddleX, which refuses names that it does not know, such as PeleeNet and "
        "AlexNet; any name of its image classification does, for example ResNet50",
    )
    label_list: str = flag(
        "",
        "file of class names; default: those of the checkpoint, or ImageNet's for 1000 classes",
        aliases=("class_names",),
    )
    check_images: str = flag(
        "", "image or folder on which the programs are compared with the eager model, after four fixed pictures"
    )
    temperature: str = flag(
        "",
        "number of the card by which every runtime divides the logits before the softmax, for calibrated "
        "probabilities: a number above 0, or the metrics.json that eval.py --temperature fit writes; default: 1",
    )

    def __post_init__(self):
        for name in self.format.split(","):
            if name not in EXPORT_FORMATS:
                raise UsageError(f"--format: unknown program {name!r}; known: {', '.join(EXPORT_FORMATS)}")
        if self.paddlex_name and "paddlex" not in self.format.split(","):
            raise UsageError(f"--paddlex_name is for paddlex, which is not in --format {self.format}")


@dataclass(frozen=True)
class QuantizeConfig:
    """INT8 quantisation, for --format onnx-int8"""

    calibration_images: str = flag(
        "",
        "image or folder of training images on which the ranges of the activations are computed; default: the "
        "training images of the checkpoint",
    )
    calibration_method: str = flag("minmax", "how the ranges are computed", choices=("minmax", "entropy", "percentile"))
    num_calibration: int = flag(128, "largest number of --calibration_images that are used, evenly spread", low=1)
    data_path: str = flag(
        "", "root of the validation images on which INT8 is compared with FP32; default: those of the checkpoint"
    )
    cls_label_path_val: str | None = flag(
        None, "list file of these images; default: the class folders of DATA_PATH/val"
    )
    max_drop: float = flag(1.0, "percentage points of top-1 accuracy that INT8 may lose on them", low=0)


@dataclass(frozen=True)
class ExportConfig:
    """export_model.py"""

    model: TrainedModelConfig
    preprocess: TrainedPreprocessConfig
    weights: WeightsConfig
    export: ExportOutputConfig
    quantize: QuantizeConfig

    def __post_init__(self):
        is_int8 = "onnx-int8" in self.export.format.split(",")
        if is_int8 and not self.quantize.calibration_images and not self.weights.resume:
            raise UsageError("--format onnx-int8 needs --calibration_images, a folder of training images")
        if self.quantize.calibration_images and not is_int8:
            raise UsageError(f"--calibration_images are for onnx-int8, which is not in --format {self.export.format}")


@dataclass(frozen=True)
class InferEngineConfig:
    """Inference engine"""

    engine: str = flag(
        "paddle",
        "inference engine; auto takes the fastest that the folder and this machine offer, and prints which",
        choices=("auto", "paddle", "onnxruntime", "openvino"),
    )
    model_file: str | None = flag(None, "exported folder, or a program in it: model.json, model.pdmodel, model.onnx")
    params_file: str | None = flag(None, "weights of a Paddle program: model.pdiparams; the card knows them")
    trust_program: bool = flag(
        False,
        "run a program that export_model.py did not write; the operators of such a program can read and write files",
        style="text",
    )
    use_gpu: bool = flag(
        True, "run on a GPU; on a machine without a GPU the CPU is used, which is printed", style="text"
    )
    gpu_id: int = flag(0, "number of the GPU", low=0)
    gpu_mem: int = flag(8000, "initial size of the GPU memory pool in MB", low=1)
    precision: str = flag(
        "fp32",
        "precision of the computation; bf16 is for a CPU with bfloat16, by --engine openvino or --enable_mkldnn True",
        choices=("fp32", "bf16", "fp16", "int8"),
    )
    ir_optim: bool = flag(True, "optimise the program at start", style="text")
    use_tensorrt: bool = flag(False, "run through TensorRT", style="text")
    enable_mkldnn: bool = flag(False, "run through oneDNN on a CPU", style="text")
    enable_openvino: bool = flag(False, "Paddle Inference runs model.pdmodel through OpenVINO on a CPU", style="text")
    cpu_threads: int | None = flag(None, "threads on a CPU; default: one per usable processor", low=1)


@dataclass(frozen=True)
class InferImagesConfig:
    """Images and predictions"""

    input_file: str | None = flag(None, "an image, or a folder (searched recursively)")
    batch_size: int = flag(1, "images per batch", low=1, aliases=("b",))
    topk: int = flag(5, "number of classes reported per image", low=1)
    threshold: float = flag(0.0, "leave out classes with a lower probability", low=0, high=1)
    resume_from: str = flag(
        "", "file of an earlier --save_path: keep its records and predict the images that are missing in it"
    )
    enable_benchmark: bool = flag(False, "print times, percentiles and memory at the end", style="text")
    train_interpolation: str = flag(
        "bicubic", "interpolation for an exported model without a card", choices=("random", "bilinear", "bicubic")
    )
    label_list: str = flag("", "file of class names; default: those of the card, or ImageNet's for 1000 classes")


@dataclass(frozen=True)
class InferConfig:
    """infer.py"""

    engine: InferEngineConfig
    images: InferImagesConfig
    output: PredictionOutputConfig
