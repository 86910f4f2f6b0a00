"""python -m truffle.bench families: output error of hash families at equal density and index bytes, on real keys."""

from __future__ import annotations

import argparse

from truffle.bench.tables import family_table, show
from truffle.kernels.checks import expect


def compare_families(arguments: argparse.Namespace) -> None:
    """Measure hash families on a model's keys, and print their output errors at equal density and tables."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench import families, text
    from truffle.bench.dense_run import run_dense
    from truffle.bench.records import write_records
    from truffle.model.weights import load

    a = arguments
    for name in ("steps", "threads"):
        expect(getattr(a, name) >= 1, name, "at least 1", getattr(a, name))
    torch.set_num_threads(a.threads)
    model = load(a.model)
    most = model.shape.max_positions
    expect(200 + a.steps <= a.context <= most, "context", f"{200 + a.steps} to {most} tokens", a.context)
    run = run_dense(model, text.windows(model.tokenizer(), 1, a.context)[0], a.steps, a.threads)
    compared = families.settings()
    measured = families.measure_families(run, compared, a.threads)
    shown = track(measured, "families", len(compared), transient=True, console=Console(stderr=True))
    common = {"op": "families", "model": a.model, "text": text.SOURCE, "context": a.context, "steps": a.steps}
    records = [common | record for found in shown for record in found]
    equal = families.at_equal_density(records)
    show(family_table(equal))
    if a.json:
        write_records(a.json, [*records, *({"op": "families_equal_density", **r} for r in equal)], a.command_line)
