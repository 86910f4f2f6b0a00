"""Waiting until this process's other threads sleep."""

from __future__ import annotations

import threading
import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_POLL_S, _LONGEST_S = 0.002, 1.0


def wait_until_quiet() -> None:
    """Return when no other thread of this process runs, after a second at most.

    OpenMP's threads go on spinning after a call, on cores that the next call needs: for 8 ms on one machine and for
    more than a second on another, whose host makes a pause long. GOMP_SPINCOUNT=20000 ends it in time.
    """
    end = time.monotonic() + _LONGEST_S
    time.sleep(_POLL_S)
    while _others_run() and time.monotonic() < end:
        time.sleep(_POLL_S)


def _others_run() -> bool:
    own = str(threading.get_native_id())
    return any(_state(task) == "R" for task in _TASKS.iterdir() if task.name != own) if _TASKS.exists() else False


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it ended meanwhile
        return ""
