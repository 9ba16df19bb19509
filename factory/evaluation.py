"""Evaluate trained weights: for eval.py, and for main.py --eval."""

import logging

from configs.schema import (
    EvalDataConfig,
    LoaderConfig,
    TrainConfig,
    TrainedDeviceConfig,
    TrainedModelConfig,
    TrainedPreprocessConfig,
    WeightsConfig,
)

from .cpu_program import open_cpu_engine
from .trained import TrainedModel

logger = logging.getLogger("eval")


def trained_configs(config: TrainConfig, given: frozenset[str]) -> tuple[TrainedModelConfig, TrainedPreprocessConfig]:
    """For main.py --eval: the flags that were given; the others are what the checkpoint says, as in eval.py."""
    model, flags = config.model, config.preprocess
    names = ("input_size", "train_interpolation", "exif_orientation", "eval_image_backend", "fit", "crop_pct")
    return (
        TrainedModelConfig(
            name=model.name if "model" in given else None,
            nb_classes=model.nb_classes if "nb_classes" in given else None,
        ),
        TrainedPreprocessConfig(**{name: getattr(flags, name) for name in names if name in given}),
    )


def data_to_evaluate(config: TrainConfig, given: frozenset[str]) -> EvalDataConfig:
    """For main.py --eval: the images that were named; without --data_path those of the checkpoint, as in eval.py."""
    flags = config.data
    return EvalDataConfig(flags.data_path if "data_path" in given else None, flags.cls_label_path_val)


def weights_to_evaluate(config: TrainConfig) -> WeightsConfig:
    """The weights that main.py --eval means: those of --resume, else of --finetune, else of --pretrained.

    Raises:
        CheckpointError: --resume auto finds no good checkpoint.
    """
    from engine.resume import find_checkpoint

    flags = config.resume
    path = find_checkpoint(flags.resume or flags.finetune, config.output.output_dir, is_required=True)
    return WeightsConfig(str(path or ""), pretrained=flags.pretrained, weights_dir=flags.weights_dir)


def remarks_on_average(config: TrainConfig) -> list[str]:
    """A warning where main.py --eval is given averaged weights, which it does not evaluate."""
    if not config.resume.resume_ema and not config.ema.model_ema_eval:
        return []
    return ["--eval evaluates the weights without their moving average: eval.py --use_ema evaluates the average"]


def evaluate_trained(
    trained: TrainedModel,
    images,
    loader_config: LoaderConfig,
    run,
    *,
    precision=None,
    device: TrainedDeviceConfig | None = None,
    tta: str = "none",
):
    """Evaluate a trained model on images, after their classes were compared; logs and returns the scores.

    Args:
        trained: what `read_trained` returned.
        images: the validation images.
        loader_config: batch size and workers.
        run: engine.run.Run, this process among the ranks.
        precision: engine.amp.Precision of the forward pass; None is float32.
        device: branch `device` of eval.py, which may ask for a faster engine; None takes the eager model.
        tta: "flip" averages the probabilities of each image and its mirror image; "none" does not.

    Raises:
        CheckpointError: the weights do not fit the model.
        DataError: an image cannot be read.
        NonFiniteLossError: a loss is not a finite number.
    """
    from engine.amp import FLOAT32
    from engine.evaluate import evaluate

    model = model_to_evaluate(trained, len(images), device, tta)
    scores = evaluate(model, eval_loader(trained, images, loader_config, run), run, precision or FLOAT32)
    return log_accuracy(scores)


def model_to_evaluate(
    trained: TrainedModel, num_images: int, device: TrainedDeviceConfig | None = None, tta: str = "none"
):
    """Create the model with its weights, and log what it is and how its images are fed.

    Args:
        trained: what `read_trained` returned.
        num_images: number of images that will be evaluated.
        device: as for `evaluate_trained`.
        tta: as for `evaluate_trained`.

    Raises:
        CheckpointError: the weights do not fit the model.
    """
    from deploy.engines import EagerEngine
    from engine.evaluate import EngineModel, FlipAveraged
    from models.complexity import count_parameters

    model = trained.create_model()
    logger.info(f"number of params: {count_parameters(model) / 1e6} M")
    logger.info(f"images are fed as {trained.preprocess}")
    logger.info(f"{trained.classes.number} classes: {trained.classes.source}")
    if device is not None:
        eager = EagerEngine(model)
        engine = open_cpu_engine(model, trained.preprocess.input_size, num_images, device, eager)
        model = model if engine is eager else EngineModel(engine)
    return FlipAveraged(model) if tta == "flip" else model


def eval_loader(trained: TrainedModel, images, loader_config: LoaderConfig, run):
    """Create the loader of images as the trained model takes them; the arguments are those of `evaluate_trained`."""
    from datasets.loading.loader import EvalLoader
    from datasets.loading.sampler import EvalSampler

    sampler = EvalSampler(len(images), loader_config.batch_size, *run.ranks)
    return EvalLoader(images, trained.preprocess, sampler, loader_config)


def log_accuracy(scores):
    """Log the last line of the predecessor's evaluation, and return the scores."""
    logger.info(f"Accuracy of the network on the {scores.num_samples} test images: {scores.top1_percent:.1f}%")
    return scores
