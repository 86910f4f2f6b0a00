"""The figure of KL against rows: which lines and points made-up records give, words that do not collide, refusals."""

import json

import matplotlib
import numpy as np
import pytest

from truffle.reports.__main__ import main
from truffle.reports.error_figure import caption, draw
from truffle.reports.errors import load
from truffle.reports.free_places import GAP, Words, free_places
from truffle.reports.record import RecordError


def summary(name="scan 4 bits, group", density: float | None = 0.02, kl=0.01, **other) -> dict:
    """A record with made-up figures."""
    return {
        "op": "accuracy_text_summary", "text": "all", "name": name, "method": name.split()[0], "parameters": "{}",
        "model": "smollm2", "context": 4096, "steps": 64, "samples": 6, "asked_density": density,
        "kl": kl, "kl_low": 0.8 * kl, "kl_high": 1.3 * kl, "rows": (density or 0.03) + 0.01, **other,
    }  # fmt: skip


KINDS = [summary(text=text, kl=9.0, samples=3) for text in ("code", "essays")]
RECORDS = [
    *KINDS, summary(density=0.05, kl=0.002), summary(), summary("quest", kl=0.03), summary("quest", 0.05, 0.02),
    summary("oracle_topp", None, 0.004), {"op": "accuracy_text", "kl": "ignored"},
]  # fmt: skip


@pytest.fixture
def file_of(tmp_path):
    """Writes records (or any text) into a file and returns its path."""

    def write(records, name="found.json"):
        content = {"environment": {}, "command": "", "records": records}
        (tmp_path / name).write_text(records if isinstance(records, str) else json.dumps(content), encoding="utf-8")
        return tmp_path / name

    return write


def drawn(*paths) -> list[dict]:
    """Each panel's lines by name, as rows and KL of their points."""
    figure = draw(*load(paths))
    return [{line.get_label(): line.get_xydata().tolist() for line in frame.lines} for frame in figure.axes]


def test_a_line_a_method_through_its_points_by_rows_over_all_texts(file_of):
    (panel,) = drawn(file_of(RECORDS))
    assert list(panel) == ["scan 4 bits, group", "quest", "oracle_topp"]
    assert panel["scan 4 bits, group"] == [[0.03, 0.01], [pytest.approx(0.06), 0.002]]
    assert panel["oracle_topp"] == [[0.04, 0.004]]


def test_every_line_has_its_name_beside_it_and_every_point_its_interval(file_of):
    (frame,) = draw(*load([file_of(RECORDS)])).axes
    assert [text.get_text() for text in frame.texts] == ["scan 4 bits, group", "quest", "oracle_topp"]
    ends = [end for bar in frame.collections for end in bar.get_segments()[0][:, 1]]
    assert ends == pytest.approx([end * kl for kl in (0.01, 0.002, 0.03, 0.02, 0.004) for end in (0.8, 1.3)])
    assert [line.get_linestyle() for line in frame.lines] == ["-", "-", "--"], "an oracle is a bound"


def test_a_single_text_stands_for_itself(file_of):
    model, panels = load([file_of([summary(text="code", samples=1)])])
    assert "after 4,096 in each of 1 text (code)" in caption(model, panels)
    model, panels = load([file_of(RECORDS)])
    assert "smollm2: 64 tokens decoded after 4,096 in each of 6 texts (code, essays)" in caption(model, panels)


def test_a_panel_a_context_and_densities_of_several_files_in_one_line(file_of):
    longer = file_of([summary(context=8192)], "longer.json")
    more = file_of([*KINDS, summary(density=0.01)], "more.json")
    short, long = drawn(longer, file_of(RECORDS), more)
    assert len(short["scan 4 bits, group"]) == 3
    assert list(long) == ["scan 4 bits, group"]
    assert [frame.get_title("left") for frame in draw(*load([longer, more])).axes] == [
        "4,096 tokens of context", "8,192 tokens of context",
    ]  # fmt: skip


def test_points_without_a_place_on_log_axes_are_counted(file_of):
    exact = [summary("oracle_topk", 1.0, -1e-17), summary("uniform", rows=None)]
    path = file_of([*RECORDS, *exact])
    assert sum(map(len, drawn(path)[0].values())) == 5
    assert "Not drawn: 2 whose KL or rows" in caption(*load([path]))
    assert "Not drawn" not in caption(*load([file_of(RECORDS)]))


def test_an_interval_down_to_0_does_not_stretch_the_axis(file_of):
    (frame,) = draw(*load([file_of([summary(kl_low=0.0), summary(density=0.05, kl=0.005, kl_low=1e-12)])])).axes
    low, high = frame.get_ylim()
    assert 0.001 < low < 0.005
    assert 0.013 < high < 0.1


def test_names_of_a_dozen_lines_keep_apart(file_of):
    heights = np.geomspace(0.002, 0.003, 12)
    records = [summary(f"scan {i} bits", d, kl / d / 50) for i, kl in enumerate(heights) for d in (0.02, 0.03)]
    figure = draw(*load([file_of(records)]))
    (frame,) = figure.axes
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in frame.texts]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    edges = frame.get_window_extent()
    assert all(edges.x0 <= b.x0 and b.x1 <= edges.x1 and edges.y0 <= b.y0 and b.y1 <= edges.y1 for b in boxes)


def test_places_are_free_of_what_is_taken():
    words = [Words(np.array([[50.0, 50.0]]), 20, 8)] * 3
    wall = (51.0, 100.0, 0.0, 100.0)
    places = free_places(words, np.array([[50.0, 50.0]]), np.array([[50.0, 50.0]]), (0, 100, 0, 100), [wall])
    assert all(place.x + 10 + GAP <= wall[0] for place in places)
    assert len({(place.x, place.y) for place in places}) == 3


def test_command_line_writes_what_a_label_says_as_text(file_of, tmp_path, capsys):
    name = tmp_path / "errors_0.05"
    odd = "lsh <script> $\\frac{ \x1b[31m"
    assert main(["errors", str(file_of([summary(odd)])), "--out", str(name)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}.svg", f"{name}.png"]
    svg = (tmp_path / "errors_0.05.svg").read_text(encoding="utf-8")
    assert "lsh &lt;script&gt; $\\frac{" in svg
    assert "<script" not in svg
    assert "<image" not in svg
    assert (tmp_path / "errors_0.05.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "records must be a list of objects, got None"),
        ([{"op": "accuracy"}], "expected records of accuracy_text_summary.*got none"),
        ([summary() | {"kl": "low"}], r"records\[0\].kl must be a number or null, got 'low'"),
        ([{k: v for k, v in summary().items() if k != "name"}], r"records\[0\].name must be text, got None"),
        ([summary(parameters="[")], r"parameters of scan 4 bits, group must be a JSON object, got '\['"),
        ([summary(model="a"), summary(model="b")], "expected records of one model, got a, b"),
        ([summary(), summary()], "at 4096 tokens: scan 4 bits, group at 2.00\u00a0% is there 2 times"),
        (KINDS, "expected records over all texts beside those of code, essays, got none"),
        ([summary(), summary("quest", samples=2)], "expected records of the same texts, got 64 steps on 6 of all and"),
        ([summary(kl=0.0)], "expected a point whose KL and rows are above 0, got none"),
    ],
)
def test_other_records_are_refused(file_of, tmp_path, records, message, capsys):
    path = file_of(records)
    with pytest.raises(RecordError, match=message):
        load([path])
    assert main(["errors", str(path), "--out", str(tmp_path / "figure")]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_named(tmp_path, capsys):
    assert main(["errors", str(tmp_path / "nowhere.json"), "--out", str(tmp_path / "figure")]) == 2
    assert "nowhere.json: No such file" in capsys.readouterr().err
