"""KL to exact decoding against rows read as SVG and PNG: a panel a context, a line a method, its name beside it."""

import textwrap
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from .errors import Line, Panel, Point, load
from .free_places import Place, Words, free_places
from .static import BAND, FAINT, INK, SOFT

# A method looks the same in every figure; its variants differ by their marks.
COLOURS = {
    "scan": "#a8501c", "lsh": "#1f6699", "quest": "#3b7d3f", "vattention": "#7a4a9c", "oracle_topk": "#25221e",
    "oracle_topp": "#6f6a62", "oracle_sampling": "#8c6d1f", "priority": "#b03060", "uniform": "#2a8a8a",
}  # fmt: skip
MARKS = "osD^vPX<>*"
WIDTH, PANEL_HEIGHT, LINE_HEIGHT = 8.4, 5.0, 0.17  # inches
LETTERS, LETTER = 118, 9  # in a line of the caption; a name's size in points
NEAR = 13  # points within which a name needs no thread to its line


def write_errors(paths: Iterable[Path], name: Path) -> list[Path]:
    """Writes `name`.svg and `name`.png from files of records, and returns their paths; raises RecordError."""
    from matplotlib import rc_context

    written = [name.with_name(name.name + ending) for ending in (".svg", ".png")]
    with rc_context({"svg.hashsalt": "truffle", "font.size": 10, "svg.fonttype": "none"}):
        drawing = draw(*load(paths))
        drawing.savefig(written[0], metadata={"Date": None})
        drawing.savefig(written[1], dpi=160)
    return written


def draw(model: str, panels: list[Panel]):
    """The matplotlib Figure; its lines carry the methods' names as labels."""
    from matplotlib.figure import Figure

    words = caption(model, panels)
    below = LINE_HEIGHT * (words.count("\n") + 1) + 0.1
    drawing = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(panels) + below), dpi=72)
    share = below / drawing.get_figheight()
    drawing.set_layout_engine("constrained", rect=(0, share, 1, 1 - share))
    drawing.text(0.012, 0.2 * share, words, fontsize=8.5, color=SOFT, va="bottom", parse_math=False)
    frames = drawing.subplots(len(panels), sharex=True, sharey=True, squeeze=False)[:, 0]
    marks = _marks(panels)
    for frame, panel in zip(frames, panels, strict=True):
        _furnish(frame, panel)
        for line in panel.lines:
            _trace(frame, line, marks[line.name])
    _scale(frames[0], [point for panel in panels for line in panel.lines for point in line.points])
    frames[-1].set_xlabel("share of the cached keys and values that is read (log scale)", color=SOFT)
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")  # names are placed where frames now are
    for frame, panel in zip(frames, panels, strict=True):
        _name(frame, panel.lines)
    return drawing


def caption(model: str, panels: list[Panel]) -> str:
    """What the figure shows, in wrapped lines."""
    lines = [
        "Lower left is better: closer to exact decoding, and less read. Bars are 95% intervals.",
        f"{model}: {'; '.join(_measured(panels))}.",
        "Read are the distinct rows of a key/value head, those always attended included, codes and indexes not.",
    ]
    if any(line.bound for panel in panels for line in panel.lines):
        lines.append("Dashed: chooses by the exact scores of all keys, a bound on choosing that saves no reading.")
    if left_out := sum(panel.left_out for panel in panels):
        lines.append(f"Not drawn: {left_out} whose KL or rows is 0 or unknown.")
    return "\n".join(part for line in lines for part in textwrap.wrap(line, LETTERS))


def _measured(panels: list[Panel]) -> Iterable[str]:
    contexts: dict[tuple[int, int, str], list[str]] = {}
    for panel in panels:
        contexts.setdefault((panel.steps, panel.samples, panel.texts), []).append(f"{panel.context:,}")
    for (steps, samples, texts), own in contexts.items():
        count = f"{samples:,} text{'s' * (samples > 1)} ({texts})"
        yield f"{steps:,} tokens decoded after {' or '.join(own)} in each of {count}"


def _marks(panels: list[Panel]) -> dict[str, str]:
    """A mark for each name, another for each variant of a method."""
    methods = {line.name: line.method for panel in panels for line in panel.lines}
    own = {method: [name for name in methods if methods[name] == method] for method in methods.values()}
    return {name: MARKS[own[method].index(name) % len(MARKS)] for name, method in methods.items()}


def _trace(frame, line: Line, mark: str) -> None:
    colour = COLOURS.get(line.method, INK)
    dashes, fill = ("--", "white") if line.bound else ("-", colour)
    rows, kl = zip(*((p.rows, p.kl) for p in line.points), strict=True)
    frame.plot(rows, kl, label=line.name, color=colour, marker=mark, ms=5, mfc=fill, lw=1.3, ls=dashes, zorder=3)
    for point in line.points:
        if point.kl_low is not None and point.kl_high is not None:
            frame.vlines(point.rows, max(point.kl_low, 1e-300), point.kl_high, color=colour, lw=0.8, alpha=0.6)
        if point.rows_low is not None and point.rows_high is not None:
            frame.hlines(point.kl, max(point.rows_low, 1e-300), point.rows_high, color=colour, lw=0.8, alpha=0.6)


def _furnish(frame, panel: Panel) -> None:
    frame.set_title(f"{panel.context:,} tokens of context", loc="left", fontsize=11, color=INK)
    frame.set_xscale("log")
    frame.set_yscale("log")
    frame.set_ylabel("KL to exact decoding (log scale)", color=SOFT)
    frame.grid(color=BAND, lw=1)
    frame.tick_params(which="both", colors=SOFT, length=0)
    frame.tick_params(labelbottom=True)
    frame.spines[:].set_color(FAINT)
    frame.spines[["top", "right"]].set_visible(False)


def _scale(frame, points: list[Point]) -> None:
    """Limits and ticks of both axes, with room for names at the right."""
    # An interval that goes on to 0 is cut a factor of 3 below the lowest point.
    lowest = min(p.kl for p in points)
    ends = [lowest, *(p.kl for p in points), *(p.kl_high or p.kl for p in points)]
    ends += [max(p.kl_low, lowest / 3) for p in points if p.kl_low is not None]
    rows = [p.rows for p in points]
    frame.set_xlim(*_padded(rows, 0.08, 0.3))
    frame.set_ylim(*_padded(ends, 0.1, 0.1))
    _ticks(frame.xaxis, frame.get_xlim(), lambda value, _: f"{100 * value:.6g}%")
    _ticks(frame.yaxis, frame.get_ylim(), lambda value, _: f"{value:.6g}")


def _padded(values: list[float], before: float, after: float) -> tuple[float, float]:
    low, high = np.log10(min(values)), np.log10(max(values))
    span = max(high - low, 0.5)
    return 10 ** (low - before * span), 10 ** (high + after * span)


def _ticks(axis, limits: tuple[float, float], words) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if limits[1] / limits[0] < 300 else (1,), numticks=30))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(words))


def _name(frame, lines: tuple[Line, ...]) -> None:
    """Each line's name beside one of its ends, tied to it by a thread where that is not near."""
    if not lines:
        return
    traces = [frame.transData.transform([(p.rows, p.kl) for p in line.points]) for line in lines]
    bars = [frame.transData.transform(bar) for line in lines for p in line.points for bar in _bars(p)]
    along = np.concatenate([_along(path) for path in [*traces, *bars]])
    words = [Words(path[[-1, 0]], *_size(frame, line.name)) for path, line in zip(traces, lines, strict=True)]
    edges = frame.get_window_extent()
    places = free_places(words, np.concatenate(traces), along, (edges.x0, edges.x1, edges.y0, edges.y1))
    for line, place in zip(lines, places, strict=True):
        _say(frame, line, place)


def _size(frame, words: str) -> tuple[float, float]:
    text = frame.text(0, 0, words, fontsize=LETTER, parse_math=False)
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _bars(point: Point) -> list[list[tuple[float, float]]]:
    if point.kl_high is None or not point.kl_low or point.kl_low <= 0:
        return []
    return [[(point.rows, point.kl_low), (point.rows, point.kl_high)]]


def _along(path: np.ndarray) -> np.ndarray:
    """Points [m, 2] every few units along a path of corners."""
    pieces = [np.linspace(a, b, 2 + int(np.hypot(*(b - a)) / 4)) for a, b in pairwise(path)]
    return np.concatenate([path, *pieces])


def _say(frame, line: Line, place: Place) -> None:
    colour = COLOURS.get(line.method, INK)
    thread = {"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.7, "shrinkA": 0, "shrinkB": 4}
    # A label is text: a dollar sign in it starts no formula.
    frame.annotate(line.name, place.end, (place.x, place.y), xycoords="figure points", textcoords="figure points",
                   ha="center", va="center", fontsize=LETTER, color=colour, parse_math=False, zorder=5,
                   arrowprops=thread if place.distance > NEAR else None)  # fmt: skip
