"""What the kinds of python -m truffle.bench accuracy print."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from truffle.bench.method_names import described, method_names
from truffle.bench.tables import new_table


def accuracy_table(summary: dict[str, Any]) -> Table:
    """A summary's figures, each with its interval."""
    table = new_table("figure", "mean", "95% interval")
    for name in ("kl", "top1", "perplexity_ratio", "output_error", "density", "rows"):
        value, low, high = (summary[name + end] for end in ("", "_low", "_high"))
        table.add_row(
            name, "-" if value is None else f"{value:.4f}", "" if value is None else f"{low:.4f} to {high:.4f}"
        )
    for name in ("kl_first_100", "kl_last_100"):
        if name in summary:
            table.add_row(name, f"{summary[name]:.4f}", "")
    return table


def task_table(rows: list[dict[str, Any]]) -> Table:
    """Scores by task and method, each beside exact decoding of the same samples, and output errors where known."""
    erring = "output_error" in rows[0]
    columns = ("task", "method", "asked", "density", "score", "to dense", "95% interval")
    table, names = new_table(*columns, *(("error", "95% interval") if erring else ()), "samples"), method_names(rows)
    for r in rows:
        shares = ("" if r[name] is None else f"{r[name]:.2%}" for name in ("asked_density", "density"))
        low, high = r["difference_low"], r["difference_high"]
        paired = ("", "") if r["method"] == "dense" else (
            f"{r['difference']:+.1f}", "" if low is None else f"{low:+.1f} to {high:+.1f}",
        )  # fmt: skip
        errors = (f"{r['output_error']:.4f}", _between(r, "output_error")) if erring else ()
        table.add_row(r["task"], names[described(r)], *shares, f"{r['score']:.1f}", *paired, *errors, str(r["samples"]))
    return table


def text_table(rows: list[dict[str, Any]]) -> Table:
    """Figures by kind of text and method."""
    table, names = (
        new_table("text", "method", "asked", "density", "rows", "kl", "95% interval", "top1", "error"),
        method_names(rows),
    )
    for r in rows:
        shares = ("" if r[name] is None else f"{r[name]:.2%}" for name in ("asked_density", "density", "rows"))
        figures = (f"{r['kl']:.5f}", _between(r, "kl"), f"{r['top1']:.4f}")
        error = "" if r["output_error"] is None else f"{r['output_error']:.4f}"
        table.add_row(r["text"], names[described(r)], *shares, *figures, error)
    return table


def long_table(rows: list[dict[str, Any]]) -> Table:
    """Figures of methods along the way, by the tokens that each span starts behind, and of all of it."""
    spans = len({row["span"] for row in rows})
    starts = [f"{row['first_token']}-" for row in rows[: spans - 1]]
    table, names = new_table("method", "asked", "figure", *starts, "all", "95% interval"), method_names(rows)
    for at in range(0, len(rows), spans):
        own = rows[at : at + spans]
        asked = own[0]["asked_density"]
        heads = [(names[described(own[0])], "" if asked is None else f"{asked:.2%}"), *[("", "")] * 3]
        for head, figure in zip(heads, ("kl", "top1", "density", "rows"), strict=True):
            shown = ("-" if r[figure] is None else f"{r[figure]:.4f}" for r in own)
            table.add_row(*head, figure, *shown, _between(own[-1], figure))
    return table


def _between(row: dict[str, Any], figure: str) -> str:
    """The interval of a figure that has one."""
    low, high = (row.get(figure + end) for end in ("_low", "_high"))
    return "" if low is None else f"{low:.4f} to {high:.4f}"
