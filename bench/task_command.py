"""python -m truffle.bench accuracy --tasks: methods by task, at equal densities, beside exact decoding."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from truffle.bench.tables import show, task_table
from truffle.kernels.checks import expect
from truffle.model.arguments import require_device

if TYPE_CHECKING:
    from truffle.model.weights import LoadedModel

DENSITIES = "0.05"
_ONLY_WITH_TASKS = ("methods", "densities", "setup")


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of scores by task; they replace --method, --steps and what chooses a text."""
    group = parser.add_argument_group("scores by task, in place of error on a text")
    group.add_argument("--tasks", metavar="TASK[,TASK]", help="such as niah, vt or ruler for all")
    group.add_argument("--methods", metavar="METHOD[,METHOD]", help="compared with dense, from one reading of a prompt")
    group.add_argument("--densities", metavar="SHARE[,SHARE]", help=f"of the keys, for each method ({DENSITIES})")
    group.add_argument("--setup", choices=("A", "B"), help="question read exactly, or through the method (A)")


def require_tasks(arguments: argparse.Namespace) -> None:
    """Raise ValueError where options that need --tasks came without it."""
    for name in _ONLY_WITH_TASKS:
        expect(getattr(arguments, name) is None, "tasks", f"tasks with --{name}", "none")


def loaded(arguments: argparse.Namespace) -> LoadedModel:
    """The model, on the device and in the type that it is to run in."""
    import torch

    from truffle.model.weights import load

    require_device(arguments.device)
    return load(arguments.model, arguments.device, getattr(torch, arguments.dtype))


def measure_task_accuracy(arguments: argparse.Namespace) -> None:
    """Score methods on tasks and print the table; records already in FILE.journal are not measured again."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench.accuracy import require_positions
    from truffle.bench.journal import Journal
    from truffle.bench.records import write_records
    from truffle.bench.task_accuracy import SETTINGS, TaskSetting, measure_tasks, require_room
    from truffle.bench.task_methods import contenders
    from truffle.bench.task_summary import summarise_tasks
    from truffle.bench.tasks.registry import named

    a = arguments
    for name in ("samples", "context", "threads"):
        expect(getattr(a, name) >= 1, name, "at least 1", getattr(a, name))
    expect(a.methods is not None, "methods", "those to compare, such as --methods lsh,quest", "none")
    tasks = named(a.tasks)
    found = contenders([part.strip() for part in a.methods.split(",")], _densities(a.densities or DENSITIES), a)
    setting = TaskSetting(a.context, a.samples, a.setup or "A")
    torch.set_num_threads(a.threads)
    journal = Journal(journal_beside(a.json) if a.json else None, SETTINGS)
    model = loaded(a)
    require_positions(model, a.context, 0)
    tokenizer = model.tokenizer()
    require_room(tasks, tokenizer, a.context)
    measured = measure_tasks(model, tokenizer, tasks, found, setting, journal)
    total, title = len(tasks) * a.samples * len(found), f"{len(found)} methods, {a.samples} samples a task"
    records = list(track(measured, title, total, console=Console(stderr=True)))
    summary = summarise_tasks(records)
    print(f"setup {setting.setup} on {a.model}, {a.context} tokens, {a.samples} samples a task")
    show(task_table(summary))
    if a.json:
        write_records(a.json, [*summary, *records], a.command_line)


def journal_beside(path: Path) -> Path:
    """Where samples are kept while the records of a file are measured."""
    return path.with_name(path.name + ".journal")


def _densities(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"densities: expected numbers such as 0.02,0.05, got {text!r}") from None
