"""python -m truffle.bench accuracy --long-generation: methods along a continuation by exact decoding."""

from __future__ import annotations

import argparse
from dataclasses import replace

from truffle.bench.accuracy_tables import long_table
from truffle.bench.comparison import compared, journal_beside, loaded
from truffle.bench.method_list import listed
from truffle.bench.tables import show
from truffle.bench.task_methods import Contender
from truffle.model.config import PAPER_DEFAULT, LshParameters


def measure_long_accuracy(arguments: argparse.Namespace) -> None:
    """Follow exact continuations and print the table; samples already in FILE.journal are not measured again."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench.accuracy import require_positions
    from truffle.bench.journal import Journal
    from truffle.bench.long_generation import BLOCKS, SETTINGS, LongSetting, measure_long
    from truffle.bench.long_summary import summarise_long
    from truffle.bench.records import write_records
    from truffle.bench.tasks.sample import encoder
    from truffle.model.generate import Sampler

    a = arguments
    found = followers(a)
    setting = LongSetting(a.context, a.long_generation, a.samples, a.temperature)
    Sampler(a.temperature)  # refuses a wrong one before a model is read
    torch.set_num_threads(a.threads)
    journal = Journal(journal_beside(a.json) if a.json else None, SETTINGS)
    model = loaded(a)
    require_positions(model, a.context, setting.tokens)
    measured = measure_long(model, encoder(model.tokenizer()), found, setting, journal)
    total, title = a.samples * len(found) * BLOCKS, f"{len(found)} methods, {a.samples} x {setting.tokens} tokens"
    records = list(track(measured, title, total, console=Console(stderr=True)))
    summary = summarise_long(records, found)
    print(f"{setting.tokens} tokens of {a.model} at temperature {a.temperature} after {a.context}, {a.samples} samples")
    show(long_table(summary))
    if a.json:
        write_records(a.json, [*summary, *records], a.command_line)


def followers(arguments: argparse.Namespace) -> list[Contender]:
    """Who is compared, without dense unless it is named: it would follow itself.

    What lsh decodes is sampled once it is sealed. Unless a seal is given, lsh comes with a small one, with which nearly
    all is sampled, and with the default, with which up to 1,024 tokens are attended exactly.
    """
    asked = listed(arguments.methods) if arguments.methods else []
    found = []
    for contender in compared(arguments):
        if contender.asked in asked:
            found.append(contender)
        sealing = arguments.seal_tokens is not None or "seal_tokens" in contender.asked.options
        if isinstance(contender.config.parameters, LshParameters) and not sealing:
            found.append(_sealing_late(contender))
    return found


def _sealing_late(contender: Contender) -> Contender:
    late = contender.config.parameters.model_copy(update={"seal_tokens": PAPER_DEFAULT.seal_tokens})
    return replace(contender, config=contender.config.model_copy(update={"parameters": late}))
