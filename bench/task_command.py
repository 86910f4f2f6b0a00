"""python -m truffle.bench accuracy --tasks: methods by task, at equal densities, beside exact decoding."""

from __future__ import annotations

import argparse

from truffle.bench.accuracy_tables import task_table
from truffle.bench.comparison import compared, journal_beside, loaded
from truffle.bench.tables import show


def measure_task_accuracy(arguments: argparse.Namespace) -> None:
    """Score methods on tasks and print the table; records already in FILE.journal are not measured again.

    The journal also keeps what was answered.
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench.accuracy import require_positions
    from truffle.bench.journal import Journal
    from truffle.bench.records import write_records
    from truffle.bench.task_accuracy import SETTINGS, TaskSetting, measure_tasks, require_room
    from truffle.bench.task_summary import summarise_tasks
    from truffle.bench.tasks.registry import named

    a = arguments
    tasks, found = named(a.tasks), compared(a)
    setting = TaskSetting(a.context, a.samples, a.setup)
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
        scores = [{name: value for name, value in r.items() if name != "prediction"} for r in records]
        write_records(a.json, [*summary, *scores], a.command_line)
