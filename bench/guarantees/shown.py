"""Tables of what guarantees came to, beside what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

NAMED = "keys of", "tokens", "heavy set, or scan", "bound", "checked"  # what a row is of
Records = Sequence[dict[str, Any]]


def violation_table(records: Records) -> Table:
    """Observed beside nominal, a row a model, context and claim, columns by epsilon.

    The last three by epsilon too: of queries that asked for more than the base, of the worst head, and the share of
    draws whose output is off by more, whether that was checked or not.
    """
    epsilons = _epsilons(records)
    nominal = (f"nominal {epsilon:g}" for epsilon in epsilons)
    table = _table(*NAMED, *nominal, "where asked", "worst head", "output")
    for named, found in _by_claim(records).items():
        shares = [_interval(found[epsilon], "violations") for epsilon in epsilons]
        rest = [
            " ".join("-" if r[name] is None else f"{r[name]:.2f}" for r in found.values())
            for name in ("asked_violations", "worst_head", "beyond_output")
        ]
        table.add_row(*named, *shares, *rest)
    return table


def density_table(records: Records) -> Table:
    """Keys attended outside sink and window, and how many beside the heavy set a head drew: median and 95%."""
    epsilons = _epsilons(records)
    heads = (name for epsilon in epsilons for name in (f"density at {epsilon:g}", "drawn"))
    table = _table(*NAMED, *heads)
    for named, found in _by_claim(records).items():
        cells = []
        for r in (found[epsilon] for epsilon in epsilons):
            cells += [f"{r['density']:.1%}", f"{r['budget_median']:.0f}, {r['budget_p95']:.0f}"]
        table.add_row(*named, *cells)
    return table


def coverage_table(records: Records) -> Table:
    """Observed coverage of nominal 95% intervals; for LSH also of those that take keys as independent."""
    table = _table("keys", "method", "of the denominator", "taken as independent", "of the output",
                   "output error", "claimed / observed")  # fmt: skip
    for r in records:
        intervals = [_interval(r, name) for name in ("coverage", "naive_coverage", "output_coverage")]
        table.add_row(r["keys"], r["method"], *intervals, f"{r['output_error']:.4f}", f"{r['output_claimed']:.2f}")
    return table


def _by_claim(records: Records) -> dict[tuple[str, ...], dict[float, dict[str, Any]]]:
    found: dict[tuple[str, ...], dict[float, dict[str, Any]]] = {}
    for r in records:
        named = (r["model"], str(r["context"]), r["heavy"], r["bound"], r["check"])
        found.setdefault(named, {})[r["epsilon"]] = r
    return found


def _epsilons(records: Records) -> list[float]:
    return sorted({r["epsilon"] for r in records})


def _interval(record: dict[str, Any], name: str) -> str:
    if record[name] is None:
        return ""
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    return f"{record[name]:.3f} ({low:.3f}-{high:.3f})"


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)
