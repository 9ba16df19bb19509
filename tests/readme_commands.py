"""The commands of the README and of the pages for own pictures, and a checkout with little data in which they run."""

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from demo.textures import draw_texture, write_textures
from tests.forked_python import run_python
from tests.scripts.conftest import ENVIRONMENT

ROOT = Path(__file__).parent.parent
# What a machine without ImageNet, GPUs and days needs; a flag given twice means its last value.
SMALL = "--input_size 32 --epochs 1 --batch_size 4 --num_workers 0 --min_steps 0".split()
SHORTER = {
    "main.py": SMALL,
    "eval.py": [*SMALL[:2], *SMALL[4:8]],
    "predict.py": SMALL[:2],
    "export_model.py": SMALL[:2],
    "infer.py": [],
}
# Run by .ci/run itself, by other tests, or by the reader.
ELSEWHERE = (
    "make ",
    "python -m pip ",
    "python -m demo.textures ",
    "bash test_tipc/",
    "python -m deploy.serving",  # these two, and the pages of serving: tests/deploy/serving/test_docs.py
    "curl ",
    ".venv/bin/python -m alignment",
)


def commands(readme: str) -> list[str]:
    """The commands in the bash blocks of a page."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def commands_to_run(page: str, *, own_pictures: bool) -> list[str]:
    """Those of the way from a folder of own pictures to a classifier, or the others."""
    lines = [line for line in commands(page) if not line.startswith(ELSEWHERE)]
    return [line for line in lines if bool(re.search(r"My Pictures|output/own\b|new_pictures", line)) == own_pictures]


def create_checkout(folder: Path) -> Path:
    """A checkout (by links) with a tiny ILSVRC2012 and tiny own pictures beside the scripts."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("output", "build", "log"):
            (folder / path.name).symlink_to(path)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        lines = []
        for i in range(8):
            path = folder / "ILSVRC2012" / split / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
            lines.append(f"{split}/{i}.JPEG {i * 100}\n")
        (folder / "ILSVRC2012" / f"{split}_list.txt").write_text("".join(lines))
    write_textures(folder / "My Pictures", {"brick": 8, "grass": 8, "wood": 8})
    draw_texture("brick", [1, 0]).save(folder / "a.jpg")
    for name in ("new_pictures/1.jpg", "more/2.png"):
        (folder / name).parent.mkdir()
        draw_texture("wood", [1, 1]).save(folder / name)
    return folder


def on_this_machine(command: str) -> list[str]:
    """The words of a command after `python`, with the settings for little data and two processors."""
    words = shlex.split(command)
    assert words[0] == "python", command
    words = [word if word != "--gpus=0,1" else "--nproc_per_node=2" for word in words[1:]]
    if "--pretrained" in words:  # there is no network; the first training starts without weights, others from its own
        at = words.index("--pretrained")
        words[at : at + 1] = [] if "output/own" in words else ["--finetune", "output/own/checkpoint-best.pd"]
    script = next((word for word in words if word in SHORTER), None)
    return [*words, *SHORTER.get(script, [])]


def value_of(flag: str, command: str) -> str:
    """The value of a flag in a command; "" if the command does not have the flag."""
    words = shlex.split(command)
    return words[words.index(flag) + 1] if flag in words else ""


def run_in_order(folder: Path, lines: list[str]) -> None:
    """Run commands one after the other in a checkout; each must end with exit code 0."""
    for command in lines:
        words = on_this_machine(command)
        done = run_python(words, cwd=folder, env=ENVIRONMENT)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
