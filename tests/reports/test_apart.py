"""What stands side by side can be told apart: by its layers, its file, its machine and the density it attends."""

import copy
import json

import pytest

from truffle.reports import measured
from truffle.reports.apart import told_apart
from truffle.reports.layers import MOST, layer_times
from truffle.reports.measured import Measured
from truffle.reports.method_label import method_label
from truffle.reports.methods import methods, panels
from truffle.reports.record import Study, parse
from truffle.reports.rivals import rivals
from truffle.reports.scaling import scaling
from truffle.reports.tasks import task_tables

NOTHING = Study(())


@pytest.fixture
def files(further, tmp_path):
    """Loads the made-up measurements as a.json and b.json, the second of another machine, each changed as is told."""

    def write(change_a=lambda file: None, change_b=lambda file: None) -> Measured:
        for name, change in (("a", change_a), ("b", change_b)):
            content = copy.deepcopy(further)
            content["environment"]["cpu"]["model"] = f"machine {name}"
            change(content)
            (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return measured.load([tmp_path / "a.json", tmp_path / "b.json"])

    return write


def only(op: str):
    """A change that keeps the records of one operation."""
    return lambda file: file.update(records=[row for row in file["records"] if row["op"] == op])


def test_a_file_is_named_only_where_another_has_the_same():
    assert told_apart(["x", "y", "x"], ["a", "a", "b"]) == ["x, a", "y", "x, b"]
    assert told_apart(["x", "x"], ["a", "a"]) == ["x", "x"]


@pytest.mark.parametrize(
    ("dense", "words"),
    [
        ([0, 16], "quest"),
        ([], "quest, no exact layer"),
        ([5], "quest, exact layer 5"),
        ([0, 7, 17], "quest, exact layers 0, 7, 17"),
        (list(range(16)), "quest, 16 exact layers"),
    ],
)
def test_layers_that_attend_everything_are_named_where_they_are_not_the_usual(dense, words):
    assert method_label("quest", json.dumps({"dense_layers": dense})) == words


def test_tables_and_figures_of_two_files_name_them(files):
    both = files()
    titles = [table.title for table in task_tables(NOTHING, both)]
    assert [title.rsplit(", ", 1)[1] for title in titles] == ["a.json", "b.json"]
    assert [one["layout"]["title"]["text"] for one in rivals(both)] == ["Batch 1, a.json", "Batch 1, b.json"]
    assert [words.count(".json") for words in layer_times(both)["layout"]["yaxis"]["ticktext"]] == [1, 1]
    (panel,) = methods(NOTHING, both)
    assert (
        sorted(words.split("<br>")[0] for words in panel["layout"]["yaxis"]["ticktext"])[0] == "lsh (10, 150), a.json"
    )


def test_figures_say_which_machine_measured_them(files):
    both = files()
    for one in (layer_times(both), *scaling(both), *methods(NOTHING, both)):
        assert "machine a, 16 CPUs, made up too; machine b, 16 CPUs, made up too" in one["note"]
    assert ["machine a" in one["note"] for one in rivals(both)] == [True, False]
    assert [table.machine for table in task_tables(NOTHING, both)] == [
        f"machine {n}, 16 CPUs, made up too" for n in "ab"
    ]


def test_the_memory_roof_takes_rates_of_its_own_machine(files):
    def faster(file):
        only("retrieve+sparse_attend")(file)
        file["records"][0]["peak_bytes_per_s"] = 4000e9

    own = [one["data"][2]["y"] for one in scaling(files(change_b=only("retrieve+sparse_attend")))]
    assert [one["data"][2]["y"] for one in scaling(files(change_b=faster))] == own


def test_layers_that_find_no_room_are_counted_and_backtests_come_last(files):
    def many(file):
        only("decode")(file)
        file["records"] = [file["records"][0] | {"threads": 1 + i} for i in range(MOST)]
        file["command"] = "python -m autotune backtest --measure grid.json"

    drawn = layer_times(files(many, only("decode")))
    assert "1 more timed step left out" in drawn["note"]
    assert len(drawn["data"][0]["x"]) == MOST
    assert "16 threads" in drawn["layout"]["yaxis"]["ticktext"][0]
    assert "left out" not in layer_times(files(only("decode"), only("decode")))["note"]


def test_methods_stand_at_the_density_that_they_attend(further, file_of):
    one = next(
        row for row in further["records"] if row.get("method") == "quest" and row["op"] == "accuracy_text_summary"
    )
    asked = {"lsh": (0.01, 0.0177), "quest": (0.01, 0.008), "scan": (0.02, 0.018), "vattention": (0.01, 0.0099)}
    asked |= {"uniform": (0.02, 0.02), "priority": (0.013, 0.013)}
    further["records"] = [
        one | {"method": name, "parameters": None, "asked_density": a, "density": d} for name, (a, d) in asked.items()
    ]
    found = panels(NOTHING, measured.load([file_of(further)]))
    by_density = {panel.density: {row.method for row in panel.scored} for panel in found}
    assert by_density == {0.01: {"quest", "vattention", "priority"}, 0.02: {"lsh", "scan", "uniform"}}


def test_a_panel_says_its_context(record, further, file_of):
    (one,) = methods(parse(record), measured.load([file_of(further)]))
    assert one["layout"]["title"]["text"] == "Density about 2.00\u00a0%, 4,096 tokens"
