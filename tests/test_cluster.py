"""The files for clusters are well formed, every flag in them exists, and Slurm's script asks to be started again."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from configs.loader import parse
from configs.schema import TrainConfig
from tests.faults.elastic import ELASTIC, ENVIRONMENT

FOLDER = Path(__file__).parents[1] / "deploy" / "cluster"
JOB = yaml.safe_load((FOLDER / "paddlejob.yaml").read_text(encoding="utf-8"))
CONTAINER = JOB["spec"]["paddleReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
SCRIPTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in ("slurm.sbatch", "elastic.sh")}


@pytest.mark.parametrize("text", [CONTAINER["args"][0], *SCRIPTS.values()], ids=["paddlejob", *SCRIPTS])
def test_the_commands_are_ours(text):
    command = re.search(r"engine\.supervise.*?--keep_last \d+", text.replace("\\\n", " "), re.DOTALL)[0]
    ours = shlex.split(command.partition("main.py")[2])
    config = parse(TrainConfig, ours, prog="main.py")
    assert config.resume.resume == "auto" and config.output.output_dir and config.output.save_steps
    assert "paddle.distributed.launch" in command and "umask 077" in text


def test_the_pod_has_time_to_save_and_a_name_the_operator_knows():
    pod = JOB["spec"]["paddleReplicaSpecs"]["Worker"]["template"]["spec"]
    assert CONTAINER["name"] == "paddle" and pod["terminationGracePeriodSeconds"] > 120
    mounted = {mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert not CONTAINER.get("env"), "secrets belong into files: the launcher writes the environment into its logs"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_shell(name):
    subprocess.run(["bash", "-n", FOLDER / name], check=True)


def test_the_elastic_mode_is_the_one_that_is_measured():
    script = SCRIPTS["elastic.sh"]
    for name, value in ENVIRONMENT.items():
        assert f"export {name}={value} " in script
    assert ELASTIC in script


FAKES = {
    "scontrol": '[ "$1" = show ] && echo node1 || echo "$*" >asked',
    "srun": "trap 'exit 75' USR1; echo \"$$ $*\" >part; mv part step; while :; do sleep 0.01; done",
    "scancel": 'read -r pid _ <step; kill -USR1 "$pid"; while kill -0 "$pid"; do sleep 0.01; done 2>/dev/null',
}


def test_slurms_script_asks_for_another_start_even_if_the_run_ends_while_it_is_told(tmp_path):
    for name, text in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "64"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **slurm}
    command, end = ["bash", FOLDER / "slurm.sbatch"], time.monotonic() + 60
    script = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        while not (tmp_path / "step").exists():
            assert script.poll() is None, "the script ended before its step began"
            assert time.monotonic() < end, "the script never started its step"
            time.sleep(0.01)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(60) == 75
    finally:
        with contextlib.suppress(ProcessLookupError):  # the step goes on by itself if the script is gone
            os.killpg(script.pid, signal.SIGKILL)
        script.wait()
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert "--cpus-per-task=64 " in (tmp_path / "step").read_text()
