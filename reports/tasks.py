"""Scores by task and method, from records of bench accuracy --tasks or --planted."""

import textwrap
from dataclasses import dataclass

from .apart import told_apart
from .measured import Measured
from .method_label import method_label, own_parameters
from .numbers import figure, percent
from .record import Number, Study, Text, checked

ALL = "all"
LETTERS = 34  # in a line of a method's name in the picture


@dataclass(frozen=True)
class Score:
    """A method on a task, or on all of them; scores and differences to exact decoding are in percent points."""

    method: str
    task: str
    score: Number
    file: str
    parameters: Text = None
    model: Text = None
    context: Number = None
    setup: Text = None
    samples: Number = None
    density: Number = None
    asked_density: Number = None
    difference: Number = None
    difference_low: Number = None
    difference_high: Number = None


@dataclass(frozen=True)
class Line:
    """A method's scores by task, None where it was not asked."""

    label: str
    density: float | None
    scores: tuple[float | None, ...]
    over_all: Score | None

    @property
    def difference(self) -> str:
        """To exact decoding over all tasks, with its interval; empty for exact decoding itself."""
        one = self.over_all
        if one is None or one.difference is None or one.method == "dense":
            return ""
        known = one.difference_low is not None and one.difference_high is not None
        return f"{one.difference:+.1f}" + (
            f" ({one.difference_low:+.1f} to {one.difference_high:+.1f})" if known else ""
        )


@dataclass(frozen=True)
class TaskTable:
    """Methods on the same prompts, the best first, exact decoding on top."""

    title: str
    tasks: tuple[str, ...]
    lines: tuple[Line, ...]
    machine: str = ""


def task_tables(study: Study, measured: Measured) -> list[TaskTable]:
    """What the study asked its own trials, then a table a file, model, context and setup."""
    groups: dict[tuple, list[Score]] = {}
    for score in measured.of(Score, "accuracy_task_summary", "accuracy_planted_summary"):
        groups.setdefault((score.file, score.model, score.context, score.setup), []).append(score)
    titles = told_apart([_title(scores) for scores in groups.values()], [key[0] for key in groups])
    own = zip(titles, groups.items(), strict=True)
    return [*_asked(study), *(_table(scores, title, measured.machine(key[:1])) for title, (key, scores) in own)]


def _asked(study: Study) -> list[TaskTable]:
    """Scores that the study measured for its limits, a line a trial."""
    known = [(trial, own_parameters(trial.name, trial.scores, "scores")) for trial in study.trials if trial.scores]
    tasks = tuple(dict.fromkeys(task for _, own in known for task in own))
    lines = [
        Line(t.name, t.density, tuple(checked(own.get(task), Number, f"scores of {t.name}") for task in tasks), None)
        for t, own in known
    ]
    title = f"{figure(study.accuracy_model.get('id'))}, the trials of this study that were asked"
    return [TaskTable(title, tasks, tuple(sorted(lines, key=_worst_last)))] if tasks else []


def _title(scores: list[Score]) -> str:
    first = scores[0]
    setup = f", setup {first.setup}" if first.setup else ""
    return f"{first.model or 'planted keys'}, {figure(first.context)} tokens{setup}, {_samples(scores)} prompts a task"


def _table(scores: list[Score], title: str, machine: str) -> TaskTable:
    tasks = tuple(dict.fromkeys(score.task for score in scores if score.task != ALL))
    by_method: dict[tuple, list[Score]] = {}
    for score in scores:
        by_method.setdefault((score.method, score.parameters, score.asked_density), []).append(score)
    lines = sorted((_line(own, tasks) for own in by_method.values()), key=_worst_last)
    return TaskTable(title, tasks, tuple(lines), machine)


def _samples(scores: list[Score]) -> str:
    return " or ".join(figure(n) for n in sorted({s.samples for s in scores if s.task != ALL and s.samples}))


def _line(own: list[Score], tasks: tuple[str, ...]) -> Line:
    by_task = {score.task: score for score in own}
    over_all = by_task.get(ALL)
    densities = [score.density for score in ([over_all] if over_all else own) if score.density is not None]
    density = sum(densities) / len(densities) if densities else None
    # Planted keys are one layer, which is sampled.
    label = method_label(own[0].method, own[0].parameters, layers=own[0].model is not None)
    return Line(label, density, tuple(by_task[t].score if t in by_task else None for t in tasks), over_all)


def _worst_last(line: Line) -> tuple:
    known = [score for score in line.scores if score is not None]
    return line.label != "dense", -sum(known) / max(1, len(known))


def task_map(table: TaskTable) -> dict:
    """The table as a heat map, for a picture; the page has the table itself, tinted."""
    names, rows = [_named(line) for line in table.lines], list(range(len(table.lines)))
    most = 1 + max(name.count("\n") for name in names)
    return {
        "data": [{"type": "heatmap", "z": [list(line.scores) for line in table.lines], "zmin": 0, "zmax": 100,
                  "colorscale": [[0, "--ground"], [1, "--map-mid"]]}],
        "layout": {"title": {"text": f"Score by task, percent: {table.title}"},
                   "xaxis": {"tickvals": list(range(len(table.tasks))),
                             "ticktext": [task.removeprefix("niah_") for task in table.tasks]},
                   "yaxis": {"autorange": "reversed", "tickvals": rows, "ticktext": names}},
        "note": table.machine, "height": 120 + max(30, 18 * most) * len(rows),
    }  # fmt: skip


def _named(line: Line) -> str:
    words = line.label + ("" if line.density is None else f", {percent(line.density)}")
    return "\n".join(textwrap.wrap(words, LETTERS))
