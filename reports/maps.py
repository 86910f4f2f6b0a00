"""K x L maps: where in the grid of bits and tables the error, the density and the speed lie."""

import math

from .numbers import figure, percent
from .plots import hover, plain
from .record import Study, Trial

QUANTITIES = {
    "kl": ("KL against dense", figure, True),
    "density": ("Density", percent, True),
    "tokens_per_s": ("Tokens/s", figure, False),
}
SYMBOLS = {"ball": "square", "directed": "diamond"}
ENOUGH, USUAL_HITS, APART = 4, 2, 0.3


def k_l_maps(study: Study) -> list[dict]:
    """One plotly figure a quantity that has at least four points over two values of K and of L."""
    points = fastest_a_cell(study.trials)
    return [figure_ for key in QUANTITIES if (figure_ := _map(key, points)) is not None]


def fastest_a_cell(trials) -> list[Trial]:
    """Complete trials with K and L, the fastest of those with the same K, L, family, probing and hits."""
    cells: dict[tuple, Trial] = {}
    for trial in trials:
        if trial.status != "complete" or not trial.K or not trial.L:
            continue
        cell = (trial.K, trial.L, trial.family, trial.probing, trial.min_hits)
        if cell not in cells or (trial.tokens_per_s or 0) > (cells[cell].tokens_per_s or 0):
            cells[cell] = trial
    return list(cells.values())


def _map(key: str, points: list[Trial]) -> dict | None:
    title, words, logarithmic = QUANTITIES[key]
    known = [t for t in points if getattr(t, key) is not None and (getattr(t, key) > 0 or not logarithmic)]
    if len(known) < ENOUGH or len({t.K for t in known}) < 2 or len({t.L for t in known}) < 2:
        return None
    values = [getattr(t, key) for t in known]
    shades = [math.log10(v) for v in values] if logarithmic else values
    low, high = min(shades), max(shades)
    marks = [low, (low + high) / 2, high]
    trace = {
        "type": "scatter", "mode": "markers+text", "hoverinfo": "text",
        "x": [math.log10(t.L) for t in known], "y": _heights(known),
        "text": ["" if t.min_hits in (None, USUAL_HITS) else figure(t.min_hits) for t in known],
        "textposition": "middle center",
        "textfont": {"color": ["--map-low" if 2 * v > low + high else "--map-high" for v in shades], "size": 10},
        "hovertext": [f"{title}: {words(v)}<br>{hover(t)}" for t, v in zip(known, values, strict=True)],
        "marker": {
            "size": 19, "color": shades, "cmin": low, "cmax": high, "line": {"width": 1, "color": "--ground"},
            "symbol": [_symbol(t) for t in known],
            "colorscale": [[0, "--map-low"], [1, "--map-high"]], "showscale": True,
            "colorbar": {"thickness": 8, "len": 0.9, "outlinewidth": 0, "tickvals": marks,
                         "ticktext": [words(10**m if logarithmic else m) for m in marks]},
        },
    }  # fmt: skip
    tables, bits = sorted({t.L for t in known}), sorted({t.K for t in known})
    ticks = _spaced(tables)
    layout = {
        "title": {"text": plain(title), "x": 0, "xref": "paper", "font": {"size": 14}},
        "xaxis": {"title": {"text": "L, tables"}, "tickvals": [math.log10(v) for v in ticks],
                  "ticktext": [figure(v) for v in ticks],
                  "range": [math.log10(tables[0]) - 0.08, math.log10(tables[-1]) + 0.08]},
        "yaxis": {"title": {"text": "K, bits"}, "tickvals": bits, "range": [bits[0] - 0.7, bits[-1] + 0.7]},
        "margin": {"t": 36, "l": 40},
    }  # fmt: skip
    return {"data": [trace], "layout": layout, "height": 320}


def _heights(trials: list[Trial]) -> list[float]:
    """K, and a little more or less where several have the same K and L."""
    cells: dict[tuple, list[int]] = {}
    for at, trial in enumerate(trials):
        cells.setdefault((trial.K, trial.L), []).append(at)
    shifts = {at: i - (len(own) - 1) / 2 for own in cells.values() for i, at in enumerate(own)}
    most = max(map(len, cells.values()))
    return [trial.K + min(APART, 0.9 / most) * shifts[at] for at, trial in enumerate(trials)]


def _symbol(trial: Trial) -> str:
    if (trial.family or "simhash") != "simhash":
        return "pentagon"
    return SYMBOLS.get((trial.probing or "").split(" ")[0], "circle")


def _spaced(values: list[float]) -> list[float]:
    """Those of the sorted values that can stand beside one another on a log axis."""
    gap = max(0.09, math.log10(values[-1] / values[0]) / 6)
    kept = values[:1]
    for value in values[1:]:
        if math.log10(value / kept[-1]) >= gap:
            kept.append(value)
    return kept
