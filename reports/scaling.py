"""Tokens a second by threads and by batch from records of bench scaling, under the roofs that bound them."""

import math
from dataclasses import dataclass
from statistics import median

from .measured import Measured
from .method_label import own_parameters
from .numbers import figure, interval
from .plots import plain
from .record import Number, Text
from .timed_step import Step

SERIES = tuple(f"--series-{i}" for i in range(1, 7))
ROOFS = {"rest": ("if the host’s part took no time", "dot"), "memory": ("rows at the memory’s best rate", "dash")}


@dataclass(frozen=True)
class Rows:
    """What the host reads for a sampled layer's step; of a whole sweep of operations, only bytes and rates matter."""

    context: Number = None
    K: Number = None
    L: Number = None
    min_hits: Number = None
    batch: Number = None
    dtype: Text = None
    bytes_moved: Number = None
    peak_bytes_per_s: Number = None
    host_read_bytes_per_s: Number = None
    file: Text = None


def scaling(measured: Measured) -> list[dict]:
    """A plotly figure for threads and one for batches, each where at least two were timed."""
    steps = [s for s in measured.of(Step, "scaling") if s.tokens_per_s]
    rows = measured.of(Rows, "retrieve+sparse_attend", "retrieve_attend", "rivals")
    return [f for across in ("threads", "batch") if (f := _figure(steps, rows, across, measured)) is not None]


def _figure(steps: list[Step], rows: list[Rows], across: str, measured: Measured) -> dict | None:
    lines = _lines(steps, "batch" if across == "threads" else "threads", across)
    if not lines:
        return None
    apart = {line[0].label for line in lines}, {_fixed(line[0], across) for line in lines}
    data, legend = [], []
    for line, colour in zip(lines, SERIES, strict=False):
        data.append(_points(line, across, colour))
        words = ([line[0].label] if len(apart[0]) > 1 else []) + (
            [_fixed(line[0], across)] if len(apart[1]) > 1 else []
        )
        words += [line[0].file] if len({other[0].file for other in lines}) > 1 else []
        legend.append((", ".join(words) or f"{line[0].label}, {_fixed(line[0], across)}", colour))
        data += _roofs(line, _memory_us(line[0], rows, measured), across, colour)
    ticks = sorted({getattr(step, across) for line in lines for step in line})
    layout = _layout(data, across, ticks)
    for trace in data:
        _to_log(trace)
    told = [f"{'dotted' if dash == 'dot' else 'dashed'}: {words}" for words, dash in _shown_roofs(data)]
    note = "; ".join(filter(None, [*told, measured.machine(line[0].file for line in lines)]))
    return {"data": data, "layout": layout, "height": 360, "legend": legend, "note": note}


def _fixed(step: Step, across: str) -> str:
    return f"batch {step.batch}" if across == "threads" else f"{step.threads} threads"


def _lines(steps: list[Step], fixed: str, across: str) -> list[list[Step]]:
    found: dict[tuple, list[Step]] = {}
    for step in steps:
        same = (step.file, step.workload, step.context, step.dense_layers, step.parameters, step.label)
        found.setdefault((*same, getattr(step, fixed)), []).append(step)
    lines = [sorted(line, key=lambda s: getattr(s, across)) for line in found.values()]
    return [line for line in lines if len({getattr(step, across) for step in line}) > 1][: len(SERIES)]


def _points(line: list[Step], across: str, colour: str) -> dict:
    rates = [(s.tokens_per_s, s.tokens_per_s_low, s.tokens_per_s_high) for s in line]
    known = [(v, v if low is None else low, v if high is None else high) for v, low, high in rates]
    return {
        "type": "scatter", "mode": "lines+markers", "hoverinfo": "text",
        "x": [math.log2(getattr(s, across)) for s in line], "y": [s.tokens_per_s for s in line],
        "hovertext": [_hover(s) for s in line], "line": {"color": colour, "width": 1.5},
        "marker": {"color": colour, "size": 8, "symbol": "circle"},
        "error_y": {"type": "data", "symmetric": False, "arrayminus": [max(0.0, v - low) for v, low, _ in known],
                    "array": [max(0.0, high - v) for v, _, high in known], "color": colour, "thickness": 1, "width": 0},
    }  # fmt: skip


def _shown_roofs(data: list[dict]) -> list[tuple[str, str]]:
    drawn = {trace.get("name") for trace in data}
    return [roof for name, roof in ROOFS.items() if name in drawn]


def _to_log(trace: dict) -> None:
    """Rates and the lengths of their bars as powers of ten."""
    rates, bars = trace["y"], trace.get("error_y")
    if bars:
        pairs = zip(rates, bars["arrayminus"], strict=True)
        bars["arrayminus"] = [math.log10(y / (y - low)) if y > low else 0.0 for y, low in pairs]
        bars["array"] = [math.log10(1 + high / y) for y, high in zip(rates, bars["array"], strict=True)]
    trace["y"] = [math.log10(y) for y in rates]


def _hover(step: Step) -> str:
    return "<br>".join([
        f"<b>{plain(step.label)}</b> · {figure(step.threads)} threads, batch {figure(step.batch)}",
        f"{figure(step.tokens_per_s)} tokens/s {interval(step.tokens_per_s_low, step.tokens_per_s_high)}",
        f"a sampled layer {figure(step.layer_us)} us, of which the host’s part {figure(step.layer_host_us)} us",
        plain(step.file),
    ])  # fmt: skip


def _roofs(line: list[Step], memory_us: float | None, across: str, colour: str) -> list[dict]:
    rests = [s.rest_us for s in line if s.rest_us]
    if not rests:
        return []
    rest_us, bounds = median(rests), {"rest": 0.0} | ({"memory": memory_us} if memory_us else {})
    return [
        {
            "type": "scatter", "mode": "lines", "hoverinfo": "text", "name": name,
            "x": [math.log2(getattr(s, across)) for s in line],
            "y": [1e6 * s.batch / (rest_us + s.batch * s.sparse_layers * host_us) for s in line],
            "hovertext": [ROOFS[name][0]] * len(line), "line": {"color": colour, "width": 1.2, "dash": ROOFS[name][1]},
        }
        for name, host_us in bounds.items()
    ]  # fmt: skip


def _memory_us(step: Step, rows: list[Rows], measured: Measured) -> float | None:
    """Microseconds to read a request's rows of a layer at the best rate that was measured on the step's machine."""
    own = own_parameters(step.method, step.parameters)
    wanted = (step.context, own.get("K"), own.get("L"), own.get("min_hits"), step.store_format)
    moved = [r.bytes_moved / (r.batch or 1) for r in rows
             if r.bytes_moved and (r.context, r.K, r.L, r.min_hits, r.dtype) == wanted]  # fmt: skip
    own_rows = [r for r in rows if _same_machine(step.file, r.file or "", measured)]
    rates = [rate for r in own_rows for rate in (r.peak_bytes_per_s, r.host_read_bytes_per_s) if rate]
    return 1e6 * min(moved) / max(rates) if moved and rates else None


def _same_machine(file: str, other: str, measured: Measured) -> bool:
    machine = measured.machine([file])
    return file == other or machine == measured.machine([other]) != ""


def _layout(data: list[dict], across: str, ticks: list[int]) -> dict:
    shown = [t for i, t in enumerate(ticks) if i == 0 or t == ticks[-1] or _apart(ticks[i - 1], t, ticks[-1])]
    rates = [y for trace in data for y in trace["y"]]
    low, high = math.log10(min(rates)) - 0.1, math.log10(max(rates)) + 0.1
    marks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
    marks = [mark for mark in marks if low <= math.log10(mark) <= high]
    title = "Threads" if across == "threads" else "Batch"
    return {
        "title": {"text": title, "x": 0, "xref": "paper", "font": {"size": 14}},
        "xaxis": {"title": {"text": f"{title.lower()} (log scale)"}, "tickvals": [math.log2(t) for t in shown],
                  "ticktext": [figure(t) for t in shown],
                  "range": [math.log2(ticks[0]) - 0.15, math.log2(ticks[-1]) + 0.15]},
        "yaxis": {"title": {"text": "tokens/s (measured, log scale)"}, "range": [low, high],
                  "tickvals": [math.log10(mark) for mark in marks], "ticktext": [f"{mark:,.10g}" for mark in marks]},
        "margin": {"t": 36},
    }  # fmt: skip


def _apart(before: int, value: int, last: int) -> bool:
    """Whether two ticks can stand beside one another, and the latter beside the last."""
    return math.log2(value / before) > 0.35 and (value == last or math.log2(last / value) > 0.35)
