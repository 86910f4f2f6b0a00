"""python -m truffle.bench probing: index bytes that probing saves at equal error."""

from __future__ import annotations

import argparse

from truffle.bench.tables import probing_table, show


def compare_probing(arguments: argparse.Namespace) -> None:
    """Measure probing and plain settings on a model's keys, and print which probing settings save index bytes."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench import probing, probing_front, text
    from truffle.bench.dense_run import run_dense
    from truffle.bench.records import write_records
    from truffle.kernels.checks import expect
    from truffle.model.weights import load

    a, records = arguments, []
    for name in ("steps", "seeds", "threads"):
        expect(getattr(a, name) >= 1, name, "at least 1", getattr(a, name))
    torch.set_num_threads(a.threads)
    model = load(a.model)
    settings = probing_front.plain_settings() + probing_front.probing_settings()
    for context in a.contexts:
        most = model.shape.max_positions
        expect(200 + a.steps <= context <= most, "contexts", f"{200 + a.steps} to {most} tokens", context)
        tokens = text.windows(model.tokenizer(), 1, context)[0]
        run = run_dense(model, tokens, a.steps, a.threads)
        measured = probing.measure_settings(run, settings, a.seeds, a.threads)
        shown = track(measured, f"{context} tokens", len(settings), transient=True, console=Console(stderr=True))
        common = {"op": "probing", "model": a.model, "text": text.SOURCE, "context": context}
        records += [common | record for record in probing_front.judge(list(shown))]
    show(probing_table(records))
    if a.json:
        write_records(a.json, records, a.command_line)
