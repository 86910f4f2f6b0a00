"""python -m truffle.bench accuracy --planted: methods on keys of which the answers are known, without a model."""

from __future__ import annotations

import argparse
from dataclasses import replace

from truffle.bench.accuracy_tables import task_table
from truffle.bench.comparison import compared, journal_beside
from truffle.bench.tables import show
from truffle.bench.task_methods import Contender
from truffle.kernels.checks import expect
from truffle.model.arguments import require_device


def measure_planted_accuracy(arguments: argparse.Namespace) -> None:
    """Score methods on planted keys and print the table; records already in FILE.journal are not measured again."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench.journal import Journal
    from truffle.bench.planted_accuracy import HEAD_DIM, SETTINGS, PlantedSetting, measure_planted
    from truffle.bench.records import write_records
    from truffle.bench.task_summary import summarise_tasks
    from truffle.bench.tasks.planted import PLANTED, fewest_keys

    a = arguments
    found = [flattened(contender) for contender in compared(a)]
    expect(a.dense_layers is None, "dense_layers", "none with --planted, which is one sampled layer", a.dense_layers)
    expect(a.per in (None, "head"), "per", "head with --planted, whose queries are no group", a.per)
    fewest = fewest_keys(HEAD_DIM)
    expect(a.context >= fewest, "context", f"at least {fewest} keys", a.context)
    require_device(a.device)
    torch.set_num_threads(a.threads)
    journal = Journal(journal_beside(a.json) if a.json else None, SETTINGS)
    setting = PlantedSetting(a.context, a.samples, a.device, getattr(torch, a.dtype))
    total, title = len(PLANTED) * a.samples * len(found), f"{len(found)} methods, {a.samples} samples a task"
    records = list(track(measure_planted(found, setting, journal), title, total, console=Console(stderr=True)))
    summary = summarise_tasks(records)
    print(f"planted, {a.context} keys, {a.samples} samples a task")
    show(task_table(summary))
    if a.json:
        write_records(a.json, [*summary, *records], a.command_line)


def flattened(contender: Contender) -> Contender:
    """The contender without dense layers, of which the only one would be one, and with a sample for each query."""
    parameters, changes = contender.config.parameters, {"dense_layers": (), "per": "head"}
    known = {name: value for name, value in changes.items() if name in type(parameters).model_fields}
    parameters = parameters.model_copy(update=known)
    return replace(contender, config=contender.config.model_copy(update={"parameters": parameters}))
