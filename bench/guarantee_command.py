"""python -m truffle.bench guarantees: how often promised errors are exceeded, and stated intervals hold."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from truffle.bench.op_command import numbers
from truffle.kernels.checks import expect

MADE_KEYS = 4096
KINDS = ("isotropic", "clustered")
PLANTED = (1, 200)  # heavy keys that an index holds to be light


def add_guarantee_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", default="smollm2", help="(%(default)s)")
    parser.add_argument(
        "--context", type=numbers, default=(2048, 4096, 8192), metavar="N[,N]",
        help="tokens, those of the positions included (2048,4096,8192)",
    )  # fmt: skip
    parser.add_argument("--epsilon", default="0.05,0.1,0.2", metavar="E[,E]", help="and delta (%(default)s)")
    for name, default, meaning in (
        ("keys", 64, "of the heavy set, and of the base"),
        ("texts", 4, "stretches of text"),
        ("positions", 2, "queries of each, 8 tokens apart"),
        ("draws", 8, "samples of each query"),
        ("threads", 1, "of torch"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (%(default)s)")
    parser.add_argument("--method", choices=("all", "scan"), default="all", help="whose promises (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record a row")
    parser.set_defaults(run=measure_guarantees)


def measure_guarantees(arguments: argparse.Namespace) -> None:
    """Measure violations and coverage on made keys and a model's, and print both beside what is nominal."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench.guarantees.shown import coverage_table, density_table, violation_table
    from truffle.bench.records import write_records
    from truffle.bench.tables import show
    from truffle.model.weights import load

    a, epsilons = arguments, _epsilons(arguments.epsilon)
    for name in ("keys", "texts", "positions", "draws", "threads"):
        least = 2 if name == "keys" else 1
        expect(getattr(a, name) >= least, name, f"at least {least}", getattr(a, name))
    torch.set_num_threads(a.threads)
    model = load(a.model)
    for context in a.context:
        most = model.shape.max_positions
        expect(200 + 8 * a.positions <= context <= most, "context", f"{200 + 8 * a.positions} to {most}", context)
    with torch.inference_mode():
        measured = _measured(model, a, epsilons)
        shown = Console(stderr=True)
        records = list(track(measured, "claims", _total(a, epsilons), transient=True, console=shown))
    claims = [record for record in records if record["op"] == "guarantee"]
    for table in (violation_table(claims), density_table(claims)):
        show(table)
    show(coverage_table([record for record in records if record["op"] == "coverage"]))
    if a.json:
        write_records(a.json, records, a.command_line)


def _total(a: argparse.Namespace, epsilons: list[float]) -> int:
    from truffle.bench.guarantees.plan import plain, planted

    of_all = plain(a.method)
    of_made = len(KINDS) * len(of_all.methods) + len(PLANTED) * planted().rows(epsilons)
    return of_made + len(a.context) * of_all.rows(epsilons)


def _measured(model: Any, a: argparse.Namespace, epsilons: list[float]) -> Iterator[dict[str, Any]]:
    from truffle.bench.guarantees.made import made_positions
    from truffle.bench.guarantees.plan import plain, planted
    from truffle.bench.guarantees.planted import planted_positions
    from truffle.bench.guarantees.positions import positions
    from truffle.model.config import DecodeConfig, Execution, ScanParameters
    from truffle.model.operations import Operations

    ops = Operations(DecodeConfig(parameters=ScanParameters(), execution=Execution(threads=a.threads)), "cpu")
    of_all, count = plain(a.method), a.texts * a.positions
    for kind in KINDS:
        places = made_positions(kind, MADE_KEYS, count)
        yield from ({"keys": kind} | r for r in of_all.intervals(places, a.draws, ops))
    for heavy in PLANTED:
        places, kind = planted_positions(heavy, MADE_KEYS, count), f"{heavy} planted"
        yield from ({"keys": kind} | r for r in planted().intervals(places, a.draws, ops))
        given = {"model": kind, "context": MADE_KEYS, "positions": count, "keys": a.keys}
        yield from (given | r for r in planted().promises(places, epsilons, a.keys, a.draws, ops))
    for context in a.context:
        places = list(positions(model, context, a.texts, a.positions, a.threads))
        common = {"model": a.model, "context": context, "positions": len(places), "keys": f"{a.model} {context}"}
        yield from (common | r for r in of_all.intervals(places, a.draws, ops))
        given = common | {"keys": a.keys}
        yield from (given | r for r in of_all.promises(places, epsilons, a.keys, a.draws, ops))


def _epsilons(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    within = bool(found) and all(0 < epsilon <= 0.4 for epsilon in found)
    expect(within, "epsilon", "numbers above 0 and up to 0.4, such as 0.05,0.1", text)
    return found
