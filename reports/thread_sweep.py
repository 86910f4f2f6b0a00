"""Tokens a second of the point that a tune measured with every number of threads."""

import json
import math

from .numbers import figure, interval
from .plots import plain
from .record import Study, Trial

SWEPT = "threads"  # the origin of trials that a sweep lined up
COLOUR = "--series-1"


def by_threads(study: Study) -> dict | None:
    """A plotly figure; None where no point was swept, or with one number of threads alone."""
    timed = [t for t in study.trials if t.status == "complete" and t.tokens_per_s and t.threads]
    swept = [t for t in timed if t.origin == SWEPT]
    alike = [t for t in timed if swept and _but_threads(t) == _but_threads(swept[0])]
    line = [max((t for t in alike if t.threads == count), key=lambda t: bool(t.confirmed))
            for count in sorted({t.threads for t in alike})]  # fmt: skip
    if len(line) < 2:
        return None
    rates = [t.tokens_per_s for t in line]
    low = [max(0.0, t.tokens_per_s - t.tokens_per_s_low) if t.tokens_per_s_low is not None else 0.0 for t in line]
    high = [max(0.0, t.tokens_per_s_high - t.tokens_per_s) if t.tokens_per_s_high is not None else 0.0 for t in line]
    x = [math.log2(t.threads) for t in line]
    points = {
        "type": "scatter", "mode": "lines+markers", "hoverinfo": "text", "x": x, "y": rates,
        "hovertext": [_hover(t) for t in line], "line": {"color": COLOUR, "width": 1.5},
        "marker": {"color": COLOUR, "size": 8, "symbol": "circle"},
        "error_y": {"type": "data", "symmetric": False, "arrayminus": low, "array": high, "color": COLOUR,
                    "thickness": 1, "width": 0},
    }  # fmt: skip
    kinds = " and ".join(sorted({str(t.throughput_kind) for t in line}))
    top = max(rate + up for rate, up in zip(rates, high, strict=True))
    layout = {
        "xaxis": {"title": {"text": "CPU threads (log scale)"}, "tickvals": x, "range": [x[0] - 0.15, x[-1] + 0.15],
                  "ticktext": [figure(t.threads) for t in line]},
        "yaxis": {"title": {"text": f"tokens/s ({kinds})"}, "range": [0, 1.1 * top]},
        "margin": {"t": 8},
    }  # fmt: skip
    legend = [(f"{line[0].name}, batch {figure(line[0].batch_size)}", COLOUR)]
    return {"data": [points], "layout": layout, "height": 300, "legend": legend,
            "note": "Bars are 95 % intervals, where there are any."}  # fmt: skip


def _but_threads(trial: Trial) -> str:
    """The config without threads, nor what is only asked of several."""
    config = json.loads(trial.config or "{}")
    execution = config.get("execution", {})
    rest = {name: value for name, value in execution.items() if name not in ("threads", "pinning", "wait_policy")}
    return json.dumps(config | {"execution": rest}, sort_keys=True)


def _hover(trial: Trial) -> str:
    return "<br>".join([
        f"<b>{plain(trial.name)}</b> · {figure(trial.threads)} threads, trial {trial.number}",
        f"{figure(trial.tokens_per_s)} tokens/s {interval(trial.tokens_per_s_low, trial.tokens_per_s_high)}",
    ])  # fmt: skip
