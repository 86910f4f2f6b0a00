"""What the subcommands of python -m truffle.bench print: tables of implementations and of records."""

from __future__ import annotations

import itertools
from typing import Any

from rich.console import Console
from rich.table import Table

from truffle.bench.probing_front import saving


def implementation_table(rows: list[dict[str, Any]]) -> Table:
    """Every implementation, and whether it is usable here."""
    table = new_table("operation", "implementation", "here")
    for row in rows:
        isas = ", ".join(row["isas"])
        table.add_row(row["op"], row["impl"], row["reason"] or ("usable" + (f" ({isas})" if isas else "")))
    return table


def operation_table(records: list[dict[str, Any]]) -> Table:
    """Times of operations, or why a gate was not passed."""
    rival = next(
        (key for r in records for key in r if key.startswith("speedup_over_") and not key.endswith(("_low", "_high"))),
        None,
    )
    headers = [f"faster than {rival.removeprefix('speedup_over_')}"] if rival else []
    on_card = any("device_median_us" in r for r in records)
    columns = ("operation", "implementation", "isa", "threads", "batch", "median", "p20", "p80", "GB/s", "of peak")
    table = new_table(*columns, *(["on device"] if on_card else []), *headers)
    for r in records:
        described = [r["op"], r["impl"], r["isa"], str(r["threads"]), str(r["batch"])]
        if r["gate"] != "passed":
            table.add_row(*described, r["gate"])
            continue
        times = [f"{r[key]:,.0f} us" for key in ("median_us", "p20_us", "p80_us")]
        rate, share = f"{r['bandwidth_bytes_per_s'] / 1e9:.1f}", f"{r['share_of_peak']:.0%}"
        alone = [f"{r['device_median_us']:,.1f} us" if "device_median_us" in r else ""] if on_card else []
        table.add_row(*described, *times, rate, share, *alone, *([_ratio(r, rival)] if rival else []))
    return table


def _ratio(record: dict[str, Any], key: str) -> str:
    if key not in record:
        return ""
    return f"{record[key]:.2f}x ({record[key + '_low']:.2f} to {record[key + '_high']:.2f})"


def probing_table(records: list[dict[str, Any]]) -> Table:
    """Probing settings that save index bytes at every context measured, by keys read.

    Two plain indexes stand beside each: the smallest that reaches its error, which may read far more keys, and the
    smallest that reaches it and reads no more; each with its error, keys and how many of its bytes the setting takes.
    """
    table = new_table("probing setting", "B/token", "tokens", "error", "keys", "rows", "smallest plain (K, L, hits)",
                   "bytes", "smallest that reads no more", "bytes", "goal")  # fmt: skip
    for setting, contexts in saving(records):
        for number, r in enumerate(contexts):
            named = (setting, f"{r['index_bytes']:.0f}") if number == 0 else ("", "")
            figures = (str(r["context"]), f"{r['output_error']:.3f}", f"{r['density']:.1%}", f"{r['rows']:.1%}")
            plain = (*_plain(r, "smallest"), *_plain(r, "rival"))
            table.add_row(*named, *figures, *plain, "met" if r["meets"] else "")
    return table


def _plain(r: dict[str, Any], name: str) -> tuple[str, str]:
    if r[f"{name}_ratio"] is None:
        return "none", ""
    K, L, min_hits, error, keys, size, ratio = (
        r[f"{name}_{key}"] for key in ("K", "L", "min_hits", "output_error", "density", "index_bytes", "ratio")
    )
    return f"({K}, {L}, {min_hits}) {error:.3f} {keys:.1%} {size:.0f} B", f"{ratio:.2f}x"


def family_table(records: list[dict[str, Any]]) -> Table:
    """Output error by hash family at equal density, for equal tables and hits; index bytes a token beside."""
    at = sorted({r["at_density"] for r in records})
    columns = itertools.chain.from_iterable((f"error at {density:.0%}", "B/token") for density in at)
    table = new_table("family", "L", "hits", *columns)
    for (family, L, hits), own in itertools.groupby(records, key=lambda r: (r["family"], r["L"], r["min_hits"])):
        pairs = ((_or_none(r["output_error"], ".3f"), _or_none(r["index_bytes"], ".0f")) for r in own)
        table.add_row(family, str(L), str(hits), *itertools.chain.from_iterable(pairs))
    return table


def _or_none(figure: float | None, form: str) -> str:
    return "" if figure is None else f"{figure:{form}}"


def timeline_table(records: list[dict[str, Any]]) -> Table:
    """When device and host worked for one layer of each lane."""
    table = new_table("lane", "layer", "what", "from", "to")
    for r in records:
        table.add_row(str(r["lane"]), str(r["layer"]), r["span"], f"{r['start_us']:,.0f} us", f"{r['end_us']:,.0f} us")
    return table


def transfer_table(records: list[dict[str, Any]]) -> Table:
    """What crosses the link each way in a step, by batch and context."""
    table = new_table("workload", "batch", "to host", "time", "to device", "time", "step", "share of the step")
    for r in records:
        if "to_host_bytes" not in r:
            continue
        sides = [(f"{r[f'to_{side}_bytes']:,} B", f"{r[f'to_{side}_us']:,.0f} us") for side in ("host", "device")]
        share = f"{r['copies_share']:.1%}"
        table.add_row(r["workload"], str(r["batch"]), *sides[0], *sides[1], f"{r['median_us']:,.0f} us", share)
    return table


def scaling_table(records: list[dict[str, Any]]) -> Table:
    """Whole steps by thread count and batch."""
    table = new_table("threads", "batch", "step", "tokens/s", "95% interval", "host a layer", "rest a layer", "sampled",
                   "host memory")  # fmt: skip
    for r in records:
        parts = (r.get("layer_host_us"), r.get("layer_rest_us"))
        table.add_row(
            str(r["threads"]), str(r["batch"]), f"{r['median_us'] / 1e3:,.1f} ms", f"{r['tokens_per_s']:,.1f}",
            f"{r['tokens_per_s_low']:,.1f} to {r['tokens_per_s_high']:,.1f}",
            *("" if part is None else f"{part:,.0f} us" for part in parts),
            f"{r['density']:.2%}", f"{r['sampled_layers_bytes'] / 2**30:,.1f} GiB",
        )  # fmt: skip
    return table


def rival_table(records: list[dict[str, Any]]) -> Table:
    """Steps of contenders by batch; those of one heat took turns."""
    table = new_table("batch", "contender", "heat", "step", "95% interval", "tokens/s", "on device", "host read",
                   "over best exact", "over magicpig_v02 kernels")  # fmt: skip
    for r in records:
        described = (str(r["batch"]), r["contender"], str(r.get("heat", "")))
        if "median_us" not in r:
            table.add_row(*described, r["reason"])
            continue
        times = (
            f"{r['median_us'] / 1e3:,.1f} ms",
            f"{r['median_us_low'] / 1e3:,.1f} to {r['median_us_high'] / 1e3:,.1f}",
        )
        read = f"{r['host_bytes_per_s'] / 1e9:.1f} GB/s" if "host_bytes_per_s" in r else ""
        over = [_ratio(r, name) for name in ("faster_than_best_exact", "faster_than_magicpig_v02")]
        table.add_row(*described, *times, f"{r['tokens_per_s']:,.1f}", f"{r['device_bytes'] / 1e9:.2f} GB", read, *over)
    return table


def prefill_table(records: list[dict[str, Any]]) -> Table:
    """What each layer of a prefill took: the device's four parts, the host with its four, and who launches waiting."""
    parts = ("forward", "rows", "hash", "next", "host", "link", "store", "tables", "rest", "waiting")
    table = new_table("layer", *(f"{part} ms" for part in parts))
    for r in records:
        times = (r.get(f"{part}_us") for part in parts)
        table.add_row(str(r["layer"]), *("" if time is None else f"{time / 1e3:,.2f}" for time in times))
    return table


def record_table(record: dict[str, Any]) -> Table:
    """All that one record holds."""
    table = new_table("figure", "value")
    for name, value in record.items():
        table.add_row(name, "-" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value))
    return table


def show(table: Table) -> None:
    """Print a table, wide enough for a file or a pipe to keep its lines whole."""
    console = Console()
    console.width = max(console.width, 160) if not console.is_terminal else console.width
    console.print(table)


def new_table(*columns: str) -> Table:
    """A table without lines, to which rows are added."""
    return Table(*columns, box=None, header_style="bold", pad_edge=False, title_justify="left", title_style="")
