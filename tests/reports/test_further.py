"""Sections from further records: threads and batch, layers, methods and tasks; and what is said where they are not."""

import csv
import json
import math

import pytest

from truffle.reports import measured
from truffle.reports.__main__ import main
from truffle.reports.absent import absent
from truffle.reports.figures import figures, group
from truffle.reports.layers import layer_times, parts_of
from truffle.reports.measured import Measured
from truffle.reports.method_label import method_label
from truffle.reports.methods import panels
from truffle.reports.pictures import _drawing
from truffle.reports.record import RecordError, parse
from truffle.reports.render import html, markdown, render
from truffle.reports.rivals import rivals
from truffle.reports.scaling import scaling
from truffle.reports.tasks import task_tables
from truffle.reports.timed_step import Step


@pytest.fixture
def beside(further, file_of) -> Measured:
    return measured.load([file_of(further)])


def test_every_section_has_a_figure(record, beside):
    drawn = figures(parse(record), beside)
    assert {group(name) for name in drawn} == {"pareto", "steps", "layers", "rivals", "map", "scaling", "methods"}
    assert all(trace["x"] for one in drawn.values() for trace in one["data"])
    assert "NaN" not in json.dumps(drawn)


def test_threads_and_batch_lie_below_their_roofs(beside):
    threads, batch = scaling(beside)
    assert [one["layout"]["title"]["text"] for one in (threads, batch)] == ["Threads", "Batch"]
    for one, counts in ((threads, [1, 2, 4, 16]), (batch, [1, 2, 4])):
        points, rest, memory = one["data"]
        assert points["x"] == [math.log2(count) for count in counts]
        assert all(p < m < r for p, m, r in zip(points["y"], memory["y"], rest["y"], strict=True))


def test_roofs_are_what_they_say(beside):
    points, rest, memory = scaling(beside)[0]["data"]
    elsewhere_us, layer_us, rows_us = 400.0, 150.0, 100.0  # 4 MB at 40 GB/s
    assert 10 ** rest["y"][0] == pytest.approx(1e6 / (elsewhere_us + 30 * layer_us))
    assert 10 ** memory["y"][0] == pytest.approx(1e6 / (elsewhere_us + 30 * (layer_us + rows_us)))
    assert 10 ** points["y"][0] == pytest.approx(1e6 / (elsewhere_us + 30 * (layer_us + 4000)))


def test_lanes_that_take_turns_have_no_roof(further, file_of):
    for row in further["records"]:
        row |= {"micro_batches": 2} if row["op"] == "scaling" else {}
    further["records"] = [row for row in further["records"] if row["op"] == "scaling"]
    loaded = measured.load([file_of(further)])
    assert [len(one["data"]) for one in scaling(loaded)] == [1, 1]
    assert layer_times(loaded) is None


def test_one_count_is_no_sweep(further, file_of):
    further["records"] = further["records"][:1]
    assert scaling(measured.load([file_of(further)])) == []


def test_a_layer_is_the_sum_of_its_parts(beside):
    for step in beside.of(Step, "decode", "scaling"):
        parts = parts_of(step)
        assert parts is not None
        assert sum(parts.values()) == pytest.approx(step.layer_us)
        assert (parts["weights"], parts["device"], parts["arrival"]) == (100.0, 30.0, 15.0)
        assert parts["else"] == pytest.approx(5.0)
    assert len(layer_times(beside)["data"][0]["x"]) == 1, (
        "a timed step stands for itself, a sweep is left to its figure"
    )


def test_rivals_stand_by_time_and_who_did_not_run_is_said(beside):
    (drawn,) = rivals(beside)
    names = ["truffle int8, 16 layers exact", "MagicPIG v0.2 kernels", "exact, the rest over the link"]
    assert drawn["layout"]["yaxis"]["ticktext"] == names
    bars, words = drawn["data"]
    assert bars["x"] == [15, 40, 90]
    assert [words.strip() for words in words["text"]] == ["15.0", "40.0", "90.0"]
    assert drawn["note"].endswith("exact, all on the card did not run: needs more <b>room.")
    assert len({colour for _, colour in drawn["legend"]}) == 3


def test_rivals_have_their_intervals(further, file_of, tmp_path):
    for row in further["records"]:
        row |= {"median_us_low": 14e3, "median_us_high": 17e3} if row.get("median_us") == 1.5e4 else {}
    (drawn,) = rivals(measured.load([file_of(further)]))
    bars, words = drawn["data"]
    assert (bars["error_x"]["arrayminus"], bars["error_x"]["array"]) == ([1, 0, 0], [2, 0, 0])
    assert words["x"] == [17, 40, 90]
    (frame,) = _drawing([drawn], 1).axes
    assert [[14, 0], [17, 0]] in [line.tolist() for lines in frame.collections for line in lines.get_segments()]
    assert [text.get_text().strip() for text in frame.texts] == ["15.0", "40.0", "90.0"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"schema_version": 1, "rates": {}}, "a profile of a host"),
        ({"errors": {}, "steps": [], "quantile": 0.9}, "a backtest"),
        ({"schema_version": 1, "trials": []}, "a study"),
    ],
)
def test_other_files_of_ours_are_left_out_and_named(
    record, further, folder_of, file_of, tmp_path, capsys, content, kind
):
    (tmp_path / "other.json").write_text(json.dumps(content), encoding="utf-8")
    records = [str(tmp_path / "other.json"), str(file_of(further))]
    assert main(["render", str(folder_of(record)), "--records", *records]) == 0
    said = capsys.readouterr()
    assert "rivals.png" in said.out
    assert f"other.json is {kind} and has no records: left out" in said.err


def test_draw_needs_no_study(further, file_of, tmp_path, capsys):
    assert main(["draw", str(file_of(further)), "--out", str(tmp_path / "out")]) == 0
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names == {"layers", "rivals", "scaling", "methods", "tasks"}
    further["records"] = further["records"][:1]
    further["records"][0]["op"] = "other"
    assert main(["draw", str(file_of(further)), "--out", str(tmp_path / "out")]) == 2
    assert "expected records of rivals" in capsys.readouterr().err


def test_methods_stand_at_the_density_they_were_asked_for_or_come_near(record, beside):
    (panel,) = panels(parse(record), beside)
    assert panel.density == 0.02
    assert [row.method for row in panel.scored] == ["oracle_topk", "lsh", "quest"]


def test_methods_of_far_densities_are_not_compared(record, further, file_of):
    for row in further["records"]:
        row |= {"density": 0.2} if row["op"] == "accuracy_text_summary" and row["method"] == "lsh" else {}
    (panel,) = panels(parse(record), measured.load([file_of(further)]))
    assert [row.method for row in panel.scored] == ["oracle_topk", "quest"]


def test_a_study_of_several_methods_needs_no_records(record):
    default = record["trials"][2]
    record["trials"].append(
        default | {"number": 99, "origin": "method", "label": "quest", "method": "quest", "kl": 0.2}
    )
    record["answer"]["trial"] = 2
    (panel,) = panels(parse(record), Measured())
    assert panel.density == default["density"]
    assert {row.method for row in panel.scored} == {"lsh", "quest"}


def test_tasks_put_exact_decoding_first_and_the_rest_by_score(record, beside):
    (table,) = task_tables(parse(record), beside)
    assert table.tasks == ("niah_single_1", "vt")
    assert [line.label for line in table.lines] == ["dense", "lsh (10, 150)", "quest"]
    assert table.lines[1].difference == "-30.0 (-32.0 to -28.0)"
    assert table.lines[0].difference == ""


def test_scores_that_the_study_asked_for_are_a_table(record):
    record["trials"][2]["scores"], record["trials"][3]["scores"] = '{"vt": 20.0}', '{"vt": 60.0, "cwe": 10.0}'
    (table,) = task_tables(parse(record), Measured())
    assert table.tasks == ("vt", "cwe")
    assert [line.scores for line in table.lines] == [(60.0, 10.0), (20.0, None)]
    assert "Accuracy by task" in markdown(parse(record))
    record["trials"][2]["scores"] = '{"vt": "high"}'
    with pytest.raises(RecordError, match="must be a number or null, got 'high'"):
        html(parse(record))


def test_pages_show_them(record, beside):
    study = parse(record)
    page, text = html(study, None, beside), markdown(study, beside)
    for heading in ("Threads and batch", "Methods at equal density", "Accuracy by task", "What did not run"):
        assert f"<h2>{heading}</h2>" in page
    assert "Not in this report" not in page
    assert "| lsh (10, 150) | 5.00\u00a0% | 60 | 60 | -30.0 (-32.0 to -28.0) |" in text
    assert "further.json: made up, 16 CPUs, made up too; python -m truffle.bench scaling" in text


def test_what_is_missing_is_said_with_its_command(record, fruitless):
    study = parse(record)
    page = html(study)
    missing = absent(study, {"pareto", "map", "steps"})
    names = ["Methods at equal density", "Beside exact decoding", "Threads and batch", "Accuracy by task"]
    assert [what for what, *_ in missing] == names
    for what, _, _, command in missing:
        assert f"<dt>{what}</dt>" in page
        assert "python -m truffle.reports render DIR --records FILE.json" in command
    assert "--workload llama-3.1-8b@96k" in missing[2][3]
    assert len(absent(parse(fruitless), set())) == 6


def test_what_needs_a_card_is_said_where_there_is_none(record):
    for present, words in ((True, ""), (False, ", on a machine with the card")):
        record["gpu"]["present"] = present
        where = {what: where for what, _, where, _ in absent(parse(record), set())}
        assert {what for what, told in where.items() if told == words} >= {"Beside exact decoding", "Threads and batch"}
        assert where["Accuracy by task"] == ""
    assert "To get it, on a machine with the card:<pre>python -m truffle.bench rivals" in html(parse(record))


def test_why_methods_do_not_stand_side_by_side(record):
    def why() -> str:
        return next(why for what, why, *_ in absent(parse(record), set()) if what == "Methods at equal density")

    assert why() == "the search tried one method"
    record["trials"].append(record["trials"][2] | {"number": 99, "method": "scan", "density": 0.5})
    assert why() == "no two methods have trials near the density of what is advised"


def test_render_writes_tables_and_pictures_of_records(record, further, folder_of, file_of):
    import pyarrow.parquet

    folder = folder_of(record)
    names = {path.name for path in render(folder, [file_of(further)])}
    assert {"records.csv", "records.parquet", "scaling.png", "methods.svg", "tasks.png", "layers.png"} <= names
    with (folder / "records.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = pyarrow.parquet.read_table(folder / "records.parquet").to_pylist()
    assert len(rows) == len(columns) == len(further["records"])
    assert {row["file"] for row in rows} == {"further.json"}
    assert columns[-1]["score"] == 50.0
    assert columns[0]["score"] is None


def test_parquet_holds_every_trial(record, folder_of):
    import pyarrow.parquet

    folder = folder_of(record)
    render(folder)
    trials = pyarrow.parquet.read_table(folder / "trials.parquet").to_pylist()
    assert [(t["number"], t["kl"], t["label"]) for t in trials] == [
        (t["number"], t["kl"], t["label"]) for t in record["trials"]
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "further.json is not JSON"),
        ({"records": 3}, "records must be a list of objects, got 3"),
        ({"something": "else"}, "records must be a list of objects, got None"),
        ({"records": [{"op": "scaling", "method": 3}]}, r"further.json: records\[0\].method must be text, got 3"),
        (
            {"records": [{"op": "accuracy_task_summary", "method": "lsh", "task": "vt", "parameters": "["}]},
            "parameters of lsh must be a JSON object",
        ),
    ],
)
def test_broken_records_are_named(record, folder_of, file_of, content, message):
    folder = folder_of(record)
    with pytest.raises(RecordError, match=message):
        render(folder, [file_of(content)])
    assert {p.name for p in folder.iterdir()} == {"study.json", "further.json"}


def test_command_line_takes_records(record, further, folder_of, file_of, capsys):
    assert main(["render", str(folder_of(record)), "--records", str(file_of(further))]) == 0
    assert "scaling.svg" in capsys.readouterr().out
    assert main(["render", str(folder_of(record)), "--records", "nowhere.json"]) == 2
    assert "nowhere.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "parameters", "label"),
    [
        ("quest", None, "quest"),
        ("lsh", {"K": 8, "L": 96, "min_hits": 3, "family": "cross_polytope"}, "lsh (8, 96) min_hits 3 cross_polytope"),
        ("lsh", {"K": 12, "L": 60, "probing": {"kind": "ball", "amount": 1}}, "lsh (12, 60) ball 1"),
        ("lsh", {"K": 9, "L": 101, "centred": False}, "lsh (9, 101) not centred"),
        ("scan", {"bits": 1}, "scan 1 bit"),
        ("scan", {"bits": 4, "budget": 0.01}, "scan 4 bits 1.00\u00a0%"),
    ],
)
def test_labels(method, parameters, label):
    assert method_label(method, parameters and json.dumps(parameters)) == label
