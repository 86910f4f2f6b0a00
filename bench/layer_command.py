"""python -m truffle.bench layer: methods on one synthetic layer of a workload, output error against rows and time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truffle.bench.comparison import DENSITIES, add_comparison_arguments, compared
from truffle.bench.method_names import described, method_names
from truffle.bench.tables import new_table, show
from truffle.kernels.checks import expect
from truffle.model.arguments import add_decode_arguments

if TYPE_CHECKING:
    from rich.table import Table


def add_layer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `measure_layer` reads."""
    from truffle.bench.scored import GROUP_CORRELATION

    parser.add_argument("--workload", default="llama-3.1-8b@32k", metavar="MODEL@CONTEXT", help="(%(default)s)")
    parser.add_argument("--samples", type=int, default=1, help="layers, of other keys each (%(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="tokens decoded in each (%(default)s)")
    parser.add_argument(
        "--group-correlation", type=float, default=GROUP_CORRELATION, metavar="R",
        help="of scores that query heads of a group give (%(default)s, as in SmolLM2)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=0.0, help="time the CPU's methods, by turns (none)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record a method")
    add_comparison_arguments(parser)
    parser.set_defaults(densities=DENSITIES)
    add_decode_arguments(parser)


def measure_layer(arguments: argparse.Namespace) -> None:
    """Measure every method on the same layers, and print a table."""
    from truffle.bench import layer_methods
    from truffle.bench.records import write_records
    from truffle.bench.scored import scored_layer
    from truffle.bench.workloads import parse_workload

    a = arguments
    workload = parse_workload(a.workload)
    a.context = workload.context
    found, shape = compared(a), workload.shape
    expect(a.steps >= 1, "steps", "at least 1", a.steps)
    expect(0 <= a.group_correlation <= 1, "group_correlation", "0 to 1", a.group_correlation)
    layers = [scored_layer(shape, a.context, a.steps, seed, a.group_correlation) for seed in range(a.samples)]
    common = {
        "op": "layer", "workload": a.workload, "context": a.context, "samples": a.samples, "steps": a.steps,
        "group_correlation": a.group_correlation,
    }  # fmt: skip
    records = [common | record for record in layer_methods.measure(found, shape, layers, a.seconds)]
    show(layer_table(records))
    if a.json:
        write_records(a.json, records, a.command_line)


def layer_table(records: list[dict[str, Any]]) -> Table:
    """Output error, rows and time by method."""
    names = method_names(records)
    table = new_table(
        "method", "asked", "density", "rows", "error", "95% interval", "index", "median", "over the first"
    )
    for r in records:
        shares = ("" if r[name] is None else f"{r[name]:.2%}" for name in ("asked_density", "density", "rows"))
        error = (f"{r['output_error']:.4f}", f"{r['output_error_low']:.4f} to {r['output_error_high']:.4f}")
        index = "" if r["index_bytes"] is None else f"{r['index_bytes']:.0f} B"
        table.add_row(names[described(r)], *shares, *error, index, *_times(r))
    return table


def _times(record: dict[str, Any]) -> tuple[str, str]:
    if "median_us" not in record:
        return record.get("gate", ""), ""
    ratio = f"{record['ratio']:.2f} ({record['ratio_low']:.2f} to {record['ratio_high']:.2f})"
    return f"{record['median_us']:,.0f} us", ratio
