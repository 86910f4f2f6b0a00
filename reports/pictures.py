"""The report's plotly figures as SVG and PNG, in the light colours of the page."""

import re
import textwrap
from pathlib import Path
from typing import Any

from .figures import group
from .static import BAND, FAINT, INK, SOFT

CSS = Path(__file__).parent / "templates" / "report.css"
MARKS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "line-ns": "|", "pentagon": "p"}
DASHES = {"dot": ":", "dash": "--", None: "-"}
PARTS = {"<br>": "\n", "&lt;": "<", "&gt;": ">", "&amp;": "&"}
WIDTH, INCH = 8.4, 90.0  # inches; points of a figure's height to an inch
LETTERS = {1: 88, 2: 50, 3: 34}  # in a line above one of so many figures beside one another
ACROSS = {"map": 3, "tasks": 1}  # figures beside one another, of other groups 2


def write_pictures(figures: dict[str, dict], folder: Path) -> list[Path]:
    """Writes an SVG and a PNG a group of figures, such as map.svg, and returns their paths; `pareto` has its own."""
    from matplotlib import rc_context

    groups: dict[str, list[dict]] = {}
    for name, figure in figures.items():
        groups.setdefault(group(name), []).append(figure)
    written = []
    with rc_context({"svg.hashsalt": "truffle", "font.size": 10, "svg.fonttype": "none"}):
        for name, several in groups.items():
            if name != "pareto":
                drawing = _drawing(several, ACROSS.get(name, 2))
                written += [folder / f"{name}.svg", folder / f"{name}.png"]
                drawing.savefig(written[-2], metadata={"Date": None})
                drawing.savefig(written[-1], dpi=110)
    return written


def _drawing(figures: list[dict], across: int):
    from matplotlib.figure import Figure

    across = min(len(figures), across)
    rows = [figures[i : i + across] for i in range(0, len(figures), across)]
    heights = [max(figure["height"] for figure in row) / INCH for row in rows]
    drawing = Figure(figsize=(WIDTH * (1.3 if across > 1 else 1), sum(heights)), layout="constrained")
    holders = drawing.subfigures(len(rows), 1, squeeze=False, height_ratios=heights).ravel()
    for holder, row in zip(holders, rows, strict=True):
        _draw_row(holder, row, across, alone=len(figures) == 1)
    return drawing


def _draw_row(holder, figures: list[dict], across: int, alone: bool) -> None:
    frames = holder.subplots(1, across, squeeze=False).ravel()
    for frame, figure in zip(frames, figures, strict=False):
        _draw(frame, figure, LETTERS[across])
        _legend(holder if alone else frame, figure.get("legend", []), alone)
    for frame in frames[len(figures) :]:
        frame.set_visible(False)


def _legend(holder, entries: list, alone: bool) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour(name), label=plain(words)) for words, name in entries]
    if handles:
        where: Any = {"loc": "outside lower left", "ncols": 2} if alone else {"loc": "best"}
        holder.legend(handles=handles, frameon=False, fontsize=8, labelcolor=SOFT, **where)


def _draw(frame, figure: dict, letters: int) -> None:
    _furnish(frame, figure["layout"], figure.get("note", ""), letters)
    left: dict[int, float] = {}
    for trace in figure["data"]:
        {"bar": _bars, "scatter": _scatter, "heatmap": _heat}[trace["type"]](frame, trace, left)


def _furnish(frame, layout: dict, note: str, letters: int) -> None:
    for axis, its in (("x", layout.get("xaxis", {})), ("y", layout.get("yaxis", {}))):
        if "tickvals" in its:
            words = [plain(str(word)) for word in its.get("ticktext", its["tickvals"])]
            getattr(frame, f"set_{axis}ticks")(its["tickvals"], words, parse_math=False)
        if "range" in its:
            getattr(frame, f"set_{axis}lim")(*its["range"])
        getattr(frame, f"set_{axis}label")(plain(its.get("title", {}).get("text", "")), color=SOFT, parse_math=False)
    if layout.get("yaxis", {}).get("autorange") == "reversed":
        frame.invert_yaxis()
    above = plain(layout.get("title", {}).get("text", "")), note
    title = [line for words in above for line in textwrap.wrap(words, letters)]
    frame.set_title("\n".join(title), loc="left", fontsize=9, color=INK, parse_math=False)
    frame.grid(color=BAND, lw=1)
    frame.set_axisbelow(True)
    frame.tick_params(colors=SOFT, length=0)
    frame.spines[:].set_visible(False)


def _bars(frame, trace: dict, left: dict[int, float]) -> None:
    widths, colours = [x or 0.0 for x in trace["x"]], trace["marker"]["color"]
    shades = [colour(_at(colours, i)) for i in range(len(widths))]
    frame.barh(trace["y"], widths, 0.55, [left.get(y, 0.0) for y in trace["y"]], color=shades)
    left |= {y: left.get(y, 0.0) + width for y, width in zip(trace["y"], widths, strict=True)}
    for y, width, low, high in zip(trace["y"], widths, *_spread(trace.get("error_x")), strict=False):
        frame.hlines(y, width - low, width + high, color=colour(trace["error_x"]["color"]), lw=0.9, zorder=3)


def _scatter(frame, trace: dict, _left: dict[int, float]) -> None:
    places = [(x, y) for x, y in zip(trace["x"], trace["y"], strict=True) if x is not None and y is not None]
    line, marker = trace.get("line", {}), trace.get("marker")
    if "lines" in trace["mode"] and places:
        frame.plot(*zip(*places, strict=True), color=colour(line["color"]), lw=line.get("width", 1),
                   ls=DASHES[line.get("dash")])  # fmt: skip
    for key, lines in (("error_x", frame.hlines), ("error_y", frame.vlines)):
        for (x, y), low, high in zip(places, *_spread(trace.get(key)), strict=False):
            at, along = (y, x) if key == "error_x" else (x, y)
            lines(at, along - low, along + high, color=colour(trace[key]["color"]), lw=0.9)
    if marker and places:
        _marks(frame, trace, marker)
    if "text" in trace["mode"]:
        _say(frame, trace, trace["textfont"])


def _say(frame, trace: dict, font: dict) -> None:
    across = "left" if trace["textposition"] == "middle right" else "center"
    for i, words in enumerate(trace["text"]):
        frame.text(trace["x"][i], trace["y"][i], plain(words), ha=across, va="center", fontsize=0.75 * font["size"],
                   color=colour(_at(font["color"], i)), parse_math=False, zorder=4)  # fmt: skip


def _spread(bars: dict | None) -> tuple[list, list]:
    return (bars["arrayminus"], bars["array"]) if bars else ([], [])


def _marks(frame, trace: dict, marker: dict) -> None:
    colours, edge = marker.get("color"), marker.get("line", {})
    for i, (x, y) in enumerate(zip(trace["x"], trace["y"], strict=True)):
        if x is not None and y is not None:
            fill = _fill(marker, _at(colours, i))
            shape = MARKS.get(_at(marker["symbol"], i), "o")
            around: str = INK if shape == "|" else colour(_at(edge["color"], i)) if "color" in edge else fill
            frame.plot([x], [y], shape, ms=_at(marker["size"], i) * 0.7, mfc=fill, mec=around, zorder=3)
    if marker.get("showscale"):
        _bar_of_shades(frame, marker)


def _fill(marker: dict, value) -> Any:
    if not isinstance(value, int | float):
        return colour(value) if value else INK
    span = marker["cmax"] - marker["cmin"]
    return _shades(marker)(0.5 if span == 0 else (value - marker["cmin"]) / span)


def _shades(marker: dict):
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [colour(name) for _, name in marker["colorscale"]])


def _bar_of_shades(frame, marker: dict) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shades = ScalarMappable(Normalize(marker["cmin"], marker["cmax"]), _shades(marker))
    bar = frame.figure.colorbar(shades, ax=frame, aspect=30)
    bar.set_ticks(marker["colorbar"]["tickvals"], labels=marker["colorbar"]["ticktext"])
    bar.ax.tick_params(colors=SOFT, length=0)
    bar.outline.set_visible(False)


def _heat(frame, trace: dict, _left: dict[int, float]) -> None:
    cells = [[float("nan") if z is None else z for z in row] for row in trace["z"]]
    frame.imshow(cells, cmap=_shades(trace), vmin=trace["zmin"], vmax=trace["zmax"], aspect="auto")
    for y, row in enumerate(trace["z"]):
        for x, z in enumerate(row):
            frame.text(x, y, "" if z is None else f"{z:.0f}", ha="center", va="center", fontsize=9, color=INK)
    frame.grid(visible=False)
    frame.tick_params(axis="x", labelrotation=30)
    for word in frame.get_xticklabels():
        word.set(ha="right", rotation_mode="anchor")


def _at(value, i: int):
    return value[i] if isinstance(value, list) else value


def colour(name: str) -> str:
    """A colour, or the one that a CSS variable stands for on the light page."""
    if not name.startswith("--"):
        return name
    light = CSS.read_text(encoding="utf-8").split("@media")[0]
    found = re.search(rf"{name}: (#[0-9a-f]+)", light)
    return found[1] if found else FAINT


def plain(text: str) -> str:
    """Words without the markup that plotly reads."""
    text = re.sub(r"</?(b|span)\b[^>]*>", "", text)
    for markup, word in PARTS.items():
        text = text.replace(markup, word)
    return text
