"""Every command of the README runs, on a little data set in place of ImageNet; the two languages say the same."""

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.scripts.conftest import ENVIRONMENT

ROOT = Path(__file__).parent.parent
# What a machine without ImageNet, GPUs and days needs; a flag given twice means its last value.
SMALL = "--input_size 32 --epochs 1 --batch_size 4 --num_workers 0".split()
SHORTER = {
    "main.py": SMALL,
    "eval.py": [*SMALL[:2], *SMALL[4:]],
    "predict.py": SMALL[:2],
    "export_model.py": SMALL[:2],
    "infer.py": [],
}
# Run by .ci/run itself, by other tests, or by the reader.
ELSEWHERE = ("make ", "python -m pip ", "bash test_tipc/", ".venv/bin/python -m alignment")


def commands(readme: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory) -> Path:
    """A checkout (by links) with a tiny ILSVRC2012 beside the scripts."""
    folder = tmp_path_factory.mktemp("checkout")
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
    return folder


def on_this_machine(command: str) -> list[str]:
    words = shlex.split(command)
    assert words[0] == "python", command
    script = next(word for word in words if word in SHORTER)
    words = [word if word != "--gpus=0,1" else "--nproc_per_node=2" for word in words[1:]]
    return [sys.executable, *words, *SHORTER[script]]


def run_in_order(sandbox: Path, lines: list[str]) -> None:
    for command in lines:
        done = subprocess.run(
            on_this_machine(command), cwd=sandbox, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_commands_run_in_their_order(sandbox):
    """Those that come of the first training, and beside them the rest."""
    lines = [line for line in commands("README.md") if not line.startswith(ELSEWHERE)]
    assert len(lines) >= 9
    first = [line for line in lines if "output/peleenet" in line or "output/exported" in line]
    assert len(first) >= 6
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(run_in_order, sandbox, [line for line in lines if line not in first])
        run_in_order(sandbox, first)
    rest.result()
    assert (sandbox / "output" / "answers.csv").read_text().startswith("file_name,rank,class_id,score,label_name")


def test_the_make_targets_exist():
    for command in commands("README.md"):
        if command.startswith("make "):
            done = subprocess.run(["make", "-n", command.split()[1]], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_files_that_the_readme_names_exist():
    for readme in ("README.md", "README_ch.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
            assert (ROOT / target).exists(), f"{readme} links to {target}"


@pytest.mark.parametrize(
    "page", ["README", *(f"docs/{name}" for name in "reliability data deployment alignment".split())]
)
def test_both_languages_say_the_same(page):
    english, chinese = ((ROOT / f"{page}{end}.md").read_text(encoding="utf-8") for end in ("", "_ch"))
    lines = [[line.split(" #")[0].rstrip() for line in commands(f"{page}{end}.md")] for end in ("", "_ch")]
    assert lines[0] == lines[1]  # but for the comments
    assert set(re.findall(r"`(--\w+)", english)) == set(re.findall(r"`(--\w+)", chinese))
    for pattern in (r"^#+ ", r"^\|", r"^- ", r"^!\["):
        counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        assert counts[0] == counts[1], pattern
