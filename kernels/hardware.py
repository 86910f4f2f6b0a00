"""What is here: CPU, caches, NUMA nodes, the limits this process runs under, and the GPUs.

    from truffle.kernels import hardware
    here = hardware.detect()
    here.cpu.usable_cpus, here.memory_limit_bytes, [gpu.name for gpu in here.gpus]

Everything is read from /proc, /sys, the cgroup files and NVML. What cannot be read is None; nothing raises on
a strange machine, and nothing that tells machines apart (host name, serial numbers) is recorded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from truffle.kernels import cgroups, nvml
from truffle.kernels.cgroups import read

# Flags that an implementation may ask for, as /proc/cpuinfo spells them. Linux clears a flag where it does
# not save the registers, so a flag that is there can be used (AMX still needs the process's permission).
ISAS = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "avx512_vpopcntdq", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "svebf16"),
)


class Frozen(BaseModel):
    """A schema: unchangeable, with JSON both ways, and no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cache(Frozen):
    """One level of cache: `kind` is data, instruction or unified; `instances` of `size_bytes` each."""

    level: int
    kind: str
    size_bytes: int
    instances: int


class NumaNode(Frozen):
    node: int
    cpus: tuple[int, ...]
    memory_bytes: int | None = None


class Cpu(Frozen):
    """The processor, and the part of it that this process may use.

    Attributes:
        isa: the `ISAS` that every CPU has.
        logical_cpus, physical_cores: online in the machine.
        siblings: logical CPUs by physical core.
        allowed: logical CPUs in the affinity mask and the cpusets.
        quota_cpus: CPU time that the cgroups grant, in CPUs.
        usable_cpus, usable_cores: logical CPUs allowed and physical cores behind them, within the quota.
    """

    model: str | None = None
    vendor: str | None = None
    isa: tuple[str, ...] = ()
    sockets: int | None = None
    logical_cpus: int
    physical_cores: int
    siblings: tuple[tuple[int, ...], ...] = ()
    caches: tuple[Cache, ...] = ()
    numa_nodes: tuple[NumaNode, ...] = ()
    allowed: tuple[int, ...] = ()
    quota_cpus: float | None = None
    usable_cpus: int = Field(ge=1)
    usable_cores: int = Field(ge=1)

    @property
    def last_level_cache_bytes(self) -> int | None:
        """All instances of the outermost cache together."""
        outermost = max(self.caches, key=lambda cache: cache.level, default=None)
        return outermost and outermost.size_bytes * outermost.instances


class Gpu(Frozen):
    """One device as NVML lists it. Where MIG is on, each instance is one, with the instance's memory.

    The current PCIe generation falls while a card idles; the maximum is that of card and slot together.
    """

    name: str | None = None
    memory_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    pcie_gen_max: int | None = None
    pcie_gen_current: int | None = None
    pcie_width_max: int | None = None
    pcie_width_current: int | None = None
    numa_node: int | None = None
    mig: bool = False


class HardwareProfile(Frozen):
    """What `detect` found; `model_dump_json` and `model_validate_json` round-trip it."""

    cpu: Cpu
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None


def detect(root: str | Path = "/", pynvml: Any = None) -> HardwareProfile:
    """Describe this machine and the limits on this process.

    Args:
        root: where /proc and /sys are found.
        pynvml: a stand-in for the module of that name.
    """
    root = Path(root)
    memory_bytes = _memory_bytes(root / "proc/meminfo")
    limits = [limit for limit in (memory_bytes, cgroups.memory_limit_bytes(root)) if limit]
    gpus, driver = nvml.gpus(pynvml)
    return HardwareProfile(
        cpu=_cpu(root),
        memory_bytes=memory_bytes,
        memory_limit_bytes=min(limits, default=None),
        gpus=tuple(Gpu(**fields) for fields in gpus),
        driver=driver,
    )


def _cpu(root: Path) -> Cpu:
    info, folder = read(root / "proc/cpuinfo") or "", root / "sys/devices/system/cpu"
    online = _cpu_list(read(folder / "online")) or tuple(range(os.cpu_count() or 1))
    cores = {_cpu_list(read(folder / f"cpu{cpu}/topology/thread_siblings_list")) or (cpu,) for cpu in online}
    packages = {read(folder / f"cpu{cpu}/topology/physical_package_id") for cpu in online} - {None}
    allowed, quota = _allowed(root, online), cgroups.quota_cpus(root)
    # A fraction rounds down: with one thread too many, all are stopped in every scheduling period.
    within_quota = len(online) if quota is None else max(1, int(quota))
    return Cpu(
        model=_field(info, "model name"),
        vendor=_field(info, "vendor_id") or _field(info, "CPU implementer"),
        isa=_isa(info),
        sockets=len(packages) or None,
        logical_cpus=len(online),
        physical_cores=len(cores),
        siblings=tuple(sorted(cores)),
        caches=_caches(folder, online),
        numa_nodes=_numa_nodes(root / "sys/devices/system/node"),
        allowed=allowed,
        quota_cpus=quota,
        usable_cpus=min(len(allowed), within_quota),
        usable_cores=min(sum(not set(core).isdisjoint(allowed) for core in cores), within_quota),
    )


def _allowed(root: Path, online: tuple[int, ...]) -> tuple[int, ...]:
    # The affinity mask that sched_getaffinity returns, as /proc writes it.
    affinity = _field(read(root / "proc/self/status") or "", "Cpus_allowed_list")
    allowed = set(online)
    for mask in (affinity, *cgroups.cpu_sets(root)):
        allowed &= set(_cpu_list(mask)) or allowed
    return tuple(sorted(allowed)) or online


def _isa(info: str) -> tuple[str, ...]:
    flags = [set(line.split()) for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", info, re.MULTILINE)]
    common = set.intersection(*flags) if flags else set()
    return tuple(isa for isa in ISAS if isa in common)


def _caches(folder: Path, online: tuple[int, ...]) -> tuple[Cache, ...]:
    sharers: dict[tuple[int, str, int], set[str | None]] = {}
    for index in (index for cpu in online for index in (folder / f"cpu{cpu}/cache").glob("index[0-9]*")):
        level, size = read(index / "level"), re.fullmatch(r"(\d+)K", read(index / "size") or "")
        if level and level.isdigit() and size:
            key = int(level), (read(index / "type") or "unified").lower(), int(size[1]) * 1024
            sharers.setdefault(key, set()).add(read(index / "shared_cpu_list"))
    return tuple(
        Cache(level=level, kind=kind, size_bytes=size_bytes, instances=len(groups))
        for (level, kind, size_bytes), groups in sorted(sharers.items())
    )


def _numa_nodes(folder: Path) -> tuple[NumaNode, ...]:
    numbers = sorted(int(path.name[4:]) for path in folder.glob("node[0-9]*"))
    return tuple(
        NumaNode(
            node=number,
            cpus=_cpu_list(read(folder / f"node{number}/cpulist")),
            memory_bytes=_memory_bytes(folder / f"node{number}/meminfo"),
        )
        for number in numbers
    )


def _cpu_list(text: str | None) -> tuple[int, ...]:
    """``"0-3,8"`` as numbers; nothing where the text is missing or malformed."""
    if not text or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return ()
    ranges = (part.partition("-") for part in text.split(","))
    return tuple(cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1))


def _memory_bytes(path: Path) -> int | None:
    match = re.search(r"MemTotal:\s*(\d+) kB", read(path) or "")
    return int(match[1]) * 1024 if match else None


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:[ \t]*(\S.*)$", text, re.MULTILINE)
    return match[1].strip() if match else None
