"""The report's figures as plain plotly JSON; a colour "--name" is a CSS variable that the page resolves."""

from .front import highlights, pareto_front, roles
from .kl_axis import KlAxis
from .numbers import DASH, figure, interval, percent, size
from .record import Study, Trial

PARTS = {
    "ms_weights": "weights",
    "ms_gpu_attend": "attention on the GPU",
    "ms_hash": "hashing",
    "ms_launch": "launches",
    "ms_link": "link",
    "ms_cpu_retrieve": "retrieval on the CPU",
    "ms_cpu_attend": "attention on the CPU",
}
SYMBOLS = {"default": "diamond", "paper": "square", "exact": "triangle-up"}


def plain(text: str, limit: int = 200) -> str:
    """Text for plotly, which reads some markup of its own in labels."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def short_name(study: Study, trial: Trial) -> str:
    """What stands beside a trial's mark in the Pareto figure; empty for the trials of the search."""
    kinds = roles(study)[trial.number]
    lead = ", ".join(role for role in ("chosen", "default") if role in kinds)
    if lead:
        return lead
    if "paper" in kinds:
        return trial.name.removeprefix("lsh ") if trial.method == "lsh" else trial.name
    return trial.name[:26] if "exact" in kinds else ""


def hover(trial: Trial) -> str:
    lines = [
        f"<b>{plain(trial.name, 60)}</b> · trial {trial.number}",
        f"{figure(trial.tokens_per_s)} tokens/s ({plain(trial.throughput_kind or DASH)}) "
        f"{interval(trial.tokens_per_s_low, trial.tokens_per_s_high)}",
        f"KL {figure(trial.kl)} {interval(trial.kl_low, trial.kl_high)}",
        f"density {percent(trial.density)}, index {size(trial.index_bytes)}",
        f"batch {figure(trial.batch_size)}, threads {figure(trial.threads)}",
    ]
    return "<br>".join(lines + ([plain(trial.why_not, 90)] if trial.why_not else []))


def pareto(study: Study) -> dict | None:
    """KL against tokens/s: front, feasible, infeasible; None without a single complete trial."""
    points = [t for t in study.trials if t.plotted]
    if not points:
        return None
    limit, front = study.limit.get("max_kl"), pareto_front(points)
    axis = KlAxis([t.kl for t in points] + ([limit] if limit else []))
    ahead = {t.number for t in front}
    rest = [t for t in points if t.number not in ahead]
    traces = [
        _points("infeasible", [t for t in rest if not t.feasible], axis, study, "--faint", 9),
        _points("feasible", [t for t in rest if t.feasible], axis, study, "--soft", 9),
        _line(front, axis),
        _points("on the front", front, axis, study, "--accent", 12),
    ]
    ticks, words = axis.ticks()
    top = max(t.tokens_per_s_high or t.tokens_per_s for t in points)
    layout = {
        "xaxis": {
            "title": {"text": "KL against dense (log scale; dense is 0)"},
            "tickvals": ticks, "ticktext": words, "range": [axis.start, axis.high],
        },
        "yaxis": {"title": {"text": "tokens/s" + _kind_note(study)}, "range": [0, 1.12 * top]},
        "shapes": _strip(axis) + (_limit_line(axis, limit) if limit else []),
        "annotations": _limit_word(axis, limit) if limit else [],
    }  # fmt: skip
    return {"data": [t for t in traces if t["x"]], "layout": layout, "height": 460}


def _kind_note(study: Study) -> str:
    return f" ({', '.join(sorted(plain(k) for k in study.kinds))})" if study.kinds else ""


def _points(name: str, trials: list[Trial], axis: KlAxis, study: Study, colour: str, dot: int) -> dict:
    across = [axis.spread(t.kl, t.kl_low, t.kl_high) for t in trials]
    along = [(_gap(t.tokens_per_s_low, t.tokens_per_s), _gap(t.tokens_per_s, t.tokens_per_s_high)) for t in trials]
    sides = label_sides(trials, [t for t in study.trials if t.plotted], axis)
    return {
        "type": "scatter", "mode": "markers+text", "name": name, "hoverinfo": "text",
        "x": [axis.at(t.kl) for t in trials], "y": [t.tokens_per_s for t in trials],
        "text": [plain(short_name(study, t)) for t in trials], "hovertext": [hover(t) for t in trials],
        "textposition": sides, "textfont": {"color": "--ink", "size": 12}, "cliponaxis": False,
        "marker": {"color": [_fill(t, colour) for t in trials], "line": {"width": 2, "color": colour},
                   "size": [dot + 5 if t is study.chosen else dot for t in trials],
                   "symbol": [SYMBOLS.get("exact" if t.exact else t.origin, "circle") for t in trials]},
        "error_x": _bars(across, colour), "error_y": _bars(along, colour),
    }  # fmt: skip


def _bars(lengths: list[tuple[float, float]], colour: str) -> dict:
    return {
        "type": "data", "symmetric": False, "arrayminus": [low for low, _ in lengths],
        "array": [high for _, high in lengths], "color": colour, "thickness": 1, "width": 0,
    }  # fmt: skip


def _fill(trial: Trial, colour: str) -> str:
    """Hollow unless measured, so that an estimate never looks like a measurement."""
    return colour if trial.throughput_kind == "measured" else "--ground"


def _gap(low, high) -> float:
    return max(0.0, high - low) if low is not None and high is not None else 0.0


def label_sides(trials: list[Trial], others: list[Trial], axis: KlAxis) -> list[str]:
    """For each trial the side of its mark with the most room, as plotly's textposition."""
    tall = 1.12 * max((t.tokens_per_s for t in others), default=1.0)
    wide = axis.high - axis.start
    place = {t.number: ((axis.at(t.kl) - axis.start) / wide, t.tokens_per_s / tall) for t in others}
    offsets = {"top center": (0.0, 0.05), "middle right": (0.09, 0.0), "bottom center": (0.0, -0.05),
               "middle left": (-0.09, 0.0)}  # fmt: skip

    def room(number: int, side: str) -> float:
        x, y = place[number][0] + offsets[side][0], place[number][1] + offsets[side][1]
        edge = min(x, 1.0 - x, y, 1.0 - y) + 0.02
        gaps = (max(abs(x - a) / 2.0, abs(y - b)) for n, (a, b) in place.items() if n != number)
        return min(edge, 0.12, *gaps) if len(place) > 1 else edge

    return [max(offsets, key=lambda side, n=t.number: room(n, side)) for t in trials]


def _line(front: list[Trial], axis: KlAxis) -> dict:
    return {
        "type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip",
        "x": [axis.at(t.kl) for t in front], "y": [t.tokens_per_s for t in front],
        "line": {"shape": "hv", "color": "--accent", "width": 1.5},
    }  # fmt: skip


def _strip(axis: KlAxis) -> list[dict]:
    if not axis.has_zero:
        return []
    box = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "line": {"width": 0}}
    return [box | {"x0": axis.start, "x1": axis.low, "fillcolor": "--band"}]


def _limit_line(axis: KlAxis, limit: float) -> list[dict]:
    at = axis.at(limit)
    return [{"type": "line", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "layer": "below",
             "line": {"color": "--ink", "width": 1, "dash": "dot"}}]  # fmt: skip


def _limit_word(axis: KlAxis, limit: float) -> list[dict]:
    place = {"x": axis.at(limit), "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    font = {"color": "--ink", "size": 12}
    return [place | {"text": f"KL limit {figure(limit)}", "showarrow": False, "font": font}]


def step_times(study: Study) -> dict | None:
    """Stacked bars of the parts of a step for the trials with a role; None when no parts are known."""
    shown = [t for t in highlights(study) if any(getattr(t, part) is not None for part in PARTS)]
    if not shown:
        return None
    names = [f"{plain(t.name, 24)}  #{t.number}" for t in shown]
    bars = [_part(part, shown, names) for part in PARTS if any(getattr(t, part) for t in shown)]
    whole = {
        "type": "scatter", "mode": "markers", "name": "whole step", "hoverinfo": "text",
        "x": [t.step_ms for t in shown], "y": names, "hovertext": _said("step", names, [t.step_ms for t in shown]),
        "marker": {"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": "--ink"}},
    }  # fmt: skip
    layout = {
        "barmode": "stack", "bargap": 0.45,
        "xaxis": {"title": {"text": "milliseconds a step"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False},
    }  # fmt: skip
    return {"data": [*bars, whole], "layout": layout, "height": 150 + 34 * len(shown)}


def _part(part: str, shown: list[Trial], names: list[str]) -> dict:
    values = [getattr(t, part) for t in shown]
    colour = "--part-" + part.removeprefix("ms_").replace("_", "-")
    return {
        "type": "bar", "orientation": "h", "name": PARTS[part], "y": names, "x": values, "hoverinfo": "text",
        "hovertext": _said(PARTS[part], names, values), "textposition": "none",
        "marker": {"color": colour, "line": {"width": 0}},
    }  # fmt: skip


def _said(what: str, names: list[str], values: list) -> list[str]:
    return [f"{name}<br>{what}: {figure(v)} ms" for name, v in zip(names, values, strict=True)]
