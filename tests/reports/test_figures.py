"""What the figures and tables are made of: the front, the KL axis, the maps and the words for numbers."""

import json
import math

import pytest
from rich.console import Console

from truffle.reports import numbers
from truffle.reports.front import highlights, pareto_front, roles
from truffle.reports.kl_axis import KlAxis
from truffle.reports.labels import label_sides, short_name
from truffle.reports.maps import k_l_maps
from truffle.reports.plots import pareto
from truffle.reports.record import Study, Trial, parse
from truffle.reports.render import TEMPLATES
from truffle.reports.step_times import step_times
from truffle.reports.tables import trials_table
from truffle.reports.thread_sweep import by_threads

PROBES = ("none", "ball 1", "directed 4")


def trial(number: int, kl: float | None, speed: float | None, feasible=True, **rest) -> Trial:
    return Trial(number, "complete", kl=kl, tokens_per_s=speed, feasible=feasible, **rest)


def test_front_leaves_out_the_dominated_the_infeasible_and_the_unknown():
    trials = [
        trial(0, 0.0, 5.0),
        trial(1, 0.02, 20.0),
        trial(2, 0.03, 20.0),
        trial(3, 0.02, 12.0),
        trial(4, 0.01, 30.0, feasible=False),
        trial(5, None, 90.0),
        trial(6, 0.05, 21.0),
    ]
    assert [t.number for t in pareto_front(trials)] == [0, 1, 6]


def at(number: int, threads: int, speed: float, origin: str = "threads", K: int = 10, **rest) -> Trial:
    ran = {"parameters": {"K": K}, "execution": {"threads": threads, "batch_size": 2, "pinning": str(number)}}
    rest = {"status": "complete", "threads": threads, "batch_size": 2, "origin": origin} | rest
    return Trial(number, kl=0.01, tokens_per_s=speed, throughput_kind="measured", config=json.dumps(ran), **rest)


def test_the_swept_point_is_drawn_with_every_number_of_threads():
    best = at(1, 16, 70.0, "search", confirmed=True, tokens_per_s_low=60.0, tokens_per_s_high=85.0)
    others = at(0, 4, 99.0, "search", K=11), at(2, 16, 75.0, "search"), at(5, 2, 9.0, status="failed")
    found = by_threads(Study((*others, best, at(3, 1, 30.0), at(4, 8, 60.0))))
    assert found is not None
    points = found["data"][0]
    assert (points["x"], points["y"]) == ([0.0, 3.0, 4.0], [30.0, 60.0, 70.0])
    assert (points["error_y"]["arrayminus"], points["error_y"]["array"]) == ([0.0, 0.0, 10.0], [0.0, 0.0, 15.0])
    assert found["layout"]["xaxis"]["ticktext"] == ["1", "8", "16"]
    assert found["layout"]["yaxis"]["title"]["text"] == "tokens/s (measured)"
    assert by_threads(Study((best, *others))) is None, "nothing was swept"
    assert by_threads(Study((at(3, 1, 30.0), at(0, 2, 30.0, "search", K=11)))) is None, "one number alone"


def test_roles_and_highlights(record):
    study = parse(record)
    assert roles(study)[17] == ["chosen", "front"]
    assert roles(study)[2] == ["default"]
    shown = [t.number for t in highlights(study)]
    assert shown[0] == 17
    assert set(shown) >= {0, 1, 2, 3, 4, 5}


def test_kl_axis_gives_zero_its_own_strip():
    axis = KlAxis([0.0, 0.01, 0.1])
    assert axis.start < axis.at(0.0) < axis.low < axis.at(0.01) < axis.at(0.1) < axis.high
    positions, words = axis.ticks()
    assert words == ["0", "0.01", "0.02", "0.05", "0.1"]
    assert positions == sorted(positions)
    assert not KlAxis([0.01, 0.1]).has_zero


def test_kl_axis_clips_intervals_that_reach_zero():
    axis = KlAxis([0.0, 0.01, 0.1])
    left, right = axis.spread(0.01, 0.0, 0.02)
    assert left == pytest.approx(axis.at(0.01) - axis.low)
    assert right == pytest.approx(math.log10(2))
    assert axis.spread(0.0, 0.0, 0.0) == (0.0, 0.0)
    assert axis.spread(0.01, None, None) == (0.0, 0.0)


@pytest.mark.parametrize("values", [[], [0.0], [0.01], [1e-12, 1e3]])
def test_kl_axis_stands_any_range(values):
    axis = KlAxis(values)
    assert axis.start < axis.high
    assert len(axis.ticks()[0]) < 20


def test_pareto_figure_shows_every_complete_trial_once(record):
    study = parse(record)
    drawn = pareto(study)
    marks = [
        point for trace in drawn["data"] if "marker" in trace for point in zip(trace["x"], trace["y"], strict=True)
    ]
    assert len(marks) == len([t for t in study.trials if t.plotted]) == 18
    assert "NaN" not in json.dumps(drawn)
    words = {word for trace in drawn["data"] for word in trace.get("text", [])}
    assert words == {"", "chosen", "default", "(8, 75)", "(9, 120)", "(11, 300)", "dense, KV on the CPU"}
    assert drawn["layout"]["annotations"][0]["text"] == "KL limit 0.0310"


def test_estimates_are_hollow_and_measurements_filled(record):
    record["trials"][17]["throughput_kind"] = "measured"
    drawn = pareto(parse(record))
    front = next(trace for trace in drawn["data"] if trace.get("name") == "on the front")
    assert front["marker"]["color"].count("--accent") == 1
    assert front["marker"]["color"].count("--ground") == len(front["x"]) - 1
    assert "estimated, measured" in drawn["layout"]["yaxis"]["title"]["text"]


def test_two_labels_do_not_share_a_place():
    study = Study((trial(0, 0.010, 10.0, origin="default"), trial(1, 0.0101, 10.0, origin="paper", label="(9, 120)")))
    sides = label_sides(study, KlAxis([0.005, 0.02]), 20.0)
    assert sides == {0: "top left", 1: "bottom right"}
    assert short_name(study, study.trials[0]) == "default"


def test_step_times_stack_to_the_recorded_parts(record):
    drawn = step_times(parse(record))
    recorded = {t["number"]: t for t in record["trials"]}
    link = next(trace for trace in drawn["data"] if trace["marker"]["color"] == "--part-link")
    assert max(link["x"]) == recorded[0]["ms_link"] / recorded[0]["batch_size"]
    assert drawn["data"][-1]["x"][0] == recorded[17]["step_ms"] / recorded[17]["batch_size"]
    assert len(drawn["layout"]["yaxis"]["ticktext"]) == len(link["x"])


def test_what_a_step_hides_is_said_of_the_whole_step(record):
    record["trials"][17] |= {"ms_hidden": 4.25, "ms_gpu_sample": 2.5}
    drawn = step_times(parse(record))
    said = drawn["data"][-1]["hovertext"]
    assert [("hidden, one part behind another: 4.25 ms" in words) for words in said] == [True] + [False] * (
        len(said) - 1
    )
    assert ("sampled keys on the GPU", "--part-gpu-sample") in drawn["legend"]
    colours = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    assert all(colours.count(f"{colour}:") == 2 for _, colour in drawn["legend"]), "one for light, one for dark"


def test_what_attends_with_retrieval_inside_says_so(record):
    def names() -> list[str]:
        return [words for words, colour in step_times(parse(record))["legend"] if colour == "--part-cpu-attend"]

    assert names() == ["attention on the CPU"]
    record["trials"][17]["attend_with"] = "retrieve_attend"
    assert names() == ["attention on the CPU, of retrieve_attend with retrieval inside"]
    beside = step_times(parse(record))["layout"]["yaxis"]["ticktext"]
    assert [("retrieval inside" in words) for words in beside] == ["trial 17," in words for words in beside]
    for one in record["trials"]:
        one["attend_with"] = "retrieve_attend"
    assert names() == ["attention on the CPU, retrieval inside"]


def test_no_parts_no_bars(fruitless):
    assert step_times(parse(fruitless)) is None
    assert pareto(parse(fruitless)) is None
    assert k_l_maps(parse(fruitless)) == []


def test_maps_take_the_fastest_trial_of_a_cell(record):
    kl, density, speed = k_l_maps(parse(record))
    assert [m["layout"]["title"]["text"] for m in (kl, density, speed)] == ["KL against dense", "Density", "Tokens/s"]
    cells = list(zip(speed["data"][0]["x"], speed["data"][0]["y"], strict=True))
    at = cells.index((math.log10(60), 12))
    assert cells.count(cells[at]) == 1
    assert speed["data"][0]["marker"]["color"][at] == record["trials"][7]["tokens_per_s"]


def test_maps_keep_families_probes_and_hits_apart():
    same = {"K": 8, "L": 100, "density": 0.02}
    one, other, hits = (
        trial(i, 0.01, 5.0, **same, min_hits=hits, family=family)
        for i, (hits, family) in enumerate([(2, "simhash"), (2, "cross_polytope 8"), (3, "simhash")])
    )
    rest = [trial(3 + i, 0.01, 5.0, K=9 + i, L=50, density=0.02, min_hits=2, probing=p) for i, p in enumerate(PROBES)]
    drawn = k_l_maps(Study((one, other, hits, *rest)))[0]["data"][0]
    assert len(set(zip(drawn["x"], drawn["y"], strict=True))) == 6
    assert [round(y) for y in drawn["y"]] == [8, 8, 8, 9, 10, 11]
    assert drawn["marker"]["symbol"] == ["circle", "pentagon", "circle", "circle", "square", "diamond"]
    assert drawn["text"] == ["", "", "3", "", "", ""]


def test_too_few_points_make_no_map():
    cells = [trial(i, 0.01, 5.0, K=10, L=100 + i, density=0.02) for i in range(9)]
    assert k_l_maps(Study(tuple(cells))) == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: numbers.figure(None), "–"),
        (lambda: numbers.figure(0.0), "0"),
        (lambda: numbers.figure(98304), "98,304"),
        (lambda: numbers.figure(12345.6), "12,346"),
        (lambda: numbers.figure(0.031), "0.0310"),
        (lambda: numbers.figure(9.999), "10.0"),
        (lambda: numbers.figure(0.0000123), "1.23e-5"),
        (lambda: numbers.figure(-4.5678), "-4.57"),
        (lambda: numbers.figure(True), "True"),
        (lambda: numbers.percent(0.0213), "2.13\u00a0%"),
        (lambda: numbers.percent(None), "–"),
        (lambda: numbers.times(1.5), "1.50×"),
        (lambda: numbers.size(24e9), "24.0 GB"),
        (lambda: numbers.size(512), "512 B"),
        (lambda: numbers.size(None), "–"),
        (lambda: numbers.duration(512.3), "8 min 32 s"),
        (lambda: numbers.duration(7260), "2 h 1 min"),
        (lambda: numbers.duration(None), "–"),
        (lambda: numbers.interval(0.1, None), ""),
        (lambda: numbers.interval(0.0, 0.0), ""),
        (lambda: numbers.interval(0.011, 0.014), "0.0110 to 0.0140"),
    ],
)
def test_numbers_read_well(call, expected):
    assert call() == expected


def shown(study) -> str:
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        console.print(trials_table(study))
    return captured.get()


def test_terminal_table(record):
    text = shown(record)
    assert text.splitlines()[0].strip() == "Use lsh (12, 45) ball 1"
    assert "lsh (10, 150)" in text
    assert "default" in text
    assert "failed: RuntimeError" in text
    assert "lsh (10, 80)" not in text


def test_terminal_table_reads_no_markup(record):
    record["trials"][2]["label"] = "[red]x[/nope] \x1b[31m"
    text = shown(record)
    assert "[red]x[/nope]" in text
    assert "\x1b[31m" not in text


def test_what_no_part_accounts_for_is_waiting(record):
    trial = record["trials"][17]
    known = sum(value for name, value in trial.items() if name.startswith("ms_") and value)
    trial |= {"step_ms": known + 30.0, "ms_hidden": None, "batch_size": 1}
    *_, waits, whole = step_times(parse(record))["data"]
    assert waits["marker"]["color"] == "--part-waits"
    assert waits["x"][0] == pytest.approx(30)
    assert whole["x"][0] == known + 30.0
    assert "waits and the rest: 30.0 ms a step" in waits["hovertext"][0]
