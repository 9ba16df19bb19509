"""The recipe of the image, step by step without Docker: each instruction is carried out below a folder of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.deploy.serving.test_manifests import DOCKERFILE
from tests.source import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.deploy]
IGNORED = shutil.ignore_patterns("__pycache__", "cpp")


class Image:
    """What a Dockerfile makes, below a folder that stands for `/`; both of its stages use the same one."""

    def __init__(self, root: Path):
        self.root, self.folder = root, root
        self.environment = {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin", "HOME": str(root)}
        self.user, self.health, self.entrypoint, self.arguments = None, [], [], []

    def moved(self, text: str) -> str:
        """A command or a path with the folders of the image below `root`."""
        return re.sub(r"(?<![\w./])/(build|venv|app|model)\b", rf"{self.root}/\1", text)

    def carry_out(self, instruction: str, text: str) -> None:
        """One line of the Dockerfile."""
        if instruction == "COPY" and not text.startswith("--from"):
            *sources, target = (self.moved(word) for word in text.split())
            for source in sources:
                place = Path(target, source) if target.endswith("/") else Path(target)
                place.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, place, **({"ignore": IGNORED} if copy is shutil.copytree else {}))
        elif instruction == "RUN":
            self.run(["sh", "-c", self.moved(text)])
        elif instruction == "WORKDIR":
            self.folder = Path(self.moved(text))
        elif instruction == "ENV":
            for name, value in (word.split("=", 1) for word in shlex.split(self.moved(text))):
                self.environment[name] = value.replace("$PATH", self.environment["PATH"])
        elif instruction == "USER":
            self.user = text.split(":")
        elif instruction == "HEALTHCHECK":
            self.health = json.loads(text.partition(" CMD ")[2])
        elif instruction in ("ENTRYPOINT", "CMD"):
            setattr(self, {"ENTRYPOINT": "entrypoint", "CMD": "arguments"}[instruction], json.loads(self.moved(text)))
        else:
            assert instruction in ("FROM", "EXPOSE", "STOPSIGNAL", "COPY"), instruction

    def as_user(self, command: list[str]) -> list[str]:
        """A command without rights, and as the user of the image where that one may read this Python."""
        if os.geteuid() != 0:
            return command
        user, group = self.user
        place = Path(sys.base_prefix).resolve()
        is_readable = all(folder.stat().st_mode & stat.S_IXOTH for folder in (place, *place.parents))
        change = [f"--reuid={user}", f"--regid={group}", "--clear-groups"] if is_readable else []
        return ["setpriv", *change, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *command]

    def run(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def image():
    folder = Path(tempfile.mkdtemp(prefix="image-"))  # not below pytest's own folder, into which only root may look
    folder.chmod(0o755)
    image = Image(folder)
    for line in DOCKERFILE.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            image.carry_out(*line.split(maxsplit=1))
    yield image
    shutil.rmtree(folder)


def test_the_image_serves_as_its_user_and_stops(image, exported_onnx, source, tmp_path):
    shutil.copytree(exported_onnx, image.root / "model")
    source.images[0].save(tmp_path / "a.png")
    command = image.as_user([*image.entrypoint, *image.arguments, "--port", "0"])
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        service = subprocess.Popen(command, cwd=image.folder, env=image.environment, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"listening on http://\S+:(\d+)", log.read_text())):
            assert service.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        url = f"http://127.0.0.1:{found[1]}"
        health = [word.replace("http://127.0.0.1:8000", url) for word in image.health]
        image.run(image.as_user(health))
        headers = {"Content-Type": "image/png"}
        request = urllib.request.Request(f"{url}/predict", (tmp_path / "a.png").read_bytes(), headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            [record] = json.load(answer)["predictions"]
        assert record["class_ids"][0] == int(source.logits[0].argmax())
        with urllib.request.urlopen(url, timeout=20) as page:
            assert b"<html" in page.read()
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(40) == 0, log.read_text()


def test_the_image_holds_no_paddle_and_no_installer(image):
    names = {path.name.lower() for path in (image.root / "venv").rglob("site-packages/*")}
    assert "onnxruntime" in names
    assert not {name for name in names if re.match(r"(paddle|openvino|torch|pip)(-|$)", name)}
    megabytes = sum(path.stat().st_size for path in image.root.rglob("*") if path.is_file()) / 1e6
    assert megabytes < 250  # beside Python itself
