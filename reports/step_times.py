"""Where the time of a study's steps goes, as the cost model or a traced step has it: stacked bars."""

from .front import highlights
from .numbers import figure
from .plots import plain
from .record import Study, Trial

PARTS = {
    "ms_weights": "weights",
    "ms_gpu_attend": "attention on the GPU",
    "ms_hash": "hashing",
    "ms_launch": "launches",
    "ms_link": "link",
    "ms_cpu_retrieve": "retrieval on the CPU",
    "ms_cpu_attend": "attention on the CPU",
    "ms_gpu_retrieve": "retrieval on the GPU",
    "ms_gpu_sample": "sampled keys on the GPU",
}
WAITS = "waits and the rest"
INSIDE = "retrieve_attend"  # attends and retrieves in one, so that the former has both
NOTE = "Merging what the CPU and the GPU attended is in launches"


def step_times(study: Study) -> dict | None:
    """Stacked bars of the parts of a step for the trials with a role; None when no parts are known."""
    shown = [t for t in highlights(study) if any(getattr(t, part) is not None for part in PARTS)]
    if not shown:
        return None
    parts = [part for part in PARTS if any(getattr(t, part) for t in shown)]
    whole = {
        "type": "scatter", "mode": "markers", "hoverinfo": "text", "y": list(range(len(shown))),
        "x": [_a_token(t, t.step_ms) for t in shown], "hovertext": [_whole(t) for t in shown],
        "marker": {"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": "--ink"}},
    }  # fmt: skip
    layout = {
        "barmode": "stack", "bargap": 0.5, "margin": {"t": 4},
        "xaxis": {"title": {"text": "milliseconds a token"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False,
                  "tickvals": list(range(len(shown))), "ticktext": [_two_lines(t) for t in shown]},
    }  # fmt: skip
    names = PARTS | {"ms_cpu_attend": _attention(shown)}
    legend = [(names[part], _part_colour(part)) for part in parts]
    bars = [_part(names[part], _part_colour(part), shown, [getattr(t, part) for t in shown]) for part in parts]
    note = f"{NOTE}; waits are in no part."
    if any(waits := [_waits(t) for t in shown]):
        bars.append(_part(WAITS, "--part-waits", shown, waits))
        legend.append((WAITS, "--part-waits"))
        note = f"{NOTE}; waits are what no part accounts for."
    data = [*bars, whole]
    return {"data": data, "layout": layout, "height": 70 + 46 * len(shown), "legend": legend, "note": note}


def _two_lines(trial: Trial) -> str:
    within = ", retrieval inside" if trial.attend_with == INSIDE else ""
    small = f"trial {trial.number}, batch {figure(trial.batch_size)}{within}"
    name = trial.name.removeprefix("dense: ")
    return f"{plain(name, 24)}<br><span style='font-size:11px'>{small}</span>"


def _attention(shown: list[Trial]) -> str:
    """What the CPU's attention is called, by whether it has retrieval inside."""
    within = [t.attend_with == INSIDE for t in shown if t.ms_cpu_attend]
    words = ", retrieval inside" if all(within) else f", of {INSIDE} with retrieval inside"
    return PARTS["ms_cpu_attend"] + (words if any(within) else "")


def _part_colour(part: str) -> str:
    return "--part-" + part.removeprefix("ms_").replace("_", "-")


def _a_token(trial: Trial, milliseconds) -> float | None:
    """A step's milliseconds over its requests, so that batches compare."""
    return None if milliseconds is None else milliseconds / (trial.batch_size or 1)


def _waits(trial: Trial) -> float | None:
    """Milliseconds of a step that no part accounts for, None below 2% of it, or where no part is known."""
    parts = [getattr(trial, part) for part in PARTS if getattr(trial, part) is not None]
    if not parts or trial.step_ms is None:
        return None
    left = trial.step_ms - (sum(parts) - (trial.ms_hidden or 0.0))
    return left if left > 0.02 * trial.step_ms else None


def _part(name: str, colour: str, shown: list[Trial], values: list) -> dict:
    return {
        "type": "bar", "orientation": "h", "y": list(range(len(shown))),
        "x": [_a_token(t, value) for t, value in zip(shown, values, strict=True)], "hoverinfo": "text",
        "hovertext": [_said(name, t, v) for t, v in zip(shown, values, strict=True)],
        "textposition": "none", "marker": {"color": colour, "line": {"width": 0}},
    }  # fmt: skip


def _whole(trial: Trial) -> str:
    hidden = f"<br>hidden, one part behind another: {figure(trial.ms_hidden)} ms" if trial.ms_hidden else ""
    return _said("whole step", trial, trial.step_ms) + hidden


def _said(what: str, trial: Trial, value) -> str:
    return f"<b>{plain(trial.name, 60)}</b> · trial {trial.number}<br>{what}: {figure(value)} ms a step"
