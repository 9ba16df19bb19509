"""Usable processors: affinity, quotas of control groups in both versions, and the ranks of a machine."""

import os

import pytest

from common import cpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 processors with control groups of files."""

    def make(own: str, files: dict[str, str]):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
        monkeypatch.setattr(cpus, "CGROUP_ROOT", tmp_path / "cgroup")
        monkeypatch.setattr(cpus, "OWN_CGROUPS", tmp_path / "own")
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


V1 = "5:memory:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),  # docker run --cpus 2.5
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a processor
        ("0::/\n", {"cpu.max": "3200000 100000\n"}, 16),
        ("0::/\n", {}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),  # of the group above
        ("0::/host/path\n", {"cpu.max": "400000 100000\n"}, 4),  # the path is that of the host
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000\n",
              "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "500000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 5),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("5:memory:/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 16),
    ],
)  # fmt: skip
def test_usable_cpus(machine, own, files, expected):
    machine(own, files)
    assert cpus.usable_cpus() == expected


def test_affinity_may_be_less_than_the_quota(machine, monkeypatch):
    machine("0::/\n", {"cpu.max": "800000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert cpus.usable_cpus() == 2


def test_a_system_without_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "OWN_CGROUPS", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpus.cpu_quota() is None and cpus.usable_cpus() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.usable_cpus() == 1


@pytest.mark.parametrize(
    ("variables", "ranks"),
    [({}, 1), ({"PADDLE_TRAINERS_NUM": "4"}, 4), ({"PADDLE_TRAINERS_NUM": "8", "PADDLE_LOCAL_SIZE": "2"}, 2)],
)
def test_ranks_of_a_machine_share_its_processors(variables, ranks, monkeypatch):
    """`paddle.distributed.launch` sets PADDLE_LOCAL_SIZE; without it all ranks are on this machine."""
    for name in ("PADDLE_TRAINERS_NUM", "PADDLE_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 12)
    assert cpus.ranks_on_this_machine() == ranks and cpus.cpus_of_this_rank() == 12 // ranks
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 1)
    assert cpus.cpus_of_this_rank() == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),  # ARM
        ("flags : fpu avx512f avx512_vnni\n", False),
        ("model name : avx512_bf16\nflags : fpu\n", False),
        ("flags : fpu avx512_bf16_of_another_kind\n", False),
        (None, False),  # another operating system
    ],
)
def test_bfloat16_is_read_from_the_features_of_the_processor(text, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "CPU_INFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert cpus.has_bfloat16() is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("vendor_id\t: GenuineIntel\n", True), ("vendor_id\t: AuthenticAMD\n", False), (None, False)],
)
def test_a_processor_of_intel_is_known(text, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "CPU_INFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert cpus.is_intel() is expected
