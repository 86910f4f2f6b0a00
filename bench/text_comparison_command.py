"""python -m truffle.bench accuracy --texts: methods on texts, at equal densities, beside exact decoding."""

from __future__ import annotations

import argparse

from truffle.bench.accuracy_tables import text_table
from truffle.bench.comparison import compared, journal_beside, loaded
from truffle.bench.tables import show
from truffle.kernels.checks import expect


def compare_on_texts(arguments: argparse.Namespace) -> None:
    """Measure methods and print the table; what FILE.journal has is not measured again."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench.accuracy import require_positions
    from truffle.bench.journal import Journal
    from truffle.bench.records import write_records
    from truffle.bench.text import kinds
    from truffle.bench.text_comparison import SETTINGS, TextSetting, measure_texts, summarise_texts

    a = arguments
    found = [contender for contender in compared(a) if contender.config.method != "dense"]
    expect(bool(found), "methods", "one or more beside dense, which is what they are compared with", repr(a.methods))
    expect(a.steps >= 1, "steps", "at least 1", a.steps)
    setting = TextSetting(tuple(kinds(a.texts)), a.samples, a.context, a.steps)
    torch.set_num_threads(a.threads)
    journal = Journal(journal_beside(a.json) if a.json else None, SETTINGS)
    model = loaded(a)
    require_positions(model, a.context, a.steps)
    measured = measure_texts(model, model.tokenizer(), found, setting, journal)
    total = len(setting.texts) * a.samples * len(found) * setting.blocks
    title = f"{len(found)} methods, {len(setting.texts)} x {a.samples} texts"
    records = list(track(measured, title, total, console=Console(stderr=True)))
    summary = summarise_texts(records)
    print(f"{a.steps} tokens of {a.model} after {a.context}, {a.samples} texts a kind")
    show(text_table(summary))
    if a.json:
        write_records(a.json, [*summary, *records], a.command_line)
