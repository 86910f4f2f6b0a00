"""Where the time of one sampled layer goes, from steps that bench decode or scaling timed: a stacked bar a step."""

import textwrap

from .apart import told_apart
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
LETTERS = 30  # in a line beside a bar


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
    found = _traced(measured, "decode") or _traced(measured, "scaling")
    if not found:
        return None
    traced = found[:MOST]
    used = [part for part in PARTS if any(parts[part] > SEEN * sum(parts.values()) for _, parts in traced)]
    places, words = list(range(len(traced))), _words([step for step, _ in traced])
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
                  "ticktext": words},
    }  # fmt: skip
    legend = [PARTS[part] for part in used]
    note = _note(len(found) - len(traced), measured.machine(step.file for step, _ in traced))
    lines = sum(1 + name.count("<br>") for name in words)
    return {"data": data, "layout": layout, "height": 70 + 23 * lines, "legend": legend, "note": note}


def _traced(measured: Measured, op: str) -> list[tuple[Step, dict[str, float]]]:
    """Steps with their parts, those that a backtest of the cost model timed after others."""
    judged = {source.name for source in measured.sources if " backtest " in source.command}
    steps = sorted(measured.of(Step, op), key=lambda step: step.file in judged)
    return [(step, parts) for step in steps if (parts := parts_of(step)) is not None]


def _note(left_out: int, machine: str) -> str:
    left = f"{left_out} more timed step{'s' * (left_out > 1)} left out" if left_out else ""
    return "; ".join(filter(None, (machine, left)))


def _words(steps: list[Step]) -> list[str]:
    """Method and how it ran, with the file where another's is called the same, as lines."""
    contexts = {step.context for step in steps}
    small = [(f"{figure(step.context)} tokens, " if len(contexts) > 1 else "") + _how(step) for step in steps]
    names = [method_label(step.method, step.parameters) for step in steps]
    apart = told_apart([f"{name}\n{how}" for name, how in zip(names, small, strict=True)], [s.file for s in steps])
    return [_lines(*words.split("\n")) for words in apart]


def _how(step: Step) -> str:
    words = [f"{step.threads} threads"]
    words += ["spinning"] if step.wait_policy == "spin" else []
    words += [f"batch {step.batch}"] + (["int8"] if step.store_format == "int8" else [])
    return ", ".join(words + (["retrieve_attend"] if "retrieve_attend" in (step.implementations or "") else []))


def _lines(name: str, small: str) -> str:
    told = "<br>".join(plain(line) for line in textwrap.wrap(small, LETTERS + 6))
    return (
        "<br>".join(plain(line) for line in textwrap.wrap(name, LETTERS))
        + f"<br><span style='font-size:11px'>{told}</span>"
    )
