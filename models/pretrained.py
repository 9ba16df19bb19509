"""Public weights by name: where they are and what they are; `python -m models.pretrained` lists and downloads them."""

import argparse
from pathlib import Path

from common.cli import did_you_mean, run
from common.errors import UsageError
from common.printable import print_safely

from . import MODELS
from .weights_cache import fetch
from .weights_table import PublicWeights, as_markdown, as_text

AUTO = "auto"  # the value of `--pretrained` without a name

TORCHVISION = "https://download.pytorch.org/models"
PADDLECLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph"
PELEENET = "https://raw.githubusercontent.com/Robert-JunWang/PeleeNet/05e928adb7387d54b48373583ee4430a28966599"

# Licences of the repositories; none says that it holds for the weights too, which were trained on ImageNet's images.
BSD, APACHE = "BSD-3-Clause", "Apache-2.0"


def _paddleclas_mobilenet(
    width: str, stem: str, checksum: str, num_parameters: int, top1_percent: float, top5_percent: float
) -> PublicWeights:
    """A row of PaddleClas's MobileNetV3, of which all widths have the same publisher, layout and evaluation."""
    return PublicWeights(
        models=(f"mobilenet_v3_{width}_paddleclas",),
        url=f"{PADDLECLAS}/legendary_models/MobileNetV3_{stem}_pretrained.pdparams",
        checksum=checksum,
        num_parameters=num_parameters,
        top1_percent=top1_percent,
        top5_percent=top5_percent,
        layout="paddleclas",
        licence=APACHE,
        unverified=("size", "checksum"),
    )


# No file of this table was downloaded where the table was made, which had no network: the numbers are the publishers'.
# All were evaluated at 224 pixels with ImageNet's mean and standard deviation.
WEIGHTS = {
    # Robert-JunWang/PeleeNet: the file in weights/ of commit 05e928a, where git names its content by the checksum;
    # preprocessing in eval.py. The accuracy is that of the file's name, acc7208; README.md has 72.6 for the network.
    "peleenet.official": PublicWeights(
        models=("peleenet",),
        url=f"{PELEENET}/weights/peleenet_acc7208.pth.tar",
        checksum="git:e1500c6ebf591dc7cabe9b59852a686b160e8692",
        num_parameters=2_802_248,
        top1_percent=72.08,
        top5_percent=None,
        layout="official",
        licence=APACHE,
        unverified=("size", "top-5"),
    ),
    # PaddleClas: address in ppcls/arch/backbone/model_zoo/peleenet.py; accuracy in docs/zh_CN/models/ImageNet1k/
    # README.md; preprocessing (bilinear of Pillow) in ppcls/configs/ImageNet/PeleeNet/PeleeNet.yaml.
    "peleenet.paddleclas": PublicWeights(
        models=("peleenet",),
        url=f"{PADDLECLAS}/PeleeNet_pretrained.pdparams",
        checksum="",
        num_parameters=2_802_248,
        top1_percent=71.53,
        top5_percent=90.40,
        layout="paddleclas",
        licence=APACHE,
        unverified=("size", "checksum"),
    ),
    # torchvision 0.28: address, accuracy, size in MB and preprocessing in torchvision/models/mobilenetv3.py and
    # alexnet.py. The first eight digits of the SHA-256 are in the names of the files; all 64, and the size in bytes,
    # are the same in the lock files of several public projects that have downloaded the files.
    "mobilenet_v3_small.torchvision_v1": PublicWeights(
        models=("mobilenet_v3_small", "mobilenet_v3_small_x1_0"),
        url=f"{TORCHVISION}/mobilenet_v3_small-047dcff4.pth",
        checksum="sha256:047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
        num_parameters=2_542_856,
        top1_percent=67.668,
        top5_percent=87.402,
        layout="torchvision",
        licence=BSD,
        num_bytes=10_306_551,
    ),
    "mobilenet_v3_large.torchvision_v1": PublicWeights(
        models=("mobilenet_v3_large", "mobilenet_v3_large_x1_0"),
        url=f"{TORCHVISION}/mobilenet_v3_large-8738ca79.pth",
        checksum="sha256:8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
        num_parameters=5_483_032,
        top1_percent=74.042,
        top5_percent=91.340,
        layout="torchvision",
        licence=BSD,
        num_bytes=22_139_423,
    ),
    "mobilenet_v3_large.torchvision_v2": PublicWeights(
        models=("mobilenet_v3_large", "mobilenet_v3_large_x1_0"),
        url=f"{TORCHVISION}/mobilenet_v3_large-5c1a4163.pth",
        checksum="sha256:5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
        num_parameters=5_483_032,
        top1_percent=75.274,
        top5_percent=92.566,
        layout="torchvision",
        licence=BSD,
        num_bytes=22_132_113,
        resize_size=232,
    ),
    "alexnet.torchvision_v1": PublicWeights(
        models=("alexnet",),
        url=f"{TORCHVISION}/alexnet-owt-7be5be79.pth",
        checksum="sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        num_parameters=61_100_840,
        top1_percent=56.522,
        top5_percent=79.066,
        layout="torchvision",
        licence=BSD,
        num_bytes=244_408_911,
    ),
    # PaddleClas: address in ppcls/arch/backbone/model_zoo/alexnet.py, which paddle.vision.models.alexnet of Paddle
    # 3.3.1 repeats with the MD5; accuracy in docs/zh_CN/models/ImageNet1k/README.md.
    "alexnet.paddleclas": PublicWeights(
        models=("alexnet",),
        url=f"{PADDLECLAS}/AlexNet_pretrained.pdparams",
        checksum="md5:7f0f9f737132e02732d75a1459d98a43",
        num_parameters=61_100_840,
        top1_percent=56.7,
        top5_percent=79.2,
        layout="paddleclas",
        licence=APACHE,
        unverified=("size",),
    ),
    # PaddleClas: addresses in ppcls/arch/backbone/legendary_models/mobilenet_v3.py and, of the distilled weights
    # (ssld), in docs/zh_CN/models/ImageNet1k/README.md, which has the accuracy of all. The MD5 are those of a draft of
    # paddle.vision's mobilenetv3.py of 2022, the one source that was found. The evaluation resized by OpenCV's
    # bilinear interpolation, which does not smooth; ours is Pillow's, so the accuracy may differ a little.
    "mobilenet_v3_small_x0_35_paddleclas.paddleclas": _paddleclas_mobilenet(
        "small_x0_35", "small_x0_35", "md5:938f11e720fdd04fe46a68322155f7e3", 1_665_954, 53.03, 76.37
    ),
    "mobilenet_v3_small_x0_35_paddleclas.paddleclas_ssld": _paddleclas_mobilenet(
        "small_x0_35", "small_x0_35_ssld", "", 1_665_954, 55.55, 77.71
    ),
    "mobilenet_v3_small_x0_5_paddleclas.paddleclas": _paddleclas_mobilenet(
        "small_x0_5", "small_x0_5", "md5:4ccb3f48b940edacdf37e227c2b77ac2", 1_902_536, 59.21, 81.52
    ),
    "mobilenet_v3_small_x0_75_paddleclas.paddleclas": _paddleclas_mobilenet(
        "small_x0_75", "small_x0_75", "md5:ea999201351e094d3e71c3c00584098d", 2_375_106, 66.02, 86.33
    ),
    "mobilenet_v3_small_x1_0_paddleclas.paddleclas": _paddleclas_mobilenet(
        "small_x1_0", "small_x1_0", "md5:96d99be8a67d6431ba7de6149f15b23d", 2_939_958, 68.24, 88.06
    ),
    "mobilenet_v3_small_x1_0_paddleclas.paddleclas_ssld": _paddleclas_mobilenet(
        "small_x1_0", "small_x1_0_ssld", "", 2_939_958, 71.29, 90.1
    ),
    "mobilenet_v3_small_x1_25_paddleclas.paddleclas": _paddleclas_mobilenet(
        "small_x1_25", "small_x1_25", "md5:69b75ae25115475af20d0f1af67412c0", 3_627_370, 70.67, 89.51
    ),
    "mobilenet_v3_large_x0_35_paddleclas.paddleclas": _paddleclas_mobilenet(
        "large_x0_35", "large_x0_35", "md5:64864e5bff400eca62566c32270f7afc", 2_104_328, 64.32, 85.46
    ),
    "mobilenet_v3_large_x0_5_paddleclas.paddleclas": _paddleclas_mobilenet(
        "large_x0_5", "large_x0_5", "md5:d6da6f4fb5d27901be64c7acc26288d0", 2_673_422, 69.24, 88.52
    ),
    "mobilenet_v3_large_x0_75_paddleclas.paddleclas": _paddleclas_mobilenet(
        "large_x0_75", "large_x0_75", "md5:5af6995c37d468d8e3ddee69cc238ed7", 3_912_248, 73.14, 91.08
    ),
    "mobilenet_v3_large_x1_0_paddleclas.paddleclas": _paddleclas_mobilenet(
        "large_x1_0", "large_x1_0", "md5:8f8b4359af8093191628e410438ca858", 5_480_206, 75.32, 92.31
    ),
    "mobilenet_v3_large_x1_0_paddleclas.paddleclas_ssld": _paddleclas_mobilenet(
        "large_x1_0", "large_x1_0_ssld", "", 5_480_206, 78.96, 94.48
    ),
    "mobilenet_v3_large_x1_25_paddleclas.paddleclas": _paddleclas_mobilenet(
        "large_x1_25", "large_x1_25", "md5:0a092f2906ef0ae8267e4756449cc90a", 7_443_308, 76.41, 92.95
    ),
}

# What `--pretrained` without a name means: the file of the network's first publisher, and where there are several of
# one publisher, that of the highest published accuracy.
DEFAULTS = {
    "peleenet": "peleenet.official",
    "mobilenet_v3_small": "mobilenet_v3_small.torchvision_v1",
    "mobilenet_v3_small_x1_0": "mobilenet_v3_small.torchvision_v1",
    "mobilenet_v3_large": "mobilenet_v3_large.torchvision_v2",
    "mobilenet_v3_large_x1_0": "mobilenet_v3_large.torchvision_v2",
    "alexnet": "alexnet.torchvision_v1",
    "mobilenet_v3_small_x0_35_paddleclas": "mobilenet_v3_small_x0_35_paddleclas.paddleclas_ssld",
    "mobilenet_v3_small_x0_5_paddleclas": "mobilenet_v3_small_x0_5_paddleclas.paddleclas",
    "mobilenet_v3_small_x0_75_paddleclas": "mobilenet_v3_small_x0_75_paddleclas.paddleclas",
    "mobilenet_v3_small_x1_0_paddleclas": "mobilenet_v3_small_x1_0_paddleclas.paddleclas_ssld",
    "mobilenet_v3_small_x1_25_paddleclas": "mobilenet_v3_small_x1_25_paddleclas.paddleclas",
    "mobilenet_v3_large_x0_35_paddleclas": "mobilenet_v3_large_x0_35_paddleclas.paddleclas",
    "mobilenet_v3_large_x0_5_paddleclas": "mobilenet_v3_large_x0_5_paddleclas.paddleclas",
    "mobilenet_v3_large_x0_75_paddleclas": "mobilenet_v3_large_x0_75_paddleclas.paddleclas",
    "mobilenet_v3_large_x1_0_paddleclas": "mobilenet_v3_large_x1_0_paddleclas.paddleclas_ssld",
    "mobilenet_v3_large_x1_25_paddleclas": "mobilenet_v3_large_x1_25_paddleclas.paddleclas",
}


def find_weights(name: str, model: str | None = None, *, default_model: str | None = None) -> tuple[str, PublicWeights]:
    """Find the row that `--pretrained` means.

    Args:
        name: name of a row; or its last part, such as `torchvision_v1`, where `model` says the first; or "auto" for the
            default of `model`; or the name of a network, which means its default.
        model: the network that the weights must fit; None where the row decides.
        default_model: the network that is meant where neither `model` nor `name` tells it.

    Returns:
        The name of the row and the row.

    Raises:
        UsageError: no such row, or its weights are of another network; the message names those that there are.
    """
    if name in MODELS and model in (None, name):
        name, model = AUTO, name
    if model is None and name not in WEIGHTS:
        model = default_model
    if name == AUTO:
        if model not in DEFAULTS:
            raise UsageError(_no_weights(model))
        name = DEFAULTS[model]
    else:
        short = [row for row in names_for(model) if row.endswith(f".{name}")] if model else []
        name = short[0] if short else name
    if name not in WEIGHTS:
        raise UsageError(
            f"no public weights are called {name!r}{did_you_mean(name, WEIGHTS)}\npython -m models.pretrained lists all"
        )
    if model is not None and model not in WEIGHTS[name].models:
        raise UsageError(f"the weights {name} are of {WEIGHTS[name].models[0]}, not of {model}; {_no_weights(model)}")
    return name, WEIGHTS[name]


def names_for(model: str) -> list[str]:
    """Names of the rows whose weights fit a network."""
    return [name for name, row in WEIGHTS.items() if model in row.models]


def _no_weights(model: str | None) -> str:
    if model is not None and (names := names_for(model)):
        return f"for {model} there are: {', '.join(names)}"
    near = f"{model}_paddleclas"
    hint = f"PaddleClas's of this width are of another network: --model {near} --pretrained" if near in MODELS else ""
    return f"for {model} there are no public weights" + (f"; {hint}" if hint else "")


def download_weights(name: str, weights_dir: str = "") -> Path:
    """Return the path of the weights of a row on this machine, downloaded if they are not there.

    Raises:
        DownloadError, CheckpointError, UsageError, DiskError: as `weights_cache.fetch`.
    """
    return fetch(WEIGHTS[name].file, weights_dir)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.pretrained", description="List public weights, or download those that are named."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="weights, or a network, whose default is taken")
    parser.add_argument("--weights_dir", default="", help="folder; default: ~/.cache/peleenet-paddle/weights")
    parser.add_argument("--markdown", choices=("en", "ch"), help="print the table of docs/pretrained.md, or its _ch")
    arguments = parser.parse_args(argv)
    if arguments.markdown:
        print(as_markdown(WEIGHTS, DEFAULTS, arguments.markdown))
    elif not arguments.names:
        print(as_text(WEIGHTS, DEFAULTS))
    for name in [find_weights(name)[0] for name in arguments.names]:
        print_safely(download_weights(name, arguments.weights_dir))


if __name__ == "__main__":
    run(main)
