"""Where the time of one sampled layer goes, from steps that bench decode or scaling timed: a stacked bar a step."""

from .measured import Measured
from .method_label import method_label
from .numbers import figure
from .plots import plain
from .timed_step import Step

PARTS = {
    "weights": ("weights", "--part-weights"),
    "device": ("hash or scan, merge and what else the GPU does before the answer", "--part-hash"),
    "arrival": ("waiting for the answer to begin", "--part-gpu-attend"),
    "host": ("the host retrieves and attends", "--part-cpu-attend"),
    "launch": ("waiting for the next launch", "--part-waits"),
    "else": ("the rest", "--part-link"),
}
MOST, SEEN = 12, 0.005  # bars; the least share of a bar that is drawn


def parts_of(step: Step) -> dict[str, float] | None:
    """Microseconds by part; None where a layer was not traced, or several lanes take turns."""
    known = (step.layer_us, step.layer_host_us, step.layer_weights_us, step.layer_gpu_before_us)
    if None in known or (step.micro_batches or 1) > 1:
        return None
    whole, host, weights, before = known
    found = {
        "weights": min(weights, before),
        "device": max(0.0, before - weights),
        "arrival": max(0.0, step.layer_arrival_us or 0.0),
        "host": host,
        "launch": max(0.0, step.layer_launch_us or 0.0),
    }
    return found | {"else": max(0.0, whole - sum(found.values()))}


def layer_times(measured: Measured) -> dict | None:
    """A stacked bar a timed step, those of a sweep only where there are no others; None without a single traced one."""
    traced = _traced(measured, "decode") or _traced(measured, "scaling")
    if not traced:
        return None
    used = [part for part in PARTS if any(parts[part] > SEEN * sum(parts.values()) for _, parts in traced)]
    places = list(range(len(traced)))
    data = [
        {
            "type": "bar", "orientation": "h", "y": places, "x": [parts[part] for _, parts in traced],
            "hoverinfo": "text", "textposition": "none", "marker": {"color": PARTS[part][1], "line": {"width": 0}},
            "hovertext": [f"<b>{plain(s.label)}</b><br>{PARTS[part][0]}: {figure(p[part])} us" for s, p in traced],
        }
        for part in used
    ]  # fmt: skip
    layout = {
        "barmode": "stack", "bargap": 0.5, "margin": {"t": 4},
        "xaxis": {"title": {"text": "us a layer, measured"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False, "tickvals": places,
                  "ticktext": [_two_lines(step) for step, _ in traced]},
    }  # fmt: skip
    legend = [PARTS[part] for part in used]
    return {"data": data, "layout": layout, "height": 70 + 46 * len(traced), "legend": legend}


def _traced(measured: Measured, op: str) -> list[tuple[Step, dict[str, float]]]:
    return [(step, parts) for step in measured.of(Step, op) if (parts := parts_of(step)) is not None][:MOST]


def _two_lines(step: Step) -> str:
    filled = f", {step.dense_layers} dense" if (step.dense_layers or 2) > 2 else ""
    waits = ", spinning" if step.wait_policy == "spin" else ""
    small = f"{step.threads} threads{waits}, batch {step.batch}{filled}"
    name = method_label(step.method, step.parameters)
    return f"{plain(name, 26)}<br><span style='font-size:11px'>{small}</span>"
