"""Run the chain from train to serve with every other supported Python: `python -m tests.pythons [VERSION ...]`.

The interpreters are those that this machine has, on PATH or under pyenv, beside the one that runs this program. Each
has a virtual environment of its own, .venv-3.10 and so on, with requirements.txt and, where it can be installed,
requirements-serving.txt. The data are a few of the digits.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.digits import write_digits

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "output" / "pythons"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")  # those that Paddle 3.3.1 has wheels for
REQUIREMENTS = ("requirements.txt", "requirements-serving.txt")
NO_SERVICE = ("3.10",)  # the python-multipart that the service needs begins with Python 3.11
EVERY = 30  # each thirtieth of the digits: 49 images to train, 12 to evaluate
TOLERANCE = 1e-5  # of a probability, between the eager and the exported model

MODEL = "--model peleenet --nb_classes 10 --input_size 32 --train_interpolation bilinear"
TRAIN = (
    f"main.py {MODEL} --data_path {{data}} --cls_label_path_train {{data}}/train_few.txt "
    "--cls_label_path_val {data}/val_few.txt --label_list {data}/label_list.txt --batch_size 8 --num_workers 2 "
    "--opt momentum --lr 0.05 --warmup_epochs 0 --model_ema --output_dir {out}/train"
)
CHECKPOINT = "{out}/train/checkpoint-latest.pd"
CHAIN = {
    "compile": "-W error::SyntaxWarning -m compileall -q common configs models datasets engine deploy alignment demo",
    "check": "-m datasets.check {data} --lists {data}/train_few.txt {data}/val_few.txt --write_manifest {out}/sums.txt",
    "pack": "-m datasets.pack --data_path {data} --list {data}/train_few.txt --output_dir {out}/shards",
    "train": f"{TRAIN} --epochs 1",
    "resume": f"{TRAIN} --epochs 2 --resume auto",
    "eval": f"eval.py {MODEL} --data_path {{data}} --cls_label_path_val {{data}}/val_few.txt --num_workers 2 "
    f"--resume {CHECKPOINT}",
    "predict": f"predict.py {MODEL} --resume {CHECKPOINT} --infer_imgs {{data}}/few --save_path {{out}}/predict.json",
    "export": f"export_model.py {MODEL} --resume {CHECKPOINT} --output_dir {{out}}/exported",
    "infer": "infer.py --model_file {out}/exported/model.json --input_file {data}/few --save_path {out}/infer.json",
    "serve": "-m tests.deploy.serving.running_service {out}/exported",
}


def main(versions: list[str]) -> int:
    """Run the chain with the Pythons of these versions; without one, with all VERSIONS but the version that runs this.

    Returns:
        The number of interpreters with which a command failed.
    """
    versions = versions or [version for version in VERSIONS if version != "{}.{}".format(*sys.version_info)]
    interpreters = {version: find_interpreter(version) for version in versions}
    for version in [version for version, path in interpreters.items() if path is None]:
        print(f"Python {version}: not on this machine", flush=True)
        del interpreters[version]
    data = write_few_digits(FOLDER / "digits")
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = pool.map(lambda item: check_interpreter(*item, data), interpreters.items())
        num_failed = 0
        for version, error in zip(interpreters, results, strict=True):
            print(f"Python {version}: " + (error or f"{len(commands_for(version)[0])} commands passed"), flush=True)
            num_failed += bool(error)
    return num_failed


def find_interpreter(version: str) -> Path | None:
    """Find a Python of the version that can create virtual environments, on PATH or under pyenv, or return None."""
    candidates = [shutil.which(f"python{version}")]
    if pyenv := shutil.which("pyenv"):
        root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip())
        candidates += sorted(root.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
    question = "import sys, venv, ensurepip; print('{}.{}'.format(*sys.version_info))"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", question], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return Path(candidate)
    return None


def write_few_digits(folder: Path) -> Path:
    """Write the digits, lists of a few of them and a folder with a few of the validation images."""
    write_digits(folder)
    for split in ("train", "val"):
        lines = (folder / f"{split}_list.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}_few.txt").write_text("".join(lines[::EVERY]), encoding="utf-8")
    for line in lines[::EVERY]:
        image = folder / line.rsplit(" ", 1)[0]
        (folder / "few").mkdir(exist_ok=True)
        shutil.copy(image, folder / "few" / image.name)
    return folder


def check_interpreter(version: str, interpreter: Path, data: Path) -> str:
    """Install the requirements for one interpreter and run the chain; returns what failed, or ""."""
    out = FOLDER / version
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    python = ROOT / f".venv-{version}" / "bin" / "python"
    chain, requirements = commands_for(version)
    if error := install(interpreter, python, requirements):
        return error
    for name, command in chain.items():
        words = [str(python), *shlex.split(command.format(data=shlex.quote(str(data)), out=shlex.quote(str(out))))]
        if error := run(words):
            return f"{name} failed: {error}"
    return compare(out / "predict.json", out / "infer.json")


def commands_for(version: str) -> tuple[dict[str, str], list[Path]]:
    """The chain that a version of Python can run, and the files of requirements for it."""
    has_service = version not in NO_SERVICE
    chain = {name: command for name, command in CHAIN.items() if has_service or name != "serve"}
    return chain, [ROOT / name for name in REQUIREMENTS[: 1 + has_service]]


def install(interpreter: Path, python: Path, requirements: list[Path]) -> str:
    """Create the virtual environment of `python` unless it has these requirements; returns what failed, or ""."""
    mark = python.parent.parent / "requirements.sha256"
    checksum = hashlib.sha256(b"".join(path.read_bytes() for path in requirements)).hexdigest()
    if mark.is_file() and mark.read_text() == checksum:
        return ""
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-compile"]
    for command in (
        [str(interpreter), "-m", "venv", "--clear", str(python.parent.parent)],
        [*pip, *(f"--requirement={path}" for path in requirements)],
    ):
        if error := run(command):
            return f"cannot be set up: {error}"
    mark.write_text(checksum)
    return ""


def run(words: list[str]) -> str:
    """Run a command in the root of the project; returns the command and its last lines if it failed, or ""."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = (done.stdout + done.stderr).splitlines()[-30:]
    return "\n".join([f"exit code {done.returncode}", shlex.join(words), *lines])


def compare(predicted: Path, inferred: Path) -> str:
    """Compare the predictions of the eager and of the exported model; returns the difference, or ""."""
    pairs = list(zip(*(json.loads(path.read_text()) for path in (predicted, inferred)), strict=True))
    if len(pairs) < 10:
        return f"{len(pairs)} predictions in {predicted}"
    for eager, exported in pairs:
        scores = [dict(zip(record["class_ids"], record["scores"], strict=True)) for record in (eager, exported)]
        common = scores[0].keys() & scores[1].keys()
        if len(common) < 4 or any(abs(scores[0][i] - scores[1][i]) > TOLERANCE for i in common):
            return f"predict.py and infer.py differ: {eager} and {exported}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
