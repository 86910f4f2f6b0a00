"""What the subcommands of python -m truffle.bench print: tables of implementations and of records."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def implementation_table(rows: list[dict[str, Any]]) -> Table:
    """Every implementation, and whether it is usable here."""
    table = _table("operation", "implementation", "here")
    for row in rows:
        isas = ", ".join(row["isas"])
        table.add_row(row["op"], row["impl"], row["reason"] or ("usable" + (f" ({isas})" if isas else "")))
    return table


def operation_table(records: list[dict[str, Any]]) -> Table:
    """Times of operations, or why a gate was not passed."""
    table = _table("operation", "implementation", "isa", "threads", "median", "p20", "p80", "GB/s", "of peak")
    for r in records:
        if r["gate"] != "passed":
            table.add_row(r["op"], r["impl"], r["isa"], str(r["threads"]), r["gate"])
            continue
        times = [f"{r[key]:,.0f} us" for key in ("median_us", "p20_us", "p80_us")]
        rate, share = f"{r['bandwidth_bytes_per_s'] / 1e9:.1f}", f"{r['share_of_peak']:.0%}"
        table.add_row(r["op"], r["impl"], r["isa"], str(r["threads"]), *times, rate, share)
    return table


def accuracy_table(summary: dict[str, Any]) -> Table:
    """A summary's figures, each with its interval."""
    table = _table("figure", "mean", "95% interval")
    for name in ("kl", "top1", "perplexity_ratio", "output_error", "density", "rows"):
        value, low, high = (summary[name + end] for end in ("", "_low", "_high"))
        table.add_row(
            name, "-" if value is None else f"{value:.4f}", "" if value is None else f"{low:.4f} to {high:.4f}"
        )
    for name in ("kl_first_100", "kl_last_100"):
        if name in summary:
            table.add_row(name, f"{summary[name]:.4f}", "")
    return table


def probing_table(records: list[dict[str, Any]]) -> Table:
    """Probing settings with less of an index than any plain one as accurate, at every context measured.

    Each context has two lines: against the smallest plain index that reaches the error, which may read far more keys,
    and against the smallest that reads no more.
    """
    table = _table("probing setting", "B/token", "context", "error", "keys", "rows", "against", "its error", "its keys",
                   "its B", "bytes")  # fmt: skip
    for setting, contexts in _saving(records):
        for number, r in enumerate(contexts):
            for name in ("smallest", "rival"):
                first = number == 0 and name == "smallest"
                table.add_row(
                    setting if first else "",
                    f"{r['index_bytes']:.0f}" if first else "",
                    *(_probing_figures(r) if name == "smallest" else [""] * 4),
                    *_plain_figures(r, name),
                )
    return table


def _saving(records: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Probing settings that meet the goal at every context, by error."""
    settings: dict[str, list[dict[str, Any]]] = {}
    for r in records:
        if r["probing"] != "none":
            name = f"K={r['K']} L={r['L']} min_hits={r['min_hits']} {r['probing']} {r['amount']}"
            settings.setdefault(name, []).append(r)
    saving = [(name, found) for name, found in settings.items() if all(r["meets"] for r in found)]
    return sorted(saving, key=lambda pair: pair[1][0]["output_error"])


def _probing_figures(r: dict[str, Any]) -> list[str]:
    return [str(r["context"]), f"{r['output_error']:.3f}", f"{r['density']:.1%}", f"{r['rows']:.1%}"]


def _plain_figures(r: dict[str, Any], name: str) -> list[str]:
    if r[f"{name}_ratio"] is None:
        return ["no plain setting", "", "", "", ""]
    plain = f"K={r[f'{name}_K']} L={r[f'{name}_L']} min_hits={r[f'{name}_min_hits']}"
    figures = [f"{r[f'{name}_output_error']:.3f}", f"{r[f'{name}_density']:.1%}", f"{r[f'{name}_index_bytes']:.0f}"]
    return [plain, *figures, f"{r[f'{name}_ratio']:.2f}x"]


def record_table(record: dict[str, Any]) -> Table:
    """All that one record holds."""
    table = _table("figure", "value")
    for name, value in record.items():
        table.add_row(name, "-" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value))
    return table


def show(table: Table) -> None:
    """Print a table, wide enough for a file or a pipe to keep its lines whole."""
    console = Console()
    console.width = max(console.width, 160) if not console.is_terminal else console.width
    console.print(table)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False, title_justify="left", title_style="")
