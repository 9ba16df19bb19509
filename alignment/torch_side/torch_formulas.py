"""Pixels, mixup, losses, schedules, accuracy and the order of samples, computed by torch and torchvision."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from alignment.exchange import read_arrays, write_arrays


def eval_pixels(
    paths: list[str], resize: int, crop: int, interpolation: str, mean: list[float], std: list[float], output: str
) -> dict:
    """Write the evaluation pixels of torchvision as `images`, [N, 3, crop, crop] float32.

    Args:
        paths: image files.
        resize: length of the short side in pixels before the crop.
        crop: height and width in pixels.
        interpolation: bilinear, bicubic or nearest.
        mean: of each channel.
        std: of each channel.
        output: file to write.
    """
    from torchvision import transforms

    transform = transforms.Compose([
        transforms.Resize(resize, transforms.InterpolationMode(interpolation)),
        transforms.CenterCrop(crop),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ])  # fmt: skip
    images = [transform(Image.open(path).convert("RGB")).numpy() for path in paths]
    write_arrays(Path(output), {"images": np.stack(images)})
    return {"num_images": len(images)}


def replay(paths: list[str], choices: list[list], output: str) -> dict:
    """Apply drawn operations to image files with torchvision's functions; writes one array [H, W, 3] uint8 per file.

    `choices` holds for each file a list of [operation, arguments].
    """
    from torchvision.transforms import functional as F

    modes = {mode.value: mode for mode in F.InterpolationMode}
    fill = [124, 116, 104]  # RGB
    table = {
        "resized_crop": lambda image, top, left, height, width, size, interpolation: F.resized_crop(
            image, top, left, height, width, [size, size], modes[interpolation]
        ),
        "letterboxed_crop": lambda image, top, left, height, width, size, interpolation: _letterboxed(
            F.crop(image, top, left, height, width), size, modes[interpolation], fill
        ),
        "resize": lambda image, width, height, interpolation: F.resize(image, [height, width], modes[interpolation]),
        "pad": lambda image, padding: F.pad(image, padding),
        "crop": F.crop,
        "flip": F.hflip,
        "rotate": lambda image, degrees, resample: F.rotate(image, degrees, modes[resample], fill=fill),
        "posterize": F.posterize,
        "solarize": F.solarize,
        "invert": F.invert,
        "autocontrast": F.autocontrast,
        "equalize": F.equalize,
        "brightness": F.adjust_brightness,
        "contrast": F.adjust_contrast,
        "color": F.adjust_saturation,
        "sharpness": F.adjust_sharpness,
    }
    results = {}
    for index, (path, operations) in enumerate(zip(paths, choices, strict=True)):
        image = Image.open(path).convert("RGB")
        for name, arguments in operations:
            image = table[name](image, **arguments)
        results[str(index)] = np.array(image)
    write_arrays(Path(output), results)
    return {"num_images": len(results)}


def _letterboxed(image: Image.Image, size: int, interpolation, fill: list[int]) -> Image.Image:
    """Resize the long side to `size` and pad the short one to it; of an odd border the halves are rounded to even."""
    from torchvision.transforms import functional as F

    height, width = (max(1, round(size * length / max(image.size))) for length in (image.height, image.width))
    left, top = round((size - width) / 2), round((size - height) / 2)
    resized = F.resize(image, [height, width], interpolation)
    return F.pad(resized, [left, top, size - width - left, size - height - top], fill)


def mixup(inputs: str, draws: list[dict], num_classes: int, smoothing: float, output: str) -> dict:
    """Write mixed images and soft labels by the formula of timm's Mixup in batch mode: the batch and its reverse.

    Args:
        inputs: file with `images` [B, 3, H, W] and `labels` [B].
        draws: {"lam": share of the image itself, "box": None or [top, bottom, left, right]} for each result.
        num_classes: number of classes.
        smoothing: label smoothing.
        output: file to write, with `images0`, `labels0` and so on.
    """
    arrays = read_arrays(Path(inputs))
    images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    off = smoothing / num_classes
    one_hot = torch.full((len(labels), num_classes), off).scatter_(1, labels[:, None], 1 - smoothing + off)
    results = {}
    for index, draw in enumerate(draws):
        mixed = images.clone()
        if draw["box"]:
            top, bottom, left, right = draw["box"]
            mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
        else:
            mixed = images * draw["lam"] + images.flip(0) * (1 - draw["lam"])
        results[f"images{index}"] = mixed.numpy()
        results[f"labels{index}"] = (one_hot * draw["lam"] + one_hot.flip(0) * (1 - draw["lam"])).numpy()
    write_arrays(Path(output), results)
    return {"num_draws": len(draws)}


def losses(inputs: str, smoothings: list[float], output: str) -> dict:
    """Write value and gradient of the cross entropy: of integer labels for each smoothing, and of soft labels."""
    arrays = read_arrays(Path(inputs))
    results = {}
    for key, labels, smoothing in [
        *((f"smoothing {value}", arrays["labels"], value) for value in smoothings),
        ("soft labels", arrays["soft_labels"], 0.0),
    ]:
        logits = torch.from_numpy(arrays["logits"]).requires_grad_()
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=smoothing)
        loss.backward()
        results[f"{key}/value"] = loss.detach().numpy()
        results[f"{key}/gradient"] = logits.grad.numpy()
    write_arrays(Path(output), results)
    return {"num_losses": len(results) // 2}


def rates(schedule: str, lr: float, epochs: int, steps_per_epoch: int, options: dict) -> dict:
    """The learning rate of every step of a run by torch's schedulers.

    Args:
        schedule: cosine or step.
        lr: highest learning rate.
        epochs: number of epochs.
        steps_per_epoch: number of steps of an epoch.
        options: step_size and gamma for step; warmup_epochs, warmup_lr and min_lr for cosine.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    total, scheduler = epochs * steps_per_epoch, torch.optim.lr_scheduler
    if schedule == "step":
        rule = scheduler.StepLR(optimizer, options["step_size"] * steps_per_epoch, options["gamma"])
    else:
        warmup = options.get("warmup_epochs", 0) * steps_per_epoch
        rule = scheduler.CosineAnnealingLR(optimizer, total - warmup, options.get("min_lr", 0.0))
        if warmup:
            ramp = scheduler.LinearLR(optimizer, options["warmup_lr"] / lr, 1.0, warmup)
            rule = scheduler.SequentialLR(optimizer, [ramp, rule], [warmup])
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rule.step()
    return {"rates": values}


def accuracy(inputs: str, ks: list[int]) -> dict:
    """Number of labels among the k highest logits by torch.topk, for each k."""
    arrays = read_arrays(Path(inputs))
    logits, labels = torch.from_numpy(arrays["logits"]), torch.from_numpy(arrays["labels"])
    hits = logits.topk(max(ks), dim=1).indices == labels[:, None]
    return {"counts": {str(k): int(hits[:, :k].any(1).sum()) for k in ks}}


def loader_order(num_samples: int, batches: list[list[int]] | None, batch_size: int) -> dict:
    """The indices that a DataLoader of torch yields for given batches, or in sequence if `batches` is None."""
    data = list(range(num_samples))
    if batches is None:
        loader = DataLoader(data, batch_size, sampler=SequentialSampler(data))
    else:
        loader = DataLoader(data, batch_sampler=batches)
    return {"batches": [batch.tolist() for batch in loader]}
