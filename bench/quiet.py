"""Waiting until this process's other threads sleep."""

from __future__ import annotations

import threading
import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_LONGEST_S = 1.0


def wait_until_quiet() -> None:
    """Return when no other thread of this process runs, after a second at most.

    OpenMP's threads go on spinning for milliseconds after a call, on cores that the next call needs.
    """
    end = time.monotonic() + _LONGEST_S
    while _others_run() and time.monotonic() < end:
        pass


def _others_run() -> bool:
    own = str(threading.get_native_id())
    return any(_state(task) == "R" for task in _TASKS.iterdir() if task.name != own) if _TASKS.exists() else False


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it ended meanwhile
        return ""
