"""The TIPC harness: its grammar, its configs against the scripts' flags, and every planted failure, on fake scripts."""

import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs import schema
from configs.loader import parse
from test_tipc import check
from tests.tipc_fakes import REFERENCE, TIPC, Place, write_fake_service

CONFIGS = sorted((TIPC / "config").rglob("*.txt"))
CHAIN = "test_train_inference_python.sh"
LITE = "lite_train_lite_infer"
CANNOT_START = 126
SUCCESS = "\033[33m Run successfully with command - {}!  \033[0m"
FAILURE = "\033[33m Run failed with command - {}!  \033[0m"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def prepared(place):
    status, text = place.bash("prepare.sh", REFERENCE, LITE)
    assert status == 0, text
    return place


SHORT = {"line_4": "gpu_list:0", "line_44": "--batch_size:1"}  # one chain, one inference


# ---------------------------------------------------------------------------------------------------- whole runs


def test_reference_config_runs_unchanged(prepared):
    status, text = prepared.bash(CHAIN, REFERENCE, LITE)
    assert status == 0, text
    lines = prepared.status_lines()
    assert all(line.startswith("\033[33m Run successfully with command - python3 ") for line in lines)
    assert all(line.endswith("!  \033[0m") for line in lines)
    assert "chains 2, commands 24, failed 0" in text
    assert text.count("no GPU here") == 2  # when it starts, and in the summary
    for gpus in ("0", "0,1"):
        folder = prepared.output / f"norm_train_gpus_{gpus}_autocast_null"
        for batch in (1, 2):
            name = f"python_infer_gpu_usetrt_False_precision_fp32_batchsize_{batch}"
            assert "preprocess_time" in (folder / f"{name}.log").read_text()
            assert re.search(rf"norm_train_gpus_{gpus}_autocast_null/{name} +1.50 +2.50 +0.10", text)
    train = "./test_tipc/output/norm_train_gpus_0_autocast_null/peleenet"
    value = REFERENCE.read_text().splitlines()[15].partition(":")[2]
    assert lines[0] == SUCCESS.format(f"python3 {value} --output_dir={train} --epochs=2 --batch_size=8")
    launches = (prepared.folder / "launches.txt").read_text().splitlines()
    assert launches == [f"--nproc_per_node 2 --log_dir={train[:-9].replace('gpus_0', 'gpus_0,1')}/launch"]


@pytest.mark.slow
def test_short_chain_of_the_real_scripts(tmp_path):
    place = Place(tmp_path)
    shutil.rmtree(tmp_path / "paddle")
    for name in ("main.py", "eval.py", "predict.py", "export_model.py", "infer.py", "demo"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(TIPC.parent / name)
    config = TIPC / "config" / "PeleeNet" / "peleenet_short.txt"
    for script in ("prepare.sh", CHAIN):
        status, text = place.bash(script, config, LITE, TIPC_DATA="", OMP_NUM_THREADS="1")
        assert status == 0, text
    assert "chains 1, commands 10, failed 0" in text
    assert "not compared" not in text


@pytest.mark.parametrize(
    ("plant", "command", "num_commands"),
    [
        ("main", "python3 main.py", 1),
        ("no weights", "test -s", 2),
        ("nan loss", "check.py loss", 10),
        ("rising loss", "check.py loss", 10),
        ("eval", "python3 eval.py", 7),
        ("other scores", "check.py evaluated_as_predicted", 10),
        ("export_model", "python3 export_model.py", 7),
        ("infer", "python3 infer.py", 9),
        ("image left out", "check.py evaluated_as_predicted", 10),
        ("other numbers", "check.py same", 10),
    ],
)
def test_planted_failure_is_told_for_its_command(prepared, plant, command, num_commands):
    status, text = prepared.bash(CHAIN, prepared.config(**SHORT), LITE, PLANT=plant)
    failed = prepared.failed()
    assert status == len(failed) >= 1
    assert command in failed[0]
    assert f"failed {len(failed)}," in text
    assert sum(line.startswith("\033[33m Run ") for line in prepared.status_lines()) == num_commands
    reasons = [line for line in prepared.status_lines() if line.startswith("    exit status ")]
    assert len(reasons) == len(failed)
    assert re.search(r"planted in|error: |printed nothing", reasons[0])
    if "loss" in plant:
        assert "the loss diverged" in reasons[0]
    assert all(text.count(reason.strip()) == 2 for reason in set(reasons))  # after its line, and in the summary


def test_two_runs_give_the_same_and_keep_the_logs_of_both(prepared):
    config = prepared.config(**SHORT)
    for _ in range(2):
        status, text = prepared.bash(CHAIN, config, LITE)
        assert status == 0, text
    [earlier] = (prepared.output / "earlier").iterdir()
    assert (earlier / "results_python.log").read_text().splitlines() == prepared.status_lines()
    for folder in (earlier, prepared.output):
        assert len(list(folder.glob("norm_train_gpus_0_autocast_null/*.log"))) == 10, folder


def test_every_combination_of_the_grid(prepared):
    config = prepared.config(line_4="gpu_list:0", line_41="--use_gpu:True|False", line_46="--precision:fp32|fp16|int8")
    status, text = prepared.bash(CHAIN, config, LITE)
    assert status == 0, text
    logs = {path.name for path in (prepared.output / "norm_train_gpus_0_autocast_null").glob("python_infer_*.log")}
    cpu = {
        f"python_infer_cpu_usemkldnn_{mkldnn}_threads_{threads}_precision_{precision}_batchsize_{batch}.log"
        for mkldnn, precision in (("True", "fp32"), ("True", "fp16"), ("False", "fp32"))
        for threads in (1, 2)
        for batch in (1, 2)
    }
    gpu = {f"python_infer_gpu_usetrt_False_precision_fp32_batchsize_{batch}.log" for batch in (1, 2)}
    assert logs == cpu | gpu


def test_cpu_by_name(prepared):
    status, text = prepared.bash(CHAIN, prepared.config(line_4="gpu_list:-1"), LITE)
    assert status == 0, text
    calls = (prepared.folder / "calls.txt").read_text().splitlines()
    assert ['"--device=cpu"' in call for call in calls if '["main"' in call or '["eval"' in call] == [True, True]
    assert all('"--use_gpu=False"' in call for call in calls if '["infer"' in call)
    assert (prepared.output / "norm_train_gpus_-1_autocast_null").is_dir()


def test_several_nodes(prepared):
    status, text = prepared.bash(CHAIN, prepared.config(line_4="gpu_list:127.0.0.1,127.0.0.1;0,1"), LITE)
    assert status == 0, text
    folder = "./test_tipc/output/norm_train_gpus_0,1_autocast_null_nodes_2"
    launches = sorted((prepared.folder / "launches.txt").read_text().splitlines())
    pattern = (
        r"--nproc_per_node 2 --master=127.0.0.1:(\d+) --nnodes=2 --job_id=tipc --rank={0} --log_dir={1}/launch_{0}"
    )
    matches = [re.fullmatch(pattern.format(rank, re.escape(folder)), launches[rank]) for rank in (0, 1)]
    assert matches[0][1] == matches[1][1]

    (prepared.folder / "launches.txt").unlink()
    config = prepared.config(line_4="gpu_list:192.0.2.1,192.0.2.2;0")
    status, text = prepared.bash(CHAIN, config, LITE, TIPC_DEVICE="gpu")
    assert status == 0, text
    assert "this machine is not the first node" in text
    folder = folder.replace("0,1", "0")
    expected = f"--gpus=0 --log_dir={folder}/launch --ips=192.0.2.1,192.0.2.2\n"
    assert (prepared.folder / "launches.txt").read_text() == expected


def test_whole_infer_and_klquant(prepared):
    source = TIPC / "config" / "PeleeNet"
    status, text = prepared.bash("prepare.sh", source / "peleenet.txt", "whole_infer")
    assert status == 0, text
    status, text = prepared.bash(CHAIN, source / "peleenet.txt", "whole_infer")
    assert status == 0, text
    assert (prepared.output / "whole_infer_0" / "export.log").is_file()
    status, text = prepared.bash(CHAIN, source / "peleenet_klquant.txt", "klquant_whole_infer")
    assert status == 0, text
    assert "--calibration_images=" in prepared.status_lines()[0]
    assert "infer.py --engine=onnxruntime" in "".join(prepared.status_lines())
    assert sum("check.py same_classes" in line for line in prepared.status_lines()) == 4
    assert "null" not in "".join(prepared.status_lines()).replace("usemkldnn_null", "")


def test_paddle2onnx(prepared):
    source = TIPC / "config" / "PeleeNet" / "peleenet_paddle2onnx.txt"
    status, text = prepared.bash("prepare.sh", source, "paddle2onnx_infer")
    assert status == 0, text
    status, text = prepared.bash(
        "test_paddle2onnx.sh", prepared.config(source, line_4="2onnx:true"), "paddle2onnx_infer"
    )
    assert status == 0, text
    assert prepared.status_lines("paddle2onnx")[0] == SUCCESS.format(
        "true --model_dir=./test_tipc/output/pretrained/peleenet --model_filename=model.json "
        "--params_filename=model.pdiparams --save_file=./test_tipc/output/paddle2onnx_infer/model.onnx "
        "--opset_version=17 --enable_onnx_checker=True"
    )
    assert len(prepared.status_lines("paddle2onnx")) == 4


def test_inference_cpp(prepared):
    source = TIPC / "config" / "PeleeNet" / "peleenet_cpp.txt"
    fakes = {"line_4": "configure:null", "line_7": "inference:python3 infer.py"}
    for build, plant, expected in (("true", "", 0), ("false", "", 1), ("true", "infer", 4)):
        config = prepared.config(source, **fakes, line_5=f"build:{build}")
        prepared.bash("prepare.sh", config, "cpp_infer")
        status, text = prepared.bash("test_inference_cpp.sh", config, "cpp_infer", PLANT=plant)
        assert status == expected, text


def test_given_weights_are_those_that_are_exported_and_predicted(prepared):
    source = TIPC / "config" / "PeleeNet" / "peleenet_cpp.txt"
    config = prepared.config(source, line_4="configure:null", line_5="build:true", line_7="inference:python3 infer.py")
    weights = prepared.folder / "mine.pd"
    weights.write_bytes(b"weights")
    prepared.bash("prepare.sh", config, "cpp_infer", TIPC_WEIGHTS=str(weights))
    prepared.bash("test_inference_cpp.sh", config, "cpp_infer", TIPC_WEIGHTS=str(weights))
    commands = [line for line in prepared.status_lines("cpp") if "export_model.py" in line or "predict.py" in line]
    assert [line.count(f"--resume={weights}") for line in commands] == [1, 1], commands


@pytest.mark.parametrize(
    ("plant", "failed"),
    [
        ("", []),
        ("export_model", ["python3 export_model.py"]),
        ("service", ["python3 -m deploy.serving --port=0"]),
        ("infer", ["python3 -m deploy.serving.client http://127.0.0.1:8"]),
        ("other numbers", ["check.py same"]),
        ("deaf", ["kill -TERM (the service of"]),
    ],
)
def test_serving_infer(prepared, plant, failed):
    """The service is started once for each engine, asked, compared and ended, also if a step before went wrong."""
    write_fake_service(prepared.folder)
    source = TIPC / "config" / "PeleeNet" / "peleenet_serving_infer.txt"
    status, text = prepared.bash("prepare.sh", source, "serving_infer")
    assert status == 0, text
    config = prepared.config(source, line_12="--engine:onnxruntime")
    status, text = prepared.bash("test_serving_infer_python.sh", config, "serving_infer", PLANT=plant)
    lines = prepared.status_lines("serving")
    wrong = [line for line in lines if "Run failed" in line]
    assert status == len(wrong) == len(failed), text
    for line, start in zip(wrong, failed, strict=True):
        assert start in line
    if not plant:
        verbs = [
            "export_model.py",
            "predict.py",
            "-m deploy.serving ",
            "deploy.serving.client",
            "check.py",
            "kill -TERM",
        ]
        assert [next(verb for verb in verbs if verb in line) for line in lines] == verbs
        assert "--port=0 ./test_tipc/output/serving_infer/peleenet --engine=onnxruntime!" in lines[2]
    for pid in (prepared.folder / "services.txt").read_text().split() if plant != "export_model" else ():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_dy2static_notices_unequal_losses(place):
    (place.folder / "steps.py").write_text("import sys; print('step 0 loss', float(sys.argv[1] == sys.argv[2]))")
    source = TIPC / "config" / "PeleeNet" / "peleenet_dy2static.txt"
    for argument, expected in (("--to_static=True", 1), ("--to_static=Other", 0)):
        config = place.config(source, line_4=f"train:steps.py {argument}")
        status, text = place.bash("test_train_dy2static_python.sh", config, "dy2static")
        assert status == expected, text


def checked(*arguments) -> str:
    return subprocess.check_output([sys.executable, TIPC / "check.py", *map(str, arguments)], text=True)


def test_what_is_not_compared_is_told_and_blank_lines_of_a_list_are_none(tmp_path):
    names = ("chain/peleenet/log.txt", "train_list.txt", "val_list.txt", "kept.txt", "eval.log", "predict.log")
    log, train, val, kept, evaluated, predicted = (tmp_path / name for name in names)
    log.parent.mkdir(parents=True)
    log.write_text('{"train_loss": 1.0}')
    train.write_text("")
    val.write_text("val/a.png 3\n\n")
    kept.write_text(f"images {hashlib.sha256(val.read_bytes()).hexdigest()}\nother 0 train_loss 1 0\n")
    assert "keeps nothing of chain" in checked("stored", kept, log, tmp_path)
    evaluated.write_text("* Acc@1 100.000 Acc@5 100.000 loss 1.000")
    predicted.write_text(str([{"class_ids": [3], "scores": [1.0], "file_name": str(tmp_path / "val/a.png")}]))
    assert "top-1 of 1 images" in checked("evaluated_as_predicted", evaluated, predicted, val)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("chain 0 train_loss 1.25 0.25", None),  # 1.0 is within
        ("chain 0 train_loss 1.25 0.125", "epoch 0 train_loss is 1.0"),
        ("chain 1 train_loss 1 0.5", "epoch 1 train_loss is nan"),  # not finite
        ("chain 2 train_loss 1 0.5", "epoch 2 train_loss is nan"),  # there is no such epoch
        ("chain 0 train_loss nan 0.5", "epoch 0 train_loss is 1.0, kept is nan"),
    ],
)
def test_a_number_that_is_missing_or_not_finite_is_not_the_one_that_was_kept(tmp_path, line, found):
    log, kept = tmp_path / "chain" / "peleenet" / "log.txt", tmp_path / "kept.txt"
    log.parent.mkdir(parents=True)
    log.write_text('{"train_loss": 1.0}\n{"train_loss": NaN}\n')
    for name in ("train_list.txt", "val_list.txt"):
        (tmp_path / name).write_text("")
    kept.write_text(f"images {hashlib.sha256().hexdigest()}\nother 9 train_loss 1 0\n{line}\n")
    done = subprocess.run(
        [sys.executable, TIPC / "check.py", "stored", kept, log, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {found}") if found else not done.stderr
    assert "other" not in done.stdout, "of another chain"


# ---------------------------------------------------------------------------------------------------- grammar


def test_no_text_of_a_config_is_executed(prepared):
    words = "$(touch broken) `touch broken` ; touch broken '' \"a b\" 'c d' *.py"
    config = prepared.config(**SHORT, line_16=f"norm_train:main.py --output_dir=/dev/null {words}")
    status, text = prepared.bash(CHAIN, config, LITE)
    assert status == 0, text
    assert not (prepared.folder / "broken").exists()
    call = (prepared.folder / "calls.txt").read_text().splitlines()[0]
    assert '"$(touch", "broken)", "`touch", "broken`", ";", "touch", "broken", "", "a b", "c d", "*.py"' in call


def test_open_quote_is_a_failed_command(prepared):
    status, text = prepared.bash(CHAIN, prepared.config(**SHORT, line_16="norm_train:main.py --aa='"), LITE)
    assert status == 1
    assert "an open quote?" in text


def test_blank_lines_and_windows_line_ends_do_not_count(prepared):
    config = prepared.config(**SHORT)
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n\r\n  \r\n"))
    status, text = prepared.bash(CHAIN, config, LITE)
    assert status == 0, text


def test_shifted_line_is_refused(prepared):
    config = prepared.config()
    config.write_text(config.read_text().replace("null:null\n", "", 1))
    status, text = prepared.bash(CHAIN, config, LITE)
    assert status == CANNOT_START
    assert "line 11 must be 'train_model_name:...', got 'train_infer_img_dir:" in text


@pytest.mark.parametrize("script", ["prepare.sh", CHAIN, "test_paddle2onnx.sh", "test_inference_cpp.sh",
                                    "test_serving_infer_python.sh"])  # fmt: skip
def test_unknown_mode_and_missing_config_are_refused(place, script):
    status, text = place.bash(script, REFERENCE, "lite_train_lite_inferlite_train")
    assert (status, "unknown mode" in text) == (CANNOT_START, True)
    mode = {
        "test_paddle2onnx.sh": "paddle2onnx_infer",
        "test_inference_cpp.sh": "cpp_infer",
        "test_serving_infer_python.sh": "serving_infer",
    }.get(script, LITE)
    status, text = place.bash(script, "nowhere.txt", mode)
    assert (status, "nowhere.txt: no such config" in text) == (CANNOT_START, True)


def test_epochs_and_batch_of_the_mode(prepared):
    whole = "whole_train_whole_infer"
    lines = {"line_7": f"--epochs:{LITE}=5|{whole}=90", "line_9": f"--batch_size:{whole}=9"}
    for mode, epochs, batch in ((LITE, 5, 8), (whole, 90, 9), ("lite_train_whole_infer", 2, 8)):
        prepared.bash(CHAIN, prepared.config(**SHORT, **lines), mode, PLANT="main")
        assert f" --epochs={epochs} --batch_size={batch}!" in prepared.status_lines()[0]


# ---------------------------------------------------------------------------------------------------- prepare.sh


def test_prepare_is_idempotent_and_repairs(prepared):
    data = prepared.folder / "dataset" / "ILSVRC2012"
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert "is there and whole" in prepared.bash("prepare.sh", REFERENCE, LITE)[1]
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    (data / "train_list.txt").write_text("damaged")
    status, text = prepared.bash("prepare.sh", REFERENCE, LITE)
    assert status == 0, text
    assert len((data / "train_list.txt").read_text().splitlines()) == 8


def test_prepare_takes_some_images_of_a_tar_and_mixes_no_splits(place):
    tar = place.folder / "images.tar"
    subprocess.run(["tar", "-C", place.folder, "-cf", tar, "images"], check=True)
    numbers = {"TIPC_TRAIN_IMAGES": "4", "TIPC_VAL_IMAGES": "2", "TIPC_DATA": str(tar)}
    status, text = place.bash("prepare.sh", REFERENCE, LITE, TIPC_SHA256="0" * 64, **numbers)
    assert (status, "TIPC_SHA256 says 000" in text) == (CANNOT_START, True)
    [sum_] = re.findall("has SHA-256 ([0-9a-f]{64})", text)
    status, text = place.bash("prepare.sh", REFERENCE, LITE, TIPC_SHA256=sum_, **numbers)
    assert status == 0, text
    data = place.folder / "dataset" / "ILSVRC2012"
    assert sorted(path.name for path in (data / "train").iterdir()) == [f"train {i}.png" for i in (1, 3, 5, 7)]
    assert sorted(path.name for path in (data / "val").iterdir()) == ["val 3.png", "val 7.png"]
    assert (data / "val_list.txt").read_text() == "val/val 3.png 1\nval/val 7.png 1\n"


def test_no_download_is_none(place):
    digits = shutil.copytree(place.folder / "images", place.folder / "dataset" / "digits")
    shutil.copy(digits / "val.txt", digits / "val_list.txt")
    status, text = place.bash("prepare.sh", REFERENCE, LITE, TIPC_DATA="", TIPC_DOWNLOAD="0")
    assert status == 0, text
    assert "http" not in (place.folder / "dataset" / "ILSVRC2012" / ".tipc").read_text()


def test_prepare_keeps_images_of_others(place):
    data = place.folder / "dataset" / "ILSVRC2012"
    data.mkdir(parents=True)
    status, text = place.bash("prepare.sh", REFERENCE, LITE)
    assert (status, "move it away to use TIPC_DATA" in text) == (CANNOT_START, True)
    for name in ("train_list.txt", "val_list.txt"):
        (data / name).write_text("mine")
    status, text = place.bash("prepare.sh", REFERENCE, LITE, TIPC_DATA="")
    assert (status, (data / "val_list.txt").read_text()) == (0, "mine"), text


# ---------------------------------------------------------------------------------------------------- configs


SCRIPTS = {
    "main.py": schema.TrainConfig,
    "eval.py": schema.EvalConfig,
    "predict.py": schema.PredictConfig,
    "export_model.py": schema.ExportConfig,
    "infer.py": schema.InferConfig,
}
LINES = {
    51: CHAIN,
    14: "test_serving_infer_python.sh",
    13: "test_paddle2onnx.sh",
    12: "test_inference_cpp.sh",
    5: "test_train_dy2static_python.sh",
}


def commands(config: Path) -> list[list[str]]:
    """The commands of a config as words, with the flags that the shell adds to them."""
    lines = [line.partition(":")[::2] for line in config.read_text().splitlines()]
    flags = {key: value for key, value in lines if key.startswith("--") and value != "null"}
    text = subprocess.run(["xargs", "-n1"], input="\n".join(value for _, value in lines if ".py" in value), text=True,
                          capture_output=True, check=True).stdout.split("\n")  # fmt: skip
    found = []
    for word in text[:-1]:
        if word in SCRIPTS:
            found.append([word])
        elif found:
            found[-1].append(word)
    added = {"infer.py": [f"{key}={value.split('|')[0]}" for key, value in flags.items()]}
    if len(lines) == 51:
        added["main.py"] = ["--output_dir=x", "--epochs=2", "--batch_size=8"]
        added["eval.py"] = ["--resume=x"]
        added["export_model.py"] = ["--resume=x", "--output=x"]
        keys = [key for key, _ in lines[40:] if key != "null"]
        added["infer.py"] = [f"{key}={flags[key].split('|')[0]}" for key in keys if key in flags]
    elif len(lines) == 14:
        added["export_model.py"] = [f"{key}={value}" for key, value in lines[4:9] if value != "null"]
    elif len(lines) == 13:
        added["infer.py"] = [f"{key}={value}" for key, value in lines[11:]]
    return [[*command, *added.get(command[0], [])] for command in found]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_flag_in_the_configs_exists_in_the_scripts(config):
    assert len(config.read_text().splitlines()) in LINES
    for script, *words in commands(config):
        parse(SCRIPTS[script], words, prog=script)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_lines_are_where_the_shell_reads_them(config):
    lines = config.read_text().splitlines()
    script = (TIPC / LINES[len(lines)]).read_text()
    required = re.search(r"^require_keys ((?:.*\\\n)*.*)$", script, re.MULTILINE)[1].replace("\\\n", "").split()
    for number, key in zip(required[::2], required[1::2], strict=True):
        assert lines[int(number) - 1].startswith(f"{key}:"), f"{config}:{number}"
    assert all(line.count(":") or line.startswith(("=", "#")) for line in lines)


def test_configs_are_reachable_by_both_names():
    assert (TIPC / "configs" / "PeleeNet" / "peleenet.txt").samefile(TIPC / "config" / "PeleeNet" / "peleenet.txt")


SHELLCHECK = shutil.which("shellcheck") or shutil.which("shellcheck", path=Path(sys.executable).parent)  # .venv's
SHELL_SCRIPTS = [*sorted(TIPC.glob("*.sh")), *sorted((TIPC.parent / "deploy" / "cluster").glob("*.s*"))]


@pytest.mark.skipif(not SHELLCHECK, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script):
    done = subprocess.run([SHELLCHECK, "-x", script.name], cwd=script.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert not re.search(r"(^|[;&|]\s*|\s)eval\s+[\"$]", script.read_text(encoding="utf-8"))


def test_a_probability_that_is_no_number_differs_from_every_other():
    assert check.difference({0: 0.75, 1: math.nan}, {0: 0.75, 1: 0.25}) == math.inf
    assert check.difference({0: 0.75, 1: 0.25}, {0: 0.75, 1: 0.125}) == 0.125


@pytest.mark.parametrize("num_other", [0, 100])
def test_int8_may_give_another_class_for_few_images_alone(monkeypatch, num_other):
    expected = {str(image): {0: 0.75, 1: 0.25} for image in range(100)}
    predicted = {str(image): {0: 0.25, 1: 0.75} if image < num_other else expected[str(image)] for image in range(100)}
    monkeypatch.setattr(check, "read_same_images", lambda *_: (expected, predicted))
    if num_other:
        with pytest.raises(check.WrongResult, match="another class for 100 of 100 images"):
            check.same_classes(Path("a"), Path("b"))
    else:
        check.same_classes(Path("a"), Path("b"))
