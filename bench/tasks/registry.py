"""All tasks by name, and groups of them."""

from __future__ import annotations

from truffle.bench.tasks.common_words import COMMON_WORDS
from truffle.bench.tasks.frequent_words import FREQUENT_WORDS
from truffle.bench.tasks.niah import NIAH
from truffle.bench.tasks.sample import Task
from truffle.bench.tasks.tracking import TRACKING

TASKS: dict[str, Task] = {task.name: task for task in (*NIAH, *TRACKING, *COMMON_WORDS, *FREQUENT_WORDS)}

GROUPS: dict[str, tuple[str, ...]] = {
    "ruler": tuple(TASKS),
    "niah": tuple(task.name for task in NIAH),
    "words": tuple(task.name for task in (*COMMON_WORDS, *FREQUENT_WORDS)),
}


def named(names: str) -> list[Task]:
    """Tasks and groups by name, separated by commas, each task once.

    Raises:
        ValueError: there is none of that name.
    """
    chosen: dict[str, Task] = {}
    for name in (part.strip() for part in names.split(",")):
        if name not in TASKS and name not in GROUPS:
            raise ValueError(f"tasks: expected some of {', '.join([*GROUPS, *TASKS])}, got {name!r}")
        chosen |= {task: TASKS[task] for task in GROUPS.get(name, (name,))}
    return list(chosen.values())
