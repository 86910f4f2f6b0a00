"""Methods side by side at equal density, from records of bench accuracy and from studies of several methods."""

import math
import textwrap
from dataclasses import dataclass

from .apart import told_apart
from .kl_axis import KlAxis
from .measured import Measured
from .method_label import method_label
from .numbers import figure, interval, percent
from .plots import plain
from .record import Number, Study, Text

NEAR = math.log(1.5)  # densities further apart than this factor are not called equal
ALL, LETTERS = "all", 28  # letters in a line of a method's name


@dataclass(frozen=True)
class Scored:
    """KL of a method on one kind of text or over all; the field names are the record's own."""

    method: str
    parameters: Text = None
    name: Text = None
    model: Text = None
    text: Text = None
    context: Number = None
    samples: Number = None
    steps: Number = None
    asked_density: Number = None
    density: Number = None
    rows: Number = None
    kl: Number = None
    kl_low: Number = None
    kl_high: Number = None
    output_error: Number = None
    file: Text = None

    @property
    def label(self) -> str:
        return self.name or method_label(self.method, self.parameters)

    @property
    def reads_all(self) -> bool:
        """Whether it chooses by exact scores of every key, so that its density is no saving."""
        return self.method.startswith("oracle") or self.method == "priority"


@dataclass(frozen=True)
class Panel:
    """Methods at about one density on the same texts, the least KL first."""

    title: str
    density: float
    scored: tuple[Scored, ...]
    context: float | None = None
    machine: str = ""


def panels(study: Study, measured: Measured) -> list[Panel]:
    """A panel for the study where it tried several methods, then one a setting and density of the records."""
    found = _tried(study)
    groups: dict[tuple, list[Scored]] = {}
    for row in measured.of(Scored, "accuracy_text_summary", "accuracy"):
        if row.kl is not None and row.density and row.method != "dense":
            groups.setdefault((row.model, row.context, row.samples, row.steps, row.text), []).append(row)
    for (model, context, samples, steps, text), rows in groups.items():
        over_all = any(key[:2] == (model, context) and key[-1] == ALL for key in groups)
        if text == ALL or not over_all:
            texts = f"{figure(samples)} texts" + ("" if text in (ALL, None) else f" of {text}")
            title = f"{figure(model)}, {figure(steps)} tokens after {figure(context)} of each of {texts}"
            found += [
                Panel(title, density, tuple(own), context, measured.machine(row.file or "" for row in own))
                for density, own in _by_density(rows).items()
            ]
    return [panel for panel in found if len({row.method for row in panel.scored}) > 1]


def _tried(study: Study) -> list[Panel]:
    """Of each method that the study tried, the best near the density of what it chose, or of the default."""
    trials = [t for t in study.trials if t.status == "complete" and t.kl is not None and t.density and not t.exact]
    anchor = next((t for t in trials if t is study.chosen), next((t for t in trials if t.origin == "default"), None))
    if anchor is None:
        return []
    best: dict[str, Scored] = {}
    for t in sorted(trials, key=lambda t: t.kl):
        row = Scored(t.method or "", None, t.name, density=t.density, rows=t.rows, kl=t.kl, kl_low=t.kl_low,
                     kl_high=t.kl_high, output_error=t.output_error)  # fmt: skip
        if _gap(row, anchor.density) < NEAR:
            best.setdefault(row.method, row)
    context = study.accuracy_model.get("context")
    return [Panel("the best of each method in this study", anchor.density, tuple(best.values()), context)]


def _by_density(rows: list[Scored]) -> dict[float, list[Scored]]:
    """Rows by the density nearest to what they attend, where that is near, the least KL first.

    Densities are those that several methods were asked for. Of several rows of a name and file, the nearest stands.
    """
    asked = {density: {row.method for row in rows if row.asked_density == density} for density in _asked(rows)}
    asked = [density for density, found in asked.items() if len(found) > 1] or list(asked) or [_commonest(rows)]
    near: dict[float, dict[tuple, Scored]] = {density: {} for density in asked}
    for row in rows:
        density = min(asked, key=lambda density: _gap(row, density))
        other = near[density].get((row.label, row.file), row)
        if _gap(row, density) < NEAR:
            near[density][row.label, row.file] = min(other, row, key=lambda one: _gap(one, density))
    return {density: sorted(found.values(), key=lambda row: row.kl) for density, found in near.items()}


def _asked(rows: list[Scored]) -> list[float]:
    return sorted({row.asked_density for row in rows if row.asked_density})


def _commonest(rows: list[Scored]) -> float:
    """The density near which there are most rows."""
    return max((row.density for row in rows), key=lambda density: sum(_gap(row, density) < NEAR for row in rows))


def _gap(row: Scored, density: float) -> float:
    return abs(math.log(row.density / density))


def methods(study: Study, measured: Measured) -> list[dict]:
    """A plotly figure a panel: KL on a log axis, a line a method."""
    return [_figure(panel) for panel in panels(study, measured)]


def _figure(panel: Panel) -> dict:
    known = [v for row in panel.scored for v in (row.kl, row.kl_low, row.kl_high) if v is not None]
    lowest = min(row.kl for row in panel.scored) / 3  # an interval that goes on to 0 is cut
    axis, places = KlAxis([v for v in known if v > lowest]), list(range(len(panel.scored)))
    ends = [axis.spread(row.kl, row.kl_low, row.kl_high) for row in panel.scored]
    ticks, words = _few(*axis.ticks())
    names = told_apart([row.label for row in panel.scored], [row.file or "" for row in panel.scored])
    lines = [_lines(name, row) for name, row in zip(names, panel.scored, strict=True)]
    after = "" if panel.context is None else f", {figure(panel.context)} tokens"
    title = f"Density about {percent(panel.density)}{after}"
    points = {
        "type": "scatter", "mode": "markers", "hoverinfo": "text", "y": places, "cliponaxis": False,
        "x": [axis.at(row.kl) for row in panel.scored], "hovertext": [_hover(row) for row in panel.scored],
        "marker": {"size": 10, "symbol": "circle", "line": {"width": 2, "color": "--accent"},
                   "color": ["--ground" if row.reads_all else "--accent" for row in panel.scored]},
        "error_x": {"type": "data", "symmetric": False, "arrayminus": [low for low, _ in ends],
                    "array": [high for _, high in ends], "color": "--accent", "thickness": 1, "width": 0},
    }  # fmt: skip
    layout = {
        "title": {"text": title, "x": 0, "xref": "paper", "font": {"size": 14}},
        "xaxis": {"title": {"text": "KL against dense (log scale)"}, "tickvals": ticks, "ticktext": words,
                  "range": [axis.start, axis.high]},
        "yaxis": {"autorange": "reversed", "automargin": True, "tickvals": places,
                  "ticktext": lines},
        "margin": {"t": 36},
    }  # fmt: skip
    note = f"{panel.title}; {panel.machine}" if panel.machine else panel.title
    most = 1 + max(words.count("<br>") for words in lines)
    return {"data": [points], "layout": layout, "height": 110 + max(38, 17 * most) * len(places), "note": note}


def _few(ticks: list[float], words: list[str]) -> tuple[list[float], list[str]]:
    """Whole decades where there are many ticks and more than one such."""
    decades = [(at, word) for at, word in zip(ticks, words, strict=True) if round(at, 6) % 1 == 0 or word == "0"]
    return (ticks, words) if len(ticks) < 5 or len(decades) < 2 else tuple(map(list, zip(*decades, strict=True)))  # pyright: ignore


def _lines(name: str, row: Scored) -> str:
    told = "<br>".join(plain(line) for line in textwrap.wrap(name, LETTERS))
    return f"{told}<br><span style='font-size:11px'>attends {percent(row.density)}</span>"


def _hover(row: Scored) -> str:
    return "<br>".join([
        f"<b>{plain(row.label)}</b>", f"KL {figure(row.kl)} {interval(row.kl_low, row.kl_high)}",
        f"density {percent(row.density)}, rows read {percent(row.rows)}", f"output error {figure(row.output_error)}",
    ])  # fmt: skip
