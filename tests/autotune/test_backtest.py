"""Measured steps against predictions, the error that is kept, and where it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.autotune.fakes import rates
from tests.autotune.test_predict import KERNELS
from truffle.autotune import backtest, known_error
from truffle.autotune.backtest import Comparison
from truffle.autotune.cli import main
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.records import write_records
from truffle.kernels import hardware, profiles
from truffle.kernels.checks import ArgumentError

RESULTS = Path(__file__).parents[2] / "reports/results/h200"
FILES = [RESULTS / f"{name}.json" for name in ("decode_dense", "decode_pipeline", "decode_resident", "scaling_batch")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def calibration(**cpu) -> HostCalibration:
    here = hardware.detect().cpu.model_copy(update=cpu)
    return HostCalibration(
        created="2026-11-23", cpu=here, memory_limit_bytes=1 << 40, buffer_bytes=1, rates=(rates(1),), device=None,
        kernels=tuple(KERNELS._times), measured_on={},
    )  # fmt: skip


def test_steps_are_read_with_what_they_were_measured_with():
    dense, pipeline, resident, *batches = backtest.read_steps(FILES)
    assert (dense.config.method, dense.workload.context, dense.answer_s, dense.gpu) == (
        "dense", 98_304, None, "NVIDIA H200"
    )  # fmt: skip
    assert pipeline.config.fused, "as its command says"
    assert pipeline.workload.deviation == pytest.approx(0.12, abs=0.001)
    assert resident.config.resident
    assert [step.config.execution.batch_size for step in batches] == [1, 2, 3, 4, 6]
    assert pipeline.seconds["p20"] < pipeline.seconds["p50"] == pytest.approx(23.649e-3, rel=1e-4)


def test_without_a_calibration_the_hosts_part_is_the_traces_and_a_figures_source_is_no_test_of_it():
    found = backtest.compare(backtest.read_steps(FILES), None)
    assert [one.source for one in found] == ["decode_dense.json", "decode_resident.json", *["scaling_batch.json"] * 5]
    assert [one.answered for one in found] == [False, False, *[True] * 5]
    assert all(abs(one.error) < 0.15 for one in found)


def test_a_calibration_of_another_machine_is_refused_by_name():
    with pytest.raises(
        ArgumentError, match=r"host: expected a calibration of Intel.*16 CPUs, where decode_dense.*Atom"
    ):
        backtest.compare(backtest.read_steps(FILES), calibration(model="Atom", usable_cpus=1))


def test_with_a_calibration_everything_is_predicted():
    there = calibration(model="Intel(R) Xeon(R) Processor", usable_cpus=16)
    steps = backtest.read_steps(FILES[3:])
    found = backtest.compare(steps, there)
    assert not any(one.answered for one in found)
    assert [one.predicted_ms for one in found] == sorted(one.predicted_ms for one in found), "more requests take longer"
    fast = backtest.compare(steps, there, "p20")
    assert all(one.predicted_ms < other.predicted_ms for one, other in zip(fast, found, strict=True))
    assert fast[0].measured_ms < found[0].measured_ms


def comparison(method: str, predicted: float) -> Comparison:
    return Comparison("f", method, "w", "{}", 1, 1, "bfloat16", 1, "", False, 100.0, predicted)


def test_the_summary_by_hand():
    found = backtest.summary([comparison("lsh", ms) for ms in (110, 90, 130)] + [comparison("dense", 101)])
    assert found["lsh"] == pytest.approx(
        {"steps": 3, "median": 0.1, "p80": 0.22, "p90": 0.26, "most": 0.3, "bias": 0.1}
    )
    assert found["all"]["steps"] == 4
    assert found["dense"]["median"] == pytest.approx(0.01)


def test_the_interval_holds_what_the_error_says():
    known = known_error.find(profiles.load("h200"), "lsh")
    assert known is not None
    assert known.here
    low, high = known.seconds(1.0)
    assert 1.0 / low - 1 == pytest.approx(known.errors.p90)
    assert 1 - 1.0 / high == pytest.approx(known.errors.p90)
    assert "nine in ten by less than" in known.sentence
    other = known_error.find(profiles.load("4090"), "lsh")
    assert other is not None
    assert other.errors == known.errors
    assert "on this card nothing was measured" in other.sentence
    few = known_error.find(profiles.load("h200"), "streaming")
    assert few is not None
    assert few.errors.steps > known.errors.steps, "no step of its own: that of all steps"


def test_the_error_is_that_of_back_tests_with_such_a_host():
    card = profiles.load("h200")
    found = {part: known_error.find(card, "lsh", part) for part in ("measured", "predicted")}
    assert {part: known.host_part for part, known in found.items() if known} == {part: part for part in found}
    assert found["measured"] == known_error.find(card, "lsh")


def test_for_a_predicted_host_another_card_comes_before_a_measured_host(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = json.loads((known_error.FOLDER / "h200_host_measured.json").read_text()) | {"gpu": "rtx-4090"}
    known_error.user_folder().mkdir(parents=True)
    (known_error.user_folder() / "mine.json").write_text(json.dumps(own))
    card = profiles.load("4090")
    found = {part: known_error.find(card, "lsh", part) for part in ("measured", "predicted")}
    assert {part: (known.host_part, known.here) for part, known in found.items() if known} == {
        "measured": ("measured", True),
        "predicted": ("predicted", False),
    }


def test_the_command_writes_and_keeps(tmp_path, capsys):
    records = ["backtest", "--records", *map(str, FILES)]
    assert main([*records, "--json", str(tmp_path / "out.json"), "--keep"]) == 0
    assert "off by" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["gpu"], written["host_part"], written["errors"]["all"]["steps"]) == ("h200", "measured", 7)
    assert len(written["steps"]) == 7
    kept = known_error.find(profiles.load("h200"), "lsh")
    assert kept is not None
    assert kept.errors.steps == 6, "the user's own, later one"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "records: expected files of steps, or --measure FILE, got neither"),
        (["--records", "nowhere.json"], "nowhere.json"),
        (["--records", str(RESULTS / "study.txt")], "study.txt"),
        (["--records", str(RESULTS / "hash_codes.json")], "records: expected steps"),
    ],
)
def test_what_cannot_be_tested_is_one_line(options, complaint, capsys):
    assert main(["backtest", *options]) == 2
    assert complaint in capsys.readouterr().err


def test_another_files_contents_are_named(tmp_path, capsys):
    (tmp_path / "other.json").write_text("[]")
    assert main(["backtest", "--records", str(tmp_path / "other.json")]) == 2
    assert "other.json: expected a JSON file of records" in capsys.readouterr().err
    write_records(
        tmp_path / "small.json", [{"op": "decode", "model": "smollm2", "method": "dense", "parameters": "{}"}], "x"
    )


def test_estimates_of_every_card_are_labelled(tmp_path, capsys):
    calibration().save(tmp_path / "host.json")
    command = ["estimate", "--workload", "llama-3.1-70b@64k", "--host", str(tmp_path / "host.json")]
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["gpu"] for row in rows} == set(profiles.known())
    assert {row["kind"] for row in rows} == {"estimated"}
    assert all(row["step_s_low"] < row["step_s"] < row["step_s_high"] for row in rows)
    by_card = {row["gpu"]: row for row in rows if row["method"] == "lsh"}
    assert "of the GPU's usable" in by_card["t4"]["does_not_fit"]
    assert by_card["h200"]["does_not_fit"] is None
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "all estimated, nothing run" in printed
    assert "on this card nothing was measured" in printed
    assert main(["estimate"]) == 2
    assert "host: expected a calibrated one: python -m autotune calibrate" in capsys.readouterr().err
