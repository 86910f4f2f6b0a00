"""Summaries of python -m truffle.bench accuracy --texts as panels of lines: who errs how much for how many rows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from .numbers import figure, percent
from .record import Number, RecordError, checked, clean, read_json, shown

OP, ALL = "accuracy_text_summary", "all"


@dataclass(frozen=True)
class Point:
    """One method at one density, its KL and rows over texts; the field names are the record's own."""

    name: str
    method: str
    parameters: str
    model: str
    text: str
    context: int
    steps: int
    samples: int
    asked_density: Number = None
    kl: Number = None
    kl_low: Number = None
    kl_high: Number = None
    rows: Number = None
    rows_low: Number = None
    rows_high: Number = None

    @property
    def drawn(self) -> bool:
        """Whether it has a place on two log axes."""
        return all(value is not None and value > 0 for value in (self.kl, self.rows))


@dataclass(frozen=True)
class Line:
    """A method at all its densities, by rising rows.

    Attributes:
        bound: it chooses by the exact scores of every key, so what it could save in reading is not saved.
    """

    name: str
    method: str
    bound: bool
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Methods on the same texts.

    Attributes:
        context: tokens read exactly; steps: those decoded behind them in each of `samples` texts.
        texts: their kinds in words.
        left_out: points without a place on log axes.
    """

    context: int
    steps: int
    samples: int
    texts: str
    lines: tuple[Line, ...]
    left_out: int


def load(paths: Iterable[Path]) -> tuple[str, list[Panel]]:
    """The model, and a panel a context by rising context.

    Raises:
        RecordError: a file is missing or wrong or has no such records, they are of several models or do not lie on the
            same texts, a method is there twice, or nothing can be drawn.
    """
    points = [point for path in paths for point in _points(Path(path))]
    models = sorted({point.model for point in points})
    if len(models) > 1:
        raise RecordError(f"expected records of one model, got {', '.join(models)}")
    contexts = sorted({point.context for point in points})
    panels = [_panel([point for point in points if point.context == context]) for context in contexts]
    if not any(panel.lines for panel in panels):
        raise RecordError("expected a point whose KL and rows are above 0, got none")
    return models[0], panels


def _points(path: Path) -> list[Point]:
    records = clean(read_json(path)).get("records")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise RecordError(f"{path}: records must be a list of objects, got {shown(records)}")
    found = [_point(r, f"{path}: records[{i}]") for i, r in enumerate(records) if r.get("op") == OP]
    if not found:
        raise RecordError(f"{path}: expected records of {OP}, as bench accuracy --texts writes them, got none")
    contexts = dict.fromkeys(point.context for point in found)
    return [point for context in contexts for point in _over_texts(path, [p for p in found if p.context == context])]


def _point(record: dict, where: str) -> Point:
    return Point(**{f.name: checked(record.get(f.name), f.type, f"{where}.{f.name}") for f in fields(Point)})


def _over_texts(path: Path, points: list[Point]) -> list[Point]:
    """Those over all kinds of text, or of the only kind."""
    kinds = list(dict.fromkeys(point.text for point in points if point.text != ALL))
    over_all = [replace(point, text=", ".join(kinds) or ALL) for point in points if point.text == ALL]
    if not over_all and len(kinds) > 1:
        raise RecordError(f"{path}: expected records over all texts beside those of {', '.join(kinds)}, got none")
    return over_all or points


def _panel(points: list[Point]) -> Panel:
    where = f"at {points[0].context} tokens"
    settings = dict.fromkeys((point.text, point.samples, point.steps) for point in points)
    if len(settings) > 1:
        told = " and ".join(f"{steps} steps on {samples} of {text}" for text, samples, steps in settings)
        raise RecordError(f"{where}: expected records of the same texts, got {told}")
    ((text, samples, steps),) = settings
    drawn = [point for point in points if point.drawn]
    by_name: dict[str, list[Point]] = {}
    for point in drawn:
        by_name.setdefault(point.name, []).append(point)
    lines = tuple(_line(own, where) for own in by_name.values())
    return Panel(points[0].context, steps, samples, text, lines, len(points) - len(drawn))


def _line(points: list[Point], where: str) -> Line:
    densities = [point.asked_density for point in points]
    for density in densities:
        if densities.count(density) > 1:
            at = "" if density is None else f" at {percent(density)}"
            raise RecordError(f"{where}: {points[0].name}{at} is there {figure(densities.count(density))} times")
    return Line(points[0].name, points[0].method, _bound(points[0]), tuple(sorted(points, key=lambda p: p.rows)))


def _bound(point: Point) -> bool:
    try:
        parameters = json.loads(point.parameters)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise RecordError(f"parameters of {point.name} must be a JSON object, got {shown(point.parameters)}")
    return point.method.startswith("oracle") or point.method == "priority" or parameters.get("heavy") == "oracle"
