"""Ways to decode timed in turns in the same memory, from records of bench rivals: bars of milliseconds a step."""

from dataclasses import dataclass

from .apart import told_apart
from .measured import Measured
from .method_label import method_label
from .numbers import figure, interval
from .plots import plain
from .record import Flag, Number, Text

NAMES = {
    "exact: device": "exact, all on the card",
    "exact: device and host": "exact, the rest on the CPU",
    "exact: streamed": "exact, the rest over the link",
    "exact: host": "exact, all on the CPU",
    "magicpig_v02 kernels": "MagicPIG v0.2 kernels",
}
OURS, THEIRS, EXACT = "--accent", "--part-cpu-retrieve", "--part-gpu-attend"


@dataclass(frozen=True)
class Rival:
    """One way to decode; the field names are the record's own, `reason` says why it did not run."""

    contender: str
    batch: int
    file: str
    method: Text = None
    parameters: Text = None
    workload: Text = None
    vram_limit: Text = None
    exact: Flag = None
    reason: Text = None
    dense_layers: Number = None
    median_us: Number = None
    median_us_low: Number = None
    median_us_high: Number = None

    @property
    def name(self) -> str:
        """In words: exact ways by where keys and values are that do not fit, others by whose kernels."""
        filled = f", {self.dense_layers} layers exact" if self.dense_layers and "filled" in self.contender else ""
        return NAMES.get(self.contender, self.contender.removesuffix(", filled")) + filled

    @property
    def colour(self) -> str:
        return EXACT if self.exact else OURS if self.contender.startswith("truffle") else THEIRS


def rivals(measured: Measured) -> list[dict]:
    """A plotly figure a file, workload and batch, the fastest first."""
    groups: dict[tuple, list[Rival]] = {}
    for rival in measured.of(Rival, "rivals"):
        groups.setdefault((rival.file, rival.workload, rival.vram_limit, rival.batch), []).append(rival)
    timed = [own for own in groups.values() if any(rival.median_us for rival in own)]
    files = [own[0].file for own in timed]
    titles = told_apart([f"Batch {figure(own[0].batch)}" for own in timed], files)
    machines = [measured.machine([file]) for file in files]
    return [_figure(*one) for one in zip(timed, titles, machines, strict=True)]


def _figure(rivals: list[Rival], title: str, machine: str) -> dict:
    timed = sorted((r for r in rivals if r.median_us), key=lambda r: r.median_us)
    places, milliseconds = list(range(len(timed))), [r.median_us / 1e3 for r in timed]
    ends = [_ends(r) for r in timed]
    bars = {
        "type": "bar", "orientation": "h", "y": places, "x": milliseconds, "hoverinfo": "text",
        "textposition": "none", "hovertext": [_hover(r) for r in timed],
        "marker": {"color": [r.colour for r in timed], "line": {"width": 0}},
        "error_x": {"type": "data", "symmetric": False, "color": "--ink", "thickness": 1, "width": 0,
                    "arrayminus": [max(0.0, ms - low) for ms, (low, _) in zip(milliseconds, ends, strict=True)],
                    "array": [max(0.0, high - ms) for ms, (_, high) in zip(milliseconds, ends, strict=True)]},
    }  # fmt: skip
    words = {
        "type": "scatter", "mode": "text", "hoverinfo": "skip", "y": places, "x": [high for _, high in ends],
        "text": [f" {figure(value)}" for value in milliseconds], "textposition": "middle right", "cliponaxis": False,
        "textfont": {"color": "--ink", "size": 12},
    }  # fmt: skip
    layout = {
        "title": {"text": plain(title), "x": 0, "xref": "paper", "font": {"size": 14}},
        "xaxis": {"title": {"text": "ms a step, measured"}, "range": [0, 1.15 * max(high for _, high in ends)]},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False, "tickvals": places,
                  "ticktext": [plain(r.name, 34) for r in timed]},
        "bargap": 0.45, "margin": {"t": 36},
    }  # fmt: skip
    shown = {OURS: "sampled, this project’s kernels", THEIRS: "sampled, others’ kernels", EXACT: "exact"}
    legend = [(words, colour) for colour, words in shown.items() if any(r.colour == colour for r in timed)]
    height = 110 + 34 * len(timed)
    return {
        "data": [bars, words],
        "layout": layout,
        "height": height,
        "legend": legend,
        "note": _note(rivals, timed, machine),
    }


def _ends(rival: Rival) -> tuple[float, float]:
    """The interval in milliseconds, the median itself where it has none."""
    low, high = rival.median_us_low, rival.median_us_high
    return (rival.median_us if low is None else low) / 1e3, (rival.median_us if high is None else high) / 1e3


def _note(rivals: list[Rival], timed: list[Rival], machine: str) -> str:
    first = next((r for r in timed if not r.exact), timed[0])
    held = f", card held to {first.vram_limit}" if first.vram_limit else ""
    sampled = "" if first.exact else f", {method_label(first.method or '', first.parameters, layers=False)}"
    around = f" {machine}." if machine else ""
    lost = "".join(f" {r.name} did not run: {r.reason}." for r in rivals if not r.median_us)
    return f"{first.workload or 'workload not recorded'}{held}{sampled}.{around}{lost}"


def _hover(rival: Rival) -> str:
    low, high = rival.median_us_low, rival.median_us_high
    bounds = "" if low is None or high is None else interval(low / 1e3, high / 1e3)
    return f"<b>{plain(rival.name)}</b><br>{figure(rival.median_us / 1e3)} ms {bounds}<br>{plain(rival.file)}"
