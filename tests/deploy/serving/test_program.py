"""The program as users run it: real engines in processes of their own, kills, reload, stop, exit codes, the client."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import deploy
from common.errors import UsageError
from deploy.card import read_card, write_card
from deploy.serving.__main__ import main
from deploy.serving.client import Client, find_files
from deploy.serving.client import main as client_main
from deploy.serving.server import open_socket

from .running_service import ROOT, command, processes_left, running_service

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def folder(exported_onnx, tmp_path_factory):
    """A copy, which the tests of reload change."""
    return shutil.copytree(exported_onnx, tmp_path_factory.mktemp("served") / "exported")


@pytest.fixture(scope="module")
def service(folder):
    with running_service(folder, "--engine", "onnxruntime", "--threads", 1) as running:
        yield running


def picture(seed: int) -> bytes:
    """A small PNG of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_record_is_that_of_infer(service, folder):
    status, answer, _ = service.request("POST", "/predict?top_k=4", picture(1))
    expected = deploy.load(folder, engine="onnxruntime", num_threads=1).predict(picture(1), topk=4)
    assert status == 200
    [record] = answer["predictions"]
    expected = expected.to_dict()
    assert list(record) == list(expected) and record["label_names"] == expected["label_names"]
    assert record["scores"] == pytest.approx(expected["scores"], abs=1e-6)
    assert service.request("GET", "/model")[1]["engine"].startswith("ONNX Runtime")


def test_the_client(service, image_folder, capsys):
    with pytest.raises(Exception, match=r"1 of 2 images") as caught:
        client_main([service.url, str(image_folder / "b.jpg"), str(image_folder / "notes.txt"), "--top_k", "1"])
    assert caught.value.exit_code == 3
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["file_name"].endswith("b.jpg") and len(good["scores"]) == 1
    assert bad["file_name"].endswith("notes.txt") and "not an image" in bad["error"]
    files = find_files([str(image_folder)])
    assert len(files) == 7
    with Client(service.url) as client:
        records = list(client.predict_files(files, num_requests=3))
        assert client.model()["classes"] == 4
    assert [record["file_name"] for record in records] == files and all("error" not in record for record in records)


def test_an_engine_that_was_killed_is_replaced_and_the_client_waits_for_it(service):
    before = service.request("POST", "/predict", picture(2))[1]["predictions"]
    [pid] = service.engine_pids
    os.kill(pid, signal.SIGKILL)
    service.wait_for("engine_ended")
    status, answer, headers = service.request("POST", "/predict", picture(2))
    if status != 200:  # the new engine may be as fast as the request
        assert status == 503 and answer["kind"] == "engine_away" and int(headers["Retry-After"]) >= 1
    with Client(service.url) as client:
        record = client.predict(picture(2))
    assert record["scores"] == pytest.approx(before[0]["scores"], abs=1e-6)
    [new] = service.engine_pids
    assert new != pid and service.request("GET", "/v2/health/ready")[0] == 200


def test_a_reload_takes_the_new_export_and_refuses_a_bad_one(service, folder):
    [pid] = service.engine_pids
    program = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(program[:-1])
    service.process.send_signal(signal.SIGHUP)
    assert "goes on" in service.wait_for("reload_refused")["details"]
    assert service.request("POST", "/predict", picture(3))[0] == 200 and service.engine_pids == [pid]
    (folder / "model.onnx").write_bytes(program)
    write_card(folder, replace(read_card(folder), created="later"))
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("reloaded")
    assert service.request("POST", "/predict", picture(3))[0] == 200
    assert service.request("GET", "/model")[1]["created"] == "later"
    assert processes_left([pid]) == [] and len(service.engine_pids) == 1


def test_a_stop_answers_what_was_accepted_and_leaves_no_process(folder):
    with running_service(folder, "--engine", "onnxruntime", "--threads", 1, "--max_delay_ms", 0) as service:
        pids, answers = [service.process.pid, *service.all_pids], []
        assert len(pids) >= 2

        def ask(seed: int) -> None:
            answers.append(service.request("POST", "/predict", picture(seed))[0])

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
        for thread in threads:
            thread.start()
        while not answers:
            time.sleep(0.001)
        assert service.stop() == 0
        for thread in threads:
            thread.join()
        assert len(answers) == 12 and set(answers) <= {200, 503}
        assert processes_left(pids) == []
        assert [line["event"] for line in service.lines[-3:]][-2:] == ["stopped", "end of the log"]


def test_the_engine_ends_with_a_killed_service(folder):
    with running_service(folder, "--engine", "onnxruntime", "--threads", 1) as service:
        pids = service.all_pids
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
        assert processes_left(pids) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["EXPORTED", "--max_queue", "4"], "--max_images 32"),
        (["EXPORTED", "--grace_seconds", "5"], "--request_seconds 20"),
        (["a b=EXPORTED"], "expected a name"),
        (["a=EXPORTED", "a=EXPORTED"], "two models"),
        (["EXPORTED", "EXPORTED"], "two models"),
        (["nowhere"], "no such file or folder"),
    ],
)
def test_flags_that_cannot_be_used(exported_onnx, arguments, words):
    with pytest.raises(UsageError, match=words):
        main([argument.replace("EXPORTED", str(exported_onnx)) for argument in arguments])


def test_a_damaged_export(exported_onnx, tmp_path):
    damaged = shutil.copytree(exported_onnx, tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"x")
    words = command(damaged, "--engine", "onnxruntime")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and "model.onnx" in done.stderr and "Traceback" not in done.stderr


def test_an_address_of_another_machine():
    with pytest.raises(UsageError, match="another --host or --port"):
        open_socket("203.0.113.7", 0, "--port")


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UsageError, match="in use"):
        open_socket("127.0.0.1", other.getsockname()[1], "--port")


def run_without(module: str, *arguments: object) -> subprocess.CompletedProcess:
    code = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_module('deploy.serving', run_name='__main__')"
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_package_is_named_with_its_file(exported_onnx, module):
    done = run_without(module, exported_onnx)
    assert done.returncode == 7 and f"{module} is not installed" in done.stderr
    assert "pip install -r requirements-serving.txt" in done.stderr


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_paddle_is_not_imported(exported_onnx, tmp_path, engine):
    """Neither by the server nor by the engine process: a module `paddle` that ends the process is first on the path."""
    (tmp_path / "paddle.py").write_text("import os; os._exit(77)")
    words = command(exported_onnx, "--engine", engine, "--threads", 1)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert json.loads(process.stdout.readline())["event"] == "listening"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_help_says_what_the_flags_mean():
    done = subprocess.run([sys.executable, "-m", "deploy.serving", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--max_delay_ms" in done.stdout
