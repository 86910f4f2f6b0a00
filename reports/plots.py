"""The Pareto front as plain plotly JSON; a colour "--name" is a CSS variable that the page resolves."""

from .front import pareto_front
from .kl_axis import KlAxis
from .labels import label_sides, short_name
from .numbers import DASH, figure, interval, percent, size
from .record import Study, Trial

SYMBOLS = {"default": "diamond", "paper": "square", "exact": "triangle-up"}


def plain(text: str, limit: int = 200) -> str:
    """Text for plotly, which reads some markup of its own in labels."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


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
    top = highest(points)
    sides = label_sides(study, axis, top)
    groups = [
        ("infeasible", [t for t in rest if not t.feasible], "--faint"),
        ("feasible", [t for t in rest if t.feasible], "--soft"),
        ("on the front", front, "--accent"),
    ]
    traces = [_line(front, axis), *(_points(study, axis, sides, *group) for group in groups)]
    ticks, words = axis.ticks()
    layout = {
        "xaxis": {
            "title": {"text": "KL against dense (log scale; dense is 0)"},
            "tickvals": ticks, "ticktext": words, "range": [axis.start, axis.high],
        },
        "yaxis": {"title": {"text": "tokens/s" + _kind_note(study)}, "range": [0, top]},
        "shapes": _strip(axis) + (_limit_line(axis, limit) if limit else []),
        "annotations": _limit_word(axis, limit) if limit else [], "margin": {"t": 30},
    }  # fmt: skip
    legend = [(name, colour) for name, trials, colour in reversed(groups) if trials]
    return {"data": [t for t in traces if t["x"]], "layout": layout, "height": 440, "legend": legend}


def highest(points: list[Trial]) -> float:
    """The top of the axis of tokens/s: the highest mark or bar and a little air."""
    return 1.12 * max((t.tokens_per_s_high or t.tokens_per_s for t in points), default=1.0)


def _kind_note(study: Study) -> str:
    return f" ({', '.join(sorted(plain(k) for k in study.kinds))})" if study.kinds else ""


def _points(study: Study, axis: KlAxis, sides: dict, name: str, trials: list[Trial], colour: str) -> dict:
    across = [axis.spread(t.kl, t.kl_low, t.kl_high) for t in trials]
    along = [(_gap(t.tokens_per_s_low, t.tokens_per_s), _gap(t.tokens_per_s, t.tokens_per_s_high)) for t in trials]
    return {
        "type": "scatter", "mode": "markers+text", "name": name, "hoverinfo": "text",
        "x": [axis.at(t.kl) for t in trials], "y": [t.tokens_per_s for t in trials],
        "text": [plain(short_name(study, t)) if t.number in sides else "" for t in trials],
        "hovertext": [hover(t) for t in trials],
        "textposition": [sides.get(t.number, "top left") for t in trials], "cliponaxis": False,
        "textfont": {"color": "--ink", "size": 12},
        "marker": {"opacity": 1, "color": [_fill(t, colour) for t in trials], "line": {"width": 2, "color": colour},
                   "size": [15 if t is study.chosen else 10 for t in trials],
                   "symbol": [SYMBOLS.get("exact" if t.exact else t.origin or "", "circle") for t in trials]},
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


def _line(front: list[Trial], axis: KlAxis) -> dict:
    return {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip",
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
