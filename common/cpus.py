"""The processors: how many this process may use, how many processes of the launcher share them, and their kind."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")  # where every distribution and container mounts it
OWN_CGROUPS = Path("/proc/self/cgroup")
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, in vectors and in tiles; of ARM


def processor_name() -> str:
    """Model name of the processor, as far as the operating system tells it."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def is_intel() -> bool:
    """Whether the processor says that it is one of Intel."""
    try:
        return "GenuineIntel" in CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return False


def usable_cpus() -> int:
    """Number of processors that affinity mask and CPU quota allow this process, at least 1.

    A quota of 2.5 processors counts as 2: a third thread would be stopped for a part of every period, and the others
    would wait for it.
    """
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, number if quota is None else min(number, int(quota)))


def cpu_quota() -> float | None:
    """Processors that the control groups of this process allow (`docker run --cpus`, a limit of Kubernetes).

    The groups above that of the process count too. Both versions of Linux's control groups are read.

    Returns:
        None where there is no limit, and where there are no control groups.
    """
    quotas = [quota for folder in _cgroup_folders() if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders() -> Iterator[Path]:
    """Yield the folder of the process's control group for processors, and those above it."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in [CGROUP_ROOT / "cpu", CGROUP_ROOT / "cpu,cpuacct"] if controllers else [CGROUP_ROOT]:
            # In a container the path may be that of the host; then the root is the group of the container.
            folder = root / path.lstrip("/")
            yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(root)))


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        quota, period = float("inf" if quota == "max" else quota), float(period)
    except (OSError, ValueError):
        return None
    return quota / period if 0 < quota < float("inf") and period > 0 else None


def ranks_on_this_machine() -> int:
    """Number of processes of Paddle's launcher that share the processors of this machine; 1 without the launcher.

    Where the launcher does not tell, all ranks are taken to be on this machine.
    """
    return int(os.environ.get("PADDLE_LOCAL_SIZE") or os.environ.get("PADDLE_TRAINERS_NUM") or 1)


def cpus_of_this_rank() -> int:
    """Number of processors for this process, when the ranks of this machine share them equally; at least 1."""
    return max(1, usable_cpus() // ranks_on_this_machine())


def has_bfloat16() -> bool:
    """Whether Linux says that the processor multiplies bfloat16 numbers; False where there is no /proc/cpuinfo."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    names = (line.partition(":") for line in lines)
    return any(
        key.strip() in ("flags", "Features") and BFLOAT16_FEATURES & set(value.split()) for key, _, value in names
    )
