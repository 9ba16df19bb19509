"""A folder with fake scripts in which the TIPC harness runs, each stage of a chain going wrong where it is asked to."""

import os
import subprocess
import sys
from pathlib import Path

TIPC = Path(__file__).parent.parent / "test_tipc"
REFERENCE = TIPC / "config" / "PeleeNet" / "peleenet_reference.txt"

# Stands in for the five scripts: leaves behind what each does, or goes wrong where PLANT says.
FAKE = """
import json, os, sys, time
from pathlib import Path

name = Path(sys.argv[0]).stem
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
plant = os.environ.get("PLANT", "")
with open("calls.txt", "a") as calls:
    print(json.dumps([name, *sys.argv[1:]]), file=calls)
if plant == name:
    sys.exit("error: planted in " + name)
images = sorted(str(path) for path in Path("dataset/ILSVRC2012/val").rglob("*.png"))
records = [{"class_ids": [i % 2, 2], "scores": [0.75, 0.25], "file_name": image, "label_names": ["a", "b"]}
           for i, image in enumerate(images)]
if name == "main":
    output = Path(flags["output_dir"])
    output.mkdir(parents=True, exist_ok=True)
    last = {"rising loss": 9.0, "nan loss": float("nan")}.get(plant, 1.0)
    with (output / "log.txt").open("w") as log:
        for loss in (3.0, last):
            print(json.dumps({"train_loss": loss, "test_loss": 2.0, "test_acc1": 50.0}), file=log)
    if plant != "no weights":
        (output / "checkpoint-latest.pd").write_text("weights")
elif name == "eval":
    print("* Acc@1 %.3f Acc@5 90.000 loss 2.000" % (25.0 if plant == "other scores" else 50.0))
elif name == "predict":
    print(records[:-1] if plant == "image left out" else records)
elif name == "infer":
    if plant == "other numbers":
        records[3]["scores"] = [0.7499, 0.2501]
    print(records)
    print("[2026/01/02] root INFO:  preprocess_time(ms): 1.5, inference_time(ms): 2.5, postprocess_time(ms): 0.1")
"""
SERVICE = """
import os, signal, sys, time

plant = os.environ.get("PLANT", "")
with open("services.txt", "a") as services:
    print(os.getpid(), file=services)
if plant == "service":
    sys.exit("error: planted in service")
if plant != "deaf":  # without a handler SIGTERM ends the process, but not with 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening on http://127.0.0.1:8", flush=True)
time.sleep(60)
"""
LAUNCHER = """
import runpy, sys

arguments = sys.argv[1:]
while arguments[0].startswith("-"):
    del arguments[: 2 if arguments[0] == "--nproc_per_node" else 1]
with open("launches.txt", "a") as launches:
    print(*sys.argv[1 : len(sys.argv) - len(arguments)], file=launches)
sys.argv = arguments
runpy.run_path(arguments[0], run_name="__main__")
"""


def write_fake_service(folder: Path) -> None:
    """Stand-ins for deploy.serving and its client, which prints what infer.py would."""
    package = folder / "deploy" / "serving"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "__main__.py").write_text(SERVICE)
    (package / "client.py").write_text(FAKE.replace("Path(sys.argv[0]).stem", '"infer"'))


class Place:
    """A folder with fake scripts and a few images, in which the harness runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.output = folder / "test_tipc" / "output"
        for name in ("main", "eval", "predict", "export_model", "infer"):
            (folder / f"{name}.py").write_text(FAKE)
        launcher = folder / "paddle" / "distributed"
        launcher.mkdir(parents=True)
        (launcher / "launch.py").write_text(LAUNCHER)
        for package in (launcher, launcher.parent):
            (package / "__init__.py").touch()
        for split in ("train", "val"):
            (folder / "images" / split).mkdir(parents=True)
            for i in range(8):
                (folder / "images" / split / f"{split} {i}.png").write_bytes(f"{split} {i}".encode())
            lines = [f"{split}/{split} {i}.png {i // 2 % 2}" for i in range(8)]
            (folder / "images" / f"{split}.txt").write_text("\r\n".join(lines))

    def bash(self, script: str, *arguments, **environment) -> tuple[int, str]:
        """Run a script of test_tipc here; its exit status, and what it wrote."""
        keep = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "VIRTUAL_ENV": "active",
            "TIPC_DEVICE": "cpu",
            "TIPC_DATA": str(self.folder / "images"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            ["bash", TIPC / script, *map(str, arguments)],
            cwd=self.folder,
            env=keep | environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def config(self, source: Path = REFERENCE, **lines: str) -> Path:
        """A copy of a config in which `line_41="--use_gpu:False"` and the like are replaced."""
        text = source.read_text().splitlines()
        for name, line in lines.items():
            text[int(name.removeprefix("line_")) - 1] = line
        (self.folder / "config.txt").write_text("\n".join(text) + "\n")
        return self.folder / "config.txt"

    def status_lines(self, name: str = "python") -> list[str]:
        return (self.output / f"results_{name}.log").read_text().splitlines()

    def failed(self) -> list[str]:
        return [line for line in self.status_lines() if "Run failed" in line]
