"""The files for clusters are well formed, and every flag in them exists."""

import re
import shlex
import subprocess
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
    assert config.run.resume == "auto" and config.run.output_dir and config.run.save_steps
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
