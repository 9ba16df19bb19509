"""Stage 3: compare evaluation pixels, replayed training transforms, mixup and cutmix, and the order of samples."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ..compare import compare
from ..pipeline.coverage import STAGE_PARTS
from ..pipeline.judge import array_difference, nested_check, with_functions
from ..reference import File
from ..rules import Arrays
from ..session import Session
from ..verdict import FAIL, Check, StageResult, exactly, within

# (input size, length of the short side, interpolation): of PeleeNet-paddle, of torchvision, and one that is not 0.875.
EVAL_SETTINGS = ((224, 256, "bicubic"), (224, 256, "bilinear"), (176, 232, "bilinear"))
WHOLE_IMAGES = ("squash", "letterbox")  # values of --fit; torchvision resizes and pads
MAX_IMAGES = 64  # of a folder
SIDE = 64  # of replayed training crops, in pixels
PADDING = 4  # of the random crop with a border, in pixels
# Operation of torch_side/torch_formulas.py for each value of --fit: a rectangle becomes a square.
FITTED = {"crop": "resized_crop", "squash": "resized_crop", "letterbox": "letterboxed_crop"}
ONE_LEVEL = 1 / 255  # after normalization one level of a uint8 pixel is at least 4 times this
PIXEL_TOLERANCE = MIX_TOLERANCE = USER_TOLERANCE = 1e-6
NUM_ITEMS, NUM_BATCHES = 16, 8  # of the user's data set and loader
# Operation of the project: (operation of torch_side/torch_formulas.py, name of its argument, values in the range that
# RandAugment draws). Shears and relative translations are left out: torchvision turns about the centre of the image,
# timm about its corner.
REPLAYED = {
    "Rotate": ("rotate", "degrees", (-27.3, 11.0)),
    "Posterize": ("posterize", "bits", (1, 3)),
    "Solarize": ("solarize", "threshold", (26, 200)),
    "Invert": ("invert", None, (None,)),
    "AutoContrast": ("autocontrast", None, (None,)),
    "Equalize": ("equalize", None, (None,)),
    "Brightness": ("brightness", "brightness_factor", (0.19, 1.81)),
    "Contrast": ("contrast", "contrast_factor", (0.19, 1.81)),
    "Color": ("color", "saturation_factor", (0.19, 1.81)),
    "Sharpness": ("sharpness", "sharpness_factor", (0.19, 1.81)),
}


def run(session: Session) -> StageResult:
    """Compare on the images of the session's folder, or on generated JPEG files of odd sizes.

    If the case names functions of the user, they are compared in place of those of this project.
    """
    if any(getattr(session.given_case, key).is_given for key in STAGE_PARTS["data"]):
        return StageResult("data", _user_checks(session))
    with tempfile.TemporaryDirectory() as folder:
        paths = (
            _find(session.image_folder) if session.image_folder else write_jpegs(Path(folder), session.given_case.seed)
        )
        checks = [_eval_pixels(session, paths, *setting) for setting in EVAL_SETTINGS]
        checks += [_whole_images(session, paths, fit) for fit in WHOLE_IMAGES]
        checks += [_crops(session, paths, fit) for fit in ("crop", *WHOLE_IMAGES)]
        checks.append(_padded_crops(session, paths))
        checks += [*_operations(session, paths), *_mixes(session), *_orders(session)]
    return StageResult("data", checks)


def _find(folder: Path) -> list[str]:
    """The first images of a folder.

    Raises:
        DataError: there is none.
        BadImage: one is damaged, which would be an exception in the code of the user.
    """
    from datasets.reading.decode import read_image
    from datasets.reading.image_folder import find_images

    paths = [str(path) for path in find_images(str(folder))][:MAX_IMAGES]
    for path in paths:
        read_image(path)
    return paths


def write_jpegs(folder: Path, seed: int) -> list[str]:
    """Write smooth images with noise, of odd and extreme sizes; returns their paths."""
    rng = np.random.default_rng(seed)
    paths = []
    for width, height in ((500, 375), (375, 500), (333, 251), (257, 1023), (640, 227), (97, 101)):
        small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).resize((width, height), Image.BICUBIC)
        noisy = np.asarray(small).astype(int) + rng.integers(-12, 13, (height, width, 3))
        paths.append(str(folder / f"{width}x{height}.jpg"))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def _open(path: str) -> Image.Image:
    from datasets.reading.decode import read_image

    return read_image(path)


def _eval_pixels(session: Session, paths: list[str], size: int, resize: int, interpolation: str) -> Check:
    from datasets.constants import IMAGENET_MEAN, IMAGENET_STD

    _, answer = session.reference.ask_arrays(
        "eval_pixels", paths=[File.at(path) for path in paths], resize=resize, crop=size, interpolation=interpolation,
        mean=list(IMAGENET_MEAN), std=list(IMAGENET_STD),
    )  # fmt: skip
    actual = np.stack([session.parts.preprocess(_open(path), size, resize, interpolation) for path in paths])
    expected = answer["images"]
    num_off = int((np.abs(actual - expected) > ONE_LEVEL).sum())
    name = f"evaluation, {interpolation} {resize} to {size}"
    detail = f"{len(paths)} images, {num_off} of {actual.size} values off by a level"
    check = within(name, compare(actual, expected), PIXEL_TOLERANCE, detail=detail)
    if check.status == FAIL:
        check.hints = _pixel_hints(actual, expected)
    return check


def _whole_images(session: Session, paths: list[str], fit: str) -> Check:
    """Evaluation pixels before they are normalised, which is compared above, where nothing is cut off."""
    from datasets.preprocess import Preprocess
    from datasets.reading.pixels import crop_pixels

    actual, choices = [], []
    for path in paths:
        image = _open(path)
        actual.append(crop_pixels(image, Preprocess(SIDE, fit=fit)))
        whole = {"left": 0, "top": 0, "width": image.width, "height": image.height}
        choices.append([[FITTED[fit], {**whole, "interpolation": "bicubic", "size": SIDE}]])
    return _replayed(session, f"evaluation, {fit} to {SIDE}", paths, choices, actual)


def _pixel_hints(actual: np.ndarray, expected: np.ndarray) -> list[str]:
    from datasets.constants import IMAGENET_MEAN, IMAGENET_STD

    hints = []
    if np.abs(actual[:, :, :, ::-1] - expected).max() < 1e-5:
        hints.append("mirrored")
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    if np.abs((actual * std + mean)[:, ::-1] - (expected * std + mean)).max() < 1e-4:
        hints.append("the channels are in reverse order (RGB and BGR)")
    for channel in range(3):
        slope, shift = np.polyfit(expected[:, channel].ravel(), actual[:, channel].ravel(), 1)
        residual = np.abs(slope * expected[:, channel] + shift - actual[:, channel]).max()
        if residual < 1e-4 and (abs(slope - 1) > 1e-4 or abs(shift) > 1e-4):
            hints.append(f"channel {channel} is {slope:.4g} times the reference's plus {shift:.4g}: mean or std?")
    is_shifted = any(
        np.abs(np.roll(actual, step, axis) - expected)[..., 8:-8, 8:-8].max() < 1e-4
        for step in (-1, 1)
        for axis in (2, 3)
    )
    if not hints and is_shifted:
        hints.append("shifted by one pixel: how is the corner of the crop rounded?")
    return hints or ["other pixels: interpolation, antialiasing or the length of the short side"]


def _crops(session: Session, paths: list[str], fit: str) -> Check:
    """Random resized crop and flip: the project draws, torchvision applies the same choices."""
    from configs.schema import AugmentConfig, PreprocessConfig
    from datasets.augment.transforms import build_train_transform, sample_rng

    preprocess = PreprocessConfig(input_size=SIDE, train_interpolation="random", fit=fit)
    transform = build_train_transform(AugmentConfig(aa=""), preprocess)
    crop, (flip,) = transform.crop, transform.operations
    actual, choices = [], []
    for index, path in enumerate(paths):
        image, rng = _open(path), sample_rng(session.given_case.seed, 0, index)
        drawn, is_flipped = crop.draw(rng, image.size), flip.draw(rng, (SIDE, SIDE))
        actual.append(np.asarray(flip.apply(crop.apply(image, drawn), is_flipped)))
        arguments = {name: getattr(drawn, name) for name in ("left", "top", "width", "height", "interpolation")}
        choices.append([[FITTED[fit], arguments | {"size": SIDE}], *([["flip", {}]] if is_flipped else [])])
    name = "random resized crop and flip" + (f", {fit}" if fit != "crop" else "")
    return _replayed(session, name, paths, choices, actual)


def _padded_crops(session: Session, paths: list[str]) -> Check:
    """Random crop with padding: resize, cut out the centre, add a border, cut out what the project draws."""
    from configs.schema import AugmentConfig, PreprocessConfig
    from datasets.augment.transforms import build_train_transform, sample_rng

    crop = build_train_transform(AugmentConfig(crop=f"pad{PADDING}"), PreprocessConfig(SIDE)).crop
    actual, choices = [], []
    for index, path in enumerate(paths):
        image = _open(path)
        drawn = crop.draw(sample_rng(session.given_case.seed, 0, index), image.size)
        actual.append(np.asarray(crop.apply(image, drawn)))
        center, square = drawn.center, {"width": SIDE, "height": SIDE}
        size = {"width": center.width, "height": center.height, "interpolation": center.interpolation}
        choices.append([
            ["resize", size],
            ["crop", {"left": center.left, "top": center.top, **square}],
            ["pad", {"padding": PADDING}],
            ["crop", {"left": drawn.left + PADDING, "top": drawn.top + PADDING, **square}],
        ])  # fmt: skip
    return _replayed(session, f"random crop with a border of {PADDING} pixels", paths, choices, actual)


def _operations(session: Session, paths: list[str]) -> list[Check]:
    """Each operation of RandAugment that torchvision has too, at two strengths."""
    from datasets.augment.image_ops import Op, apply_op

    checks = []
    for name, (operation, argument, values) in REPLAYED.items():
        actual, choices = [], []
        for index, path in enumerate(paths):
            value = values[index % len(values)]
            op = Op(name, value, "bilinear" if name == "Rotate" else None)
            actual.append(np.asarray(apply_op(_open(path), op)))
            arguments = {argument: value} if argument else {}
            choices.append([[operation, arguments | ({"resample": op.interpolation} if op.interpolation else {})]])
        checks.append(_replayed(session, f"replayed {name}", paths, choices, actual))
    return checks


def _replayed(session: Session, name: str, paths: list[str], choices: list, actual: list[np.ndarray]) -> Check:
    _, expected = session.reference.ask_arrays("replay", paths=[File.at(path) for path in paths], choices=choices)
    wrong = [
        Path(path).name for index, path in enumerate(paths) if not np.array_equal(actual[index], expected[str(index)])
    ]
    detail = f"{len(wrong)} of {len(paths)} images differ: {wrong[:3]}" if wrong else f"{len(paths)} images, exactly"
    return exactly(name, not wrong, detail)


def _mixes(session: Session) -> list[Check]:
    """Mixup and cutmix: the project draws, timm's formula applies the same choices."""
    from configs.schema import MixConfig
    from datasets.augment.mixup import create_mixup

    rng = np.random.default_rng(session.given_case.seed)
    images = rng.normal(0, 1, (6, 3, 32, 40)).astype(np.float32)
    labels, num_classes, smoothing = rng.integers(0, 10, 6), 10, 0.1
    mixup = create_mixup(MixConfig(smoothing=smoothing, mixup=0.8, cutmix=1.0), num_classes)
    choices = [mixup.draw(rng, 6, 32, 40) for _ in range(8)]
    draws = [
        {"lam": float(choice.lam[0]), "box": list(map(int, choice.boxes[0])) if choice.boxes[0].any() else None}
        for choice in choices
    ]
    inputs = session.reference.put({"images": images, "labels": labels})
    _, expected = session.reference.ask_arrays(
        "mixup", inputs=inputs, draws=draws, num_classes=num_classes, smoothing=smoothing
    )
    num_boxes = sum(draw["box"] is not None for draw in draws)
    detail = f"{len(draws) - num_boxes} mixup, {num_boxes} cutmix"
    checks = []
    for what, side in (("images", 0), ("labels", 1)):
        differences = [
            compare(np.asarray(mixup.apply(images, labels, choice)[side]), expected[f"{what}{index}"])
            for index, choice in enumerate(choices)
        ]
        worst = max(differences, key=lambda difference: difference.relative)
        checks.append(within(f"mixed {what}, timm's formula", worst, MIX_TOLERANCE, detail=detail))
    return checks


def _orders(session: Session) -> list[Check]:
    """The indices that torch's DataLoader yields: every training sample once, evaluation samples in their order."""
    from datasets.loading.sampler import EvalSampler, TrainSampler

    num = 103
    train = [batch.tolist() for batch in TrainSampler(num, 8, 1, 0, 1, session.given_case.seed).batches(0)]
    expected = session.reference.ask("loader_order", num_samples=num, batches=train, batch_size=8)["batches"]
    indices = [index for batch in train for index in batch]
    is_once = len(set(indices)) == len(indices) == num // 8 * 8
    evaluation = [batch.tolist() for batch in EvalSampler(num, 8).batches()]
    in_order = session.reference.ask("loader_order", num_samples=num, batches=None, batch_size=8)["batches"]
    return [
        exactly("order of training samples", train == expected and is_once, f"{len(indices)} indices, each once"),
        exactly("order of evaluation samples", evaluation == in_order, f"{num} indices, the last batch smaller"),
    ]


def _user_checks(session: Session) -> list[Check]:
    """One check for each of preprocess, dataset and loader that the case names."""
    from ..paddle_side import pipeline

    case, checks = session.given_case, []
    if case.preprocess.is_given:
        with tempfile.TemporaryDirectory() as folder:
            paths = _find(session.image_folder) if session.image_folder else write_jpegs(Path(folder), case.seed)
            expected = _of_reference(session, "preprocess", "user_images", paths=[File.at(path) for path in paths])
            own = [pipeline.preprocessed(case, paths, seed) for seed in _seeds(session)]
        checks.append(_user_check(session, "preprocess", own, expected, f"{len(paths)} images"))
    if case.dataset.is_given:
        expected = _of_reference(session, "dataset", "user_items", num=NUM_ITEMS)
        own = [pipeline.items(case, NUM_ITEMS, seed) for seed in _seeds(session)]
        checks.append(_user_check(session, "dataset", own, expected, f"{NUM_ITEMS} items of {expected['length']}"))
    if case.loader.is_given:
        expected = _of_reference(session, "loader", "user_batches", num=NUM_BATCHES)
        own = [pipeline.batches(case, NUM_BATCHES, seed) for seed in _seeds(session)]
        checks.append(_user_check(session, "loader", own, expected, f"the first {NUM_BATCHES} batches"))
    return checks


def _seeds(session: Session) -> tuple[int, int]:
    """The seed of the comparison, and one that shows which values are random."""
    return session.given_case.seed, session.given_case.seed + 1_000_003


def _of_reference(session: Session, key: str, operation: str, **arguments) -> Arrays:
    function = session.given_case.function_spec(key, "reference")
    return session.reference.ask_arrays(operation, function=function, seed=session.given_case.seed, **arguments)[1]


def _user_check(session: Session, name: str, own: list[Arrays], expected: Arrays, detail: str) -> Check:
    actual, again = own
    if len({"length" in arrays for arrays in (actual, expected)}) == 2:  # a generator has no length
        actual, expected = ({k: v for k, v in arrays.items() if k != "length"} for arrays in (actual, expected))
    changing = [key for key in actual if key not in again or array_difference(actual[key], again[key]).relative > 0]
    check = nested_check(name, actual, expected, USER_TOLERANCE, changing=changing, detail=detail)
    return with_functions(session.given_case, name, [check])[0]
