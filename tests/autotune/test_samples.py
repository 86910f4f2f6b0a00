"""Raw values are kept as they are taken, and come out as a row each."""

from __future__ import annotations

import csv
import json

from tests.autotune import crashing
from tests.autotune.fakes import record
from truffle.autotune.isolation import IsolatedBench
from truffle.autotune.local_bench import LocalBench
from truffle.autotune.measuring import Measured
from truffle.autotune.samples import SAMPLES, Keeping
from truffle.model.config import DecodeConfig, LshParameters
from truffle.reports.render import render

CONFIG = DecodeConfig(parameters=LshParameters(L=75))


class Fixed:
    def __init__(self, samples):
        self._samples = samples

    def measure(self, config, fidelity, repeat=0):
        return Measured({"kl": 0.01}, 1.0, self._samples if fidelity == "throughput" else {})


class Meter:
    whole_layers = None

    def measure(self, config):
        return {"tokens_per_s": 5.0, "samples": {"layer_ms": [0.25, 0.5]}}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_measurement_with_samples_is_a_line_and_its_figures_pass_through(tmp_path):
    bench = Keeping(Fixed({"layer_ms": [0.5, 0.25]}), tmp_path / SAMPLES)
    assert bench.measure(CONFIG, "kl").figures == {"kl": 0.01}
    assert bench.measure(CONFIG, "throughput", 3).figures == {"kl": 0.01}
    (kept,) = lines(tmp_path / SAMPLES)
    assert DecodeConfig.model_validate_json(kept.pop("config")) == CONFIG
    assert kept == {
        "label": "lsh (10, 75)",
        "fidelity": "throughput",
        "repeat": 3,
        "samples": {"layer_ms": [0.5, 0.25]},
    }


def test_a_line_cut_short_spoils_no_other(tmp_path):
    path = tmp_path / SAMPLES
    path.write_text('{"config": "x", "lab')
    for _ in range(2):
        Keeping(Fixed({"layer_ms": [0.5]}), path).measure(CONFIG, "throughput")
    assert len(path.read_text().splitlines()) == 3
    assert all(json.loads(line)["repeat"] == 0 for line in path.read_text().splitlines()[1:])


def test_samples_are_no_figures_and_cross_between_processes():
    found = LocalBench(None, Meter()).measure(CONFIG, "throughput")
    assert (found.figures, found.samples) == ({"tokens_per_s": 5.0}, {"layer_ms": [0.25, 0.5]})
    with IsolatedBench(crashing.make) as bench:
        assert bench.measure(CONFIG, "throughput").samples == {"step_ms": [1.0, 2.0]}


def test_the_report_has_a_row_a_value_by_trial(tmp_path):
    trials = [record(number, 0.01, 20.0, K=K).to_dict() for number, K in enumerate((10, 9))]
    (tmp_path / "study.json").write_text(json.dumps({"schema_version": 1, "baselines": [], "trials": trials}))
    config = DecodeConfig.model_validate_json(trials[1]["config"])
    bench = Keeping(Fixed({"layer_ms": [0.5, 0.25]}), tmp_path / SAMPLES)
    bench.measure(config, "throughput")
    bench.measure(DecodeConfig(), "throughput")
    with (tmp_path / SAMPLES).open("a") as out:
        out.write('{"config": "cut')
    assert {tmp_path / "samples.csv", tmp_path / "samples.parquet"} <= set(render(tmp_path))
    rows = list(csv.DictReader((tmp_path / "samples.csv").open()))
    found = [(row["trial"], row["name"], row["index"], row["value"]) for row in rows]
    assert found[:2] == [("1", "layer_ms", "0", "0.5"), ("1", "layer_ms", "1", "0.25")]
    assert [trial for trial, *_ in found[2:]] == ["", ""], "no trial has this config"
