"""The checks, in their order: what each expects, and the function that finds out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.gpu_check.workplace import SIDE, CheckFailed, NotPossible, Workplace, last_epoch_of, steps_of

STEP_SIDE, STEP_BATCH, NUM_STEPS = 224, 64, 20  # of the check of speed
RESULT = "checkpoint-latest.pd"


def _check_device(place: Workplace) -> str:
    """Paddle names its build and the GPUs, and a matrix product equals numpy's."""
    import paddle

    paddle.set_device(place.device)
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((512, 512), np.float32) for _ in range(2))
    product = (paddle.to_tensor(first) @ paddle.to_tensor(second)).numpy()
    difference = np.abs(product - first @ second).max() / np.abs(first @ second).max()
    if not difference < 2e-3:
        raise CheckFailed(f"the product differs by {difference:.1e} of its largest element")
    facts = [f"paddle {paddle.__version__}", f"CUDA {paddle.version.cuda()}", f"cuDNN {paddle.version.cudnn()}"]
    if place.device == "gpu":
        count = paddle.device.cuda.device_count()
        names = [paddle.device.cuda.get_device_name(i) for i in range(count)]
        gigabytes = paddle.device.cuda.get_device_properties(0).total_memory / 2**30
        facts += [f"{count} x {', '.join(sorted(set(names)))}, {gigabytes:.0f} GB"]
    return ", ".join([*facts, f"product within {difference:.0e}"])


def _check_float32(place: Workplace) -> str:
    """Two epochs on drawn pictures: the loss falls, and top-1 is above 60 %, where chance is 25 %."""
    return _describe_learned(place.train("float32"))


def _check_float16(place: Workplace) -> str:
    """The same in float16 with a scaled loss: it falls, top-1 is above 60 %."""
    return _describe_mixed(place, "float16")


def _check_bfloat16(place: Workplace) -> str:
    """The same in bfloat16, which needs compute capability 8.0: the loss falls, top-1 is above 60 %."""
    return _describe_mixed(place, "bfloat16")


def _describe_mixed(place: Workplace, dtype: str) -> str:
    if place.device == "cpu":
        raise NotPossible("mixed precision needs a GPU")
    return _describe_learned(place.train(dtype, "--use_amp", "--amp_dtype", dtype))


def _describe_learned(folder: Path) -> str:
    losses, top1 = [step["loss"] for step in steps_of(folder)], last_epoch_of(folder)["test_acc1"]
    found = f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, top-1 {top1:.1f} %"
    if not (np.isfinite(losses).all() and losses[-1] < losses[0] and top1 > 60):
        raise CheckFailed(found)
    return found


def _check_determinism(place: Workplace) -> str:
    """Two trainings with --debug end with the same bits in all weights."""
    return _compare_weights(*(place.train(f"debug{number}", "--debug") for number in (1, 2)))


def _check_resume(place: Workplace) -> str:
    """A training with --debug that is continued after its first epoch ends with the same bits as a whole one."""
    whole, parts = place.train("whole", "--debug", "--save_freq", "1"), place.runs / "parts"
    parts.mkdir()
    (parts / RESULT).write_bytes((whole / "checkpoint-0.pd").read_bytes())
    return _compare_weights(whole, place.train("parts", "--debug", "--save_freq", "1", "--resume", "auto"))


def _compare_weights(first: Path, second: Path) -> str:
    from engine.checkpoint import read_checkpoint

    one, other = (read_checkpoint(folder / RESULT).tensors for folder in (first, second))
    different = [name for name in one if not np.array_equal(one[name], other[name])]
    if one.keys() != other.keys() or different:
        worst = max(np.abs(one[name] - other[name]).max() for name in different)
        raise CheckFailed(f"{len(different)} of {len(one)} tensors differ, by at most {worst:.1e}: {different[:3]}")
    return f"{len(one)} tensors equal to the last bit"


def _check_two_devices(place: Workplace) -> str:
    """Two devices (NCCL) with half the batch each: the losses are those of one device to 10 % at the first steps."""
    import paddle

    if place.device == "gpu" and paddle.device.cuda.device_count() < 2:
        raise NotPossible("one GPU; two are needed")
    launcher = ("--gpus", "0,1") if place.device == "gpu" else ("--nproc_per_node", "2")
    alone = place.train("one_device")
    together = place.train("two_devices", "--batch_size", "32", launcher=launcher)
    losses = [[step["loss"] for step in steps_of(folder)][:3] for folder in (alone, together)]
    if not np.allclose(*losses, rtol=0.1):
        raise CheckFailed(f"losses {losses[0]} alone, {losses[1]} together")
    return f"losses of the first steps {np.round(losses[0], 3)} alone, {np.round(losses[1], 3)} together"


def _check_loader(place: Workplace) -> str:
    """The loader works ahead: a step waits less than 20 % of the time for its images, after the first epoch."""
    steps = [step for step in steps_of(place.train("loader", "--epochs", "3")) if step["epoch"] > 0]
    share = float(np.mean([step["waiting_share"] for step in steps]))
    speed = float(np.median([step["images_per_second"] for step in steps]))
    found = f"waiting for {100 * share:.0f} % of the time, {speed:.0f} images/s at {SIDE} pixels"
    if share > 0.2 and place.device == "gpu":
        raise CheckFailed(f"{found}: too few or too slow workers for this GPU (--num_workers, python -m datasets.pack)")
    return found


def _check_speed(place: Workplace) -> str:
    """Images per second and memory of a step: our loop takes at most 1.05 times as long as a bare loop."""
    import paddle

    from benchmarks.step_contenders import Job, prepare_bare_paddle, prepare_ours

    paddle.set_device(place.device)
    is_gpu = place.device == "gpu"
    job = Job("peleenet", *((STEP_SIDE, STEP_BATCH) if is_gpu else (SIDE, 2)), num_threads=1, folder="")
    num_steps, loops = NUM_STEPS if is_gpu else 1, {"ours": prepare_ours(job), "bare": prepare_bare_paddle(job)}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(6):  # the first one warms up
        for name, steps in loops.items():
            seconds[name].append(_time(lambda steps=steps: steps(num_steps)))
    ours, bare = (float(np.median(seconds[name][1:])) for name in ("ours", "bare"))
    memory = f", {paddle.device.cuda.max_memory_allocated() / 2**20:.0f} MB" if is_gpu else ""
    speed = num_steps * job.batch_size / ours
    found = f"{speed:.0f} images/s at {job.side} pixels, {ours / bare:.3f} times the bare loop{memory} (both loops)"
    if ours > 1.05 * bare and is_gpu:
        raise CheckFailed(found)
    return found


def _time(work: Callable[[], object]) -> float:
    import time

    import paddle

    start = time.perf_counter()
    work()
    paddle.device.synchronize()
    return time.perf_counter() - start


def _check_evaluation(place: Workplace) -> str:
    """eval.py gives the same top-1 on the GPU and on the CPU, to one image of 128."""
    checkpoint, found = place.train("evaluated") / RESULT, {}
    for device in (place.device, "cpu"):
        lines = place.run("eval", "--resume", checkpoint, "--device", device).splitlines()
        found[device] = float(next(line for line in lines if "* Acc@1" in line).split("Acc@1 ")[1].split()[0])
    if max(found.values()) - min(found.values()) > 100 / 128 + 1e-3:
        raise CheckFailed(str(found))
    return f"top-1 {found} "


def _check_inference(place: Workplace) -> str:
    """infer.py on the GPU in fp32 and fp16 has the classes of predict.py on the CPU for at least 126 of 128 images."""
    return _compare_inference(place, {"fp32": [], "fp16": ["--precision", "fp16"]})


def _check_tensorrt(place: Workplace) -> str:
    """The same through TensorRT, where this build of Paddle has it."""
    return _compare_inference(place, {"TensorRT": ["--use_tensorrt", "True", "--batch_size", "1"]})


def _compare_inference(place: Workplace, ways: dict[str, list[str]]) -> str:
    if place.device == "cpu":
        ways = {name: flags for name, flags in ways.items() if name == "fp32"}
        if not ways:
            raise NotPossible("TensorRT needs a GPU")
    name = "inference_" + "_".join(ways)
    checkpoint, exported = place.train(name) / RESULT, place.runs / name / "exported"
    place.run("export_model", "--resume", checkpoint, "--output_dir", exported)
    val, answers = place.pictures / "val", place.runs / name / "cpu.jsonl"
    place.run("predict", "--resume", checkpoint, "--infer_imgs", val, "--device", "cpu", "--save_path", answers)
    expected, found = _classes_in(answers), []
    for way, flags in ways.items():
        answers = place.runs / name / f"{way}.jsonl"
        use_gpu = str(place.device == "gpu")
        place.run("infer", f"--model_file={exported}", f"--input_file={val}", f"--use_gpu={use_gpu}",
                  f"--save_path={answers}", *flags)  # fmt: skip
        classes = _classes_in(answers)
        num_equal = sum(classes[path] == label for path, label in expected.items())
        found.append(f"{way}: {num_equal} of {len(expected)} classes as on the CPU")
        if num_equal < len(expected) - 2:
            raise CheckFailed(found[-1])
    return "; ".join(found)


def _classes_in(path: Path) -> dict[str, int]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {Path(record["file_name"]).name: record["class_ids"][0] for record in records}


class Check(NamedTuple):
    """One check: a function that returns what it found, or raises CheckFailed or NotPossible."""

    run: Callable[[Workplace], str]

    @property
    def expects(self) -> str:
        """The expected outcome, one sentence."""
        return " ".join(self.run.__doc__.split())


CHECKS = {
    name: Check(run)
    for name, run in {
        "device": _check_device,
        "float32": _check_float32,
        "float16": _check_float16,
        "bfloat16": _check_bfloat16,
        "determinism": _check_determinism,
        "resume": _check_resume,
        "two_devices": _check_two_devices,
        "loader": _check_loader,
        "speed": _check_speed,
        "evaluation": _check_evaluation,
        "inference": _check_inference,
        "tensorrt": _check_tensorrt,
    }.items()
}
