"""The Pareto front as SVG and PNG, for Markdown and for places that run no script."""

from pathlib import Path

from .front import pareto_front
from .kl_axis import KlAxis
from .labels import label_sides, short_name
from .numbers import figure
from .plots import highest
from .record import Study, Trial

INK, SOFT, FAINT, BAND, ACCENT = "#25221e", "#6f6a62", "#c9c4bb", "#f3f0ea", "#a8501c"
MARKS = {"default": "D", "paper": "s", "exact": "^"}
SIDES = {
    "top left": ((-5, 5), "right", "bottom"),
    "top right": ((5, 5), "left", "bottom"),
    "bottom left": ((-5, -5), "right", "top"),
    "bottom right": ((5, -5), "left", "top"),
}


def write_pareto(study: Study, folder: Path) -> list[Path]:
    """Writes pareto.svg and pareto.png into `folder`; an empty study gives an empty, labelled frame."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "truffle", "font.size": 10, "svg.fonttype": "none"}):
        drawing = _draw(study)
        paths = [folder / "pareto.svg", folder / "pareto.png"]
        drawing.savefig(paths[0], metadata={"Date": None})
        drawing.savefig(paths[1], dpi=160)
    return paths


def _draw(study: Study):
    from matplotlib.figure import Figure

    points, limit = [t for t in study.trials if t.plotted], study.limit.get("max_kl")
    axis = KlAxis([t.kl for t in points] + ([limit] if limit else []))
    front = pareto_front(points)
    ahead = {t.number for t in front}
    drawing = Figure(figsize=(8.4, 4.6), layout="constrained")
    frame = drawing.add_subplot()
    _furnish(frame, axis, study, limit)
    for trial in points:
        colour = ACCENT if trial.number in ahead else SOFT if trial.feasible else FAINT
        _mark(frame, axis, trial, colour, 9.5 if trial is study.chosen else 6.5)
    frame.plot([axis.at(t.kl) for t in front], [t.tokens_per_s for t in front], color=ACCENT, lw=1.3,
               drawstyle="steps-post", zorder=2)  # fmt: skip
    sides = label_sides(study, axis, highest(points))
    for trial in (t for t in points if t.number in sides):
        _say(frame, short_name(study, trial), (axis.at(trial.kl), trial.tokens_per_s), *SIDES[sides[trial.number]])
    frame.set_ylim(0, highest(points))
    if not points:
        frame.text(0.5, 0.5, "no trial completed", transform=frame.transAxes, ha="center", color=SOFT)
    return drawing


def _say(frame, words: str, at: tuple, offset: tuple, across: str, along: str, **frame_of) -> None:
    from matplotlib.patheffects import withStroke

    # A label is text: a dollar sign in it starts no formula.
    frame.annotate(words, at, offset, textcoords="offset points", ha=across, va=along, fontsize=9, color=INK,
                   parse_math=False, zorder=4, path_effects=[withStroke(linewidth=2.5, foreground="white")],
                   **frame_of)  # fmt: skip


def _mark(frame, axis: KlAxis, trial: Trial, colour: str, dot: float) -> None:
    x, y = axis.at(trial.kl), trial.tokens_per_s
    left, right = axis.spread(trial.kl, trial.kl_low, trial.kl_high)
    low, high = trial.tokens_per_s_low, trial.tokens_per_s_high
    frame.hlines(y, x - left, x + right, color=colour, lw=0.9, zorder=2)
    if low is not None and high is not None:
        frame.vlines(x, low, high, color=colour, lw=0.9, zorder=2)
    filled = trial.throughput_kind == "measured"
    frame.plot([x], [y], MARKS.get("exact" if trial.exact else trial.origin or "", "o"), color=colour, ms=dot,
               mfc=colour if filled else "white", mew=1.4, zorder=3)  # fmt: skip


def _furnish(frame, axis: KlAxis, study: Study, limit: float | None) -> None:
    positions, words = axis.ticks()
    frame.set_xlim(axis.start, axis.high)
    frame.set_xticks(positions, words)
    frame.set_xlabel("KL against dense (log scale; dense is 0)", color=SOFT)
    kinds = ", ".join(sorted(study.kinds))
    frame.set_ylabel(f"tokens/s ({kinds})" if kinds else "tokens/s", color=SOFT, parse_math=False)
    if axis.has_zero:
        frame.axvspan(axis.start, axis.low, color=BAND, zorder=0)
    if limit:
        frame.axvline(axis.at(limit), color=INK, lw=0.9, ls=":", zorder=1)
        top = {"xycoords": ("data", "axes fraction")}
        _say(frame, f"KL limit {figure(limit)}", (axis.at(limit), 1), (-4, 3), "right", "bottom", **top)
    frame.grid(axis="y", color=BAND, lw=1)
    frame.tick_params(colors=SOFT, length=0)
    for side in frame.spines.values():
        side.set_visible(False)
