"""Limits that control groups put on this process: CPU quota, CPU set and memory; version 2, 1 or both.

A limit holds for everything below it, so each is looked for from the process's own group up to the mount.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def quota_cpus(root: Path) -> float | None:
    """The smallest CPU quota on the way up, in CPUs, or None where there is none."""
    granted = []
    for version, folder in _groups(root, "cpu"):
        if version == 2:
            text = read(folder / "cpu.max")
        else:
            text = f"{read(folder / 'cpu.cfs_quota_us')} {read(folder / 'cpu.cfs_period_us')}"
        match (text or "").split():
            case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
                granted.append(int(quota) / int(period))
    return min(granted, default=None)


def cpu_sets(root: Path) -> list[str]:
    """CPU lists, such as ``"0-3,8"``, that this process is confined to."""
    names = {2: ("cpuset.cpus.effective",), 1: ("cpuset.effective_cpus", "cpuset.cpus")}
    found = [read(folder / name) for version, folder in _groups(root, "cpuset") for name in names[version]]
    return [text for text in found if text]


def memory_limit_bytes(root: Path) -> int | None:
    """The smallest memory limit on the way up, or None. Version 1 says "unlimited" by a huge number."""
    names = {2: "memory.max", 1: "memory.limit_in_bytes"}
    found = [read(folder / names[version]) for version, folder in _groups(root, "memory")]
    return min((int(text) for text in found if text and text.isdigit()), default=None)


def read(path: Path) -> str | None:
    """The stripped text of a file, or None where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """(cgroup version, folder) of the process's groups for `controller`, innermost first."""
    membership = (read(root / "proc/self/cgroup") or "").splitlines()
    for version, mount_root, mount_point in _mounts(root, controller):
        for line in membership:
            hierarchy, controllers, path = (*line.split(":", 2), "", "")[:3]
            mine = hierarchy == "0" if version == 2 else controller in controllers.split(",")
            if mine:
                yield from ((version, folder) for folder in _upwards(root, path, mount_root, mount_point))


def _upwards(root: Path, path: str, mount_root: str, mount_point: str) -> list[Path]:
    top = root / mount_point.lstrip("/")
    # Inside a container the membership may be written as the host sees it; the mount is then our group.
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(mount_root):
        return [top]
    inner = group.relative_to(mount_root)
    return [top / level for level in (inner, *inner.parents)] if inner.parts else [top]


def _mounts(root: Path, controller: str) -> Iterator[tuple[int, str, str]]:
    """(cgroup version, root within the hierarchy, mount point) from /proc/self/mountinfo."""
    for line in (read(root / "proc/self/mountinfo") or "").splitlines():
        place, _, kind = line.partition(" - ")
        places, kinds = place.split(), kind.split()
        if len(places) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            yield 2, places[3], places[4]
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            yield 1, places[3], places[4]
