"""Discovery on made-up /proc, /sys and cgroup trees, and with a made-up NVML."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from truffle.kernels import hardware

V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:31 /docker/abc /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V1_GROUPS = "4:memory:/docker/abc\n3:cpuset:/docker/abc\n1:cpu,cpuacct:/docker/abc\n"
GIB = 1 << 30


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


def eight_threads(flags: tuple[str, ...] = ("avx2 avx512f amx_bf16 sse",) * 8) -> dict[str, str]:
    """Four cores with two threads each, one socket, two L3 slices, two NUMA nodes, 64 GiB."""
    cpu = "sys/devices/system/cpu"
    blocks = [
        f"processor\t: {i}\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon X\nflags\t\t: {f}\n"
        for i, f in enumerate(flags)
    ]
    files = {
        "proc/cpuinfo": "\n".join(blocks),
        "proc/meminfo": f"MemTotal:       {64 << 20} kB\nMemFree: 1 kB",
        "proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-7",
        f"{cpu}/online": "0-7",
        "sys/devices/system/node/node0/cpulist": "0-1,4-5",
        "sys/devices/system/node/node1/cpulist": "2-3,6-7",
        "sys/devices/system/node/node1/meminfo": f"Node 1 MemTotal:  {32 << 20} kB",
    }
    for i in range(8):
        core = i % 4
        half = "0-1,4-5" if core < 2 else "2-3,6-7"
        files |= {
            f"{cpu}/cpu{i}/topology/thread_siblings_list": f"{core},{core + 4}",
            f"{cpu}/cpu{i}/topology/physical_package_id": "0",
            f"{cpu}/cpu{i}/cache/index0/level": "1",
            f"{cpu}/cpu{i}/cache/index0/type": "Data",
            f"{cpu}/cpu{i}/cache/index0/size": "32K",
            f"{cpu}/cpu{i}/cache/index0/shared_cpu_list": f"{core},{core + 4}",
            f"{cpu}/cpu{i}/cache/index3/level": "3",
            f"{cpu}/cpu{i}/cache/index3/type": "Unified",
            f"{cpu}/cpu{i}/cache/index3/size": "16384K",
            f"{cpu}/cpu{i}/cache/index3/shared_cpu_list": half,
        }
    return files


def detect(folder: Path, files: dict[str, str]) -> hardware.HardwareProfile:
    return hardware.detect(tree(folder, files), pynvml=FakeNvml([], driver=False))


def test_topology_caches_and_nodes(tmp_path):
    here = detect(tmp_path, eight_threads())
    cpu = here.cpu
    assert (cpu.model, cpu.vendor, cpu.sockets) == ("Xeon X", "GenuineIntel", 1)
    assert (cpu.logical_cpus, cpu.physical_cores) == (8, 4)
    assert cpu.siblings == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert [(c.level, c.kind, c.size_bytes, c.instances) for c in cpu.caches] == [
        (1, "data", 32 << 10, 4),
        (3, "unified", 16 << 20, 2),
    ]
    assert cpu.last_level_cache_bytes == 32 << 20
    assert [(n.cpus, n.memory_bytes) for n in cpu.numa_nodes] == [
        ((0, 1, 4, 5), None),
        ((2, 3, 6, 7), 32 * GIB),
    ]
    assert (cpu.usable_cpus, cpu.usable_cores, cpu.quota_cpus) == (8, 4, None)
    assert here.memory_limit_bytes == here.memory_bytes == 64 * GIB


def test_only_flags_that_every_cpu_has(tmp_path):
    here = detect(tmp_path, eight_threads(("avx2 avx512f",) * 7 + ("avx2 sse",)))
    assert here.cpu.isa == ("avx2",)


def test_affinity_limits_cpus_and_cores(tmp_path):
    files = eight_threads() | {"proc/self/status": "Cpus_allowed:\tff\nCpus_allowed_list:\t0,4-5"}
    cpu = detect(tmp_path, files).cpu
    assert (cpu.allowed, cpu.usable_cpus, cpu.usable_cores) == ((0, 4, 5), 3, 2)


@pytest.mark.parametrize(
    ("own", "parent", "quota", "usable"),
    [
        ("max 100000", "250000 100000", 2.5, 2),
        ("350000 100000", "max 100000", 3.5, 3),
        ("50000 100000", "400000 100000", 0.5, 1),
        ("max 100000", "max 100000", None, 8),
    ],
)
def test_version_2_limits_hold_from_any_level(tmp_path, own, parent, quota, usable):
    group = "sys/fs/cgroup/slice"
    files = eight_threads() | {
        "proc/self/mountinfo": V2,
        "proc/self/cgroup": "0::/slice/job",
        f"{group}/job/cpu.max": own,
        f"{group}/cpu.max": parent,
        f"{group}/job/memory.max": "max",
        f"{group}/memory.max": str(6 * GIB),
    }
    here = detect(tmp_path, files)
    assert (here.cpu.quota_cpus, here.cpu.usable_cpus) == (quota, usable)
    assert here.cpu.usable_cores == min(4, usable)
    assert here.memory_limit_bytes == 6 * GIB
    assert here.memory_bytes == 64 * GIB


@pytest.mark.parametrize("membership", ["0::/", "0::/../../elsewhere"])
def test_version_2_inside_a_namespace_reads_the_mount(tmp_path, membership):
    files = eight_threads() | {
        "proc/self/mountinfo": V2,
        "proc/self/cgroup": membership,
        "sys/fs/cgroup/cpu.max": "300000 100000",
        "sys/fs/cgroup/cpuset.cpus.effective": "1-4",
    }
    cpu = detect(tmp_path, files).cpu
    assert (cpu.allowed, cpu.usable_cpus) == ((1, 2, 3, 4), 3)


def test_version_1_in_a_container_whose_mount_is_its_own_group(tmp_path):
    files = eight_threads() | {
        "proc/self/mountinfo": V1,
        "proc/self/cgroup": V1_GROUPS,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * GIB),
        "sys/fs/cgroup/cpuset/cpuset.cpus": "0-2",
    }
    here = detect(tmp_path, files)
    assert (here.cpu.quota_cpus, here.cpu.allowed, here.cpu.usable_cpus) == (2.0, (0, 1, 2), 2)
    assert here.memory_limit_bytes == 3 * GIB


def test_version_1_without_limits(tmp_path):
    files = eight_threads() | {
        "proc/self/mountinfo": V1,
        "proc/self/cgroup": V1_GROUPS,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    }
    here = detect(tmp_path, files)
    assert (here.cpu.quota_cpus, here.cpu.usable_cpus, here.memory_limit_bytes) == (None, 8, 64 * GIB)


def test_nothing_to_read_is_no_error(tmp_path):
    here = detect(tmp_path, {})
    assert here.cpu.usable_cpus >= 1
    assert (here.cpu.model, here.cpu.caches, here.cpu.last_level_cache_bytes) == (None, (), None)
    assert (here.memory_limit_bytes, here.gpus, here.driver) == (None, (), None)


def test_garbage_is_no_error(tmp_path):
    names = ("proc/cpuinfo", "proc/meminfo", "proc/self/cgroup", "proc/self/mountinfo", "proc/self/status")
    files = dict.fromkeys((*names, "sys/devices/system/cpu/online"), "\x00 - :: 7-,x / - cgroup2")
    assert detect(tmp_path, files).cpu.usable_cpus >= 1


def test_this_machine_round_trips_and_does_not_name_itself():
    here = hardware.detect()
    text = here.model_dump_json()
    assert hardware.HardwareProfile.model_validate_json(text) == here
    assert 1 <= here.cpu.usable_cpus <= len(os.sched_getaffinity(0))
    assert os.uname().nodename not in text.replace('"', " ").split()


class FakeNvml:
    """Boards are dictionaries from NVML function name to its answer; a missing one is refused."""

    class NVMLError(Exception):
        pass

    def __init__(self, boards: list[dict], driver: bool = True):
        self.boards, self.driver = boards, driver

    def __getattr__(self, function: str):
        def answer(board: dict, *arguments):
            if function not in board:
                raise self.NVMLError("Not Supported")
            value = board[function]
            return value(*arguments) if callable(value) else value

        return answer

    def nvmlInit(self):  # noqa: N802
        if not self.driver:
            raise self.NVMLError("NVML Shared Library Not Found")

    def nvmlShutdown(self):  # noqa: N802
        pass

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return self.boards[index]

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return b"580.95.05"


def test_a_card_that_refuses_some_fields(tmp_path):
    board = {
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=24 * GIB),
        "nvmlDeviceGetCudaComputeCapability": (8, 9),
        "nvmlDeviceGetMaxPcieLinkGeneration": 4,
        "nvmlDeviceGetCurrPcieLinkGeneration": 1,
    }
    here = hardware.detect(tmp_path, FakeNvml([board]))
    assert here.driver == "580.95.05"
    assert here.gpus == (
        hardware.Gpu(
            name="NVIDIA GeForce RTX 4090",
            memory_bytes=24 * GIB,
            compute_capability=(8, 9),
            pcie_gen_max=4,
            pcie_gen_current=1,
        ),
    )


def test_mig_instances_stand_for_their_board(tmp_path):
    instance = {"nvmlDeviceGetName": "slice", "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=10 * GIB)}

    def instance_at(number: int) -> dict:
        if number == 1:
            raise FakeNvml.NVMLError("Not Found")
        return instance

    board = {
        "nvmlDeviceGetMigMode": (1, 1),
        "nvmlDeviceGetMaxMigDeviceCount": 3,
        "nvmlDeviceGetMigDeviceHandleByIndex": instance_at,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * GIB),
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
    }
    gpus = hardware.detect(tmp_path, FakeNvml([board])).gpus
    found = [(g.name, g.memory_bytes, g.pcie_width_max, g.mig) for g in gpus]
    assert found == [("slice", 10 * GIB, 16, True)] * 2


def test_no_driver_no_gpu(tmp_path):
    here = hardware.detect(tmp_path, FakeNvml([{}], driver=False))
    assert (here.gpus, here.driver) == ((), None)


def test_discovery_loads_nothing_heavy():
    code = "import sys; from truffle.kernels import hardware, profiles; hardware.detect(); profiles.known();"
    code += "print(sorted({'torch', 'numba', 'triton', 'pandas'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("[]\n", "")
