"""What holds of a tuned file when it is measured again, and what tells two studies apart; all of it replayed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.autotune.fakes import space
from tests.model.tuned_files import made
from truffle.autotune import grid
from truffle.autotune.cli import main
from truffle.autotune.compare import FIRST, NEITHER, SECOND, compared
from truffle.autotune.contest import LEAST_ROUNDS
from truffle.autotune.measuring import Measured
from truffle.autotune.verify import FAILS, HOLDS, UNKNOWN, Claim, claims_of, overall
from truffle.model import tuned

THREADS = Path(grid.__file__).parent / "grids/threads-64-vcpus.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "out"
    assert main(["--replay", str(THREADS), "--out", str(out)]) == 0
    return out


def verified(folder, tmp_path, capsys, change=lambda said: None, recording=THREADS) -> tuple[int, dict]:
    said = json.loads((folder / "tuned.json").read_text())
    change(said)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(said))
    capsys.readouterr()
    status = main(["verify", str(path), "--replay", str(recording), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(10, 11, HOLDS), (9, 11, UNKNOWN), (8, 9, FAILS), (9.9, 10, UNKNOWN)]
)
def test_a_claim_is_judged_by_its_whole_interval(low, high, verdict):
    assert Claim("tokens/s", 10, low, high).verdict == verdict


def test_the_worst_verdict_is_that_of_all():
    holds, fails, unknown = Claim("a", 1, 2, 3), Claim("b", 5, 2, 3), Claim("c", 2.5, 2, 3)
    assert overall([holds, holds]) == HOLDS
    assert overall([holds, unknown]) == UNKNOWN
    assert overall([unknown, fails]) == FAILS
    assert overall([]) == UNKNOWN


def test_what_was_published_holds(folder, tmp_path, capsys):
    status, found = verified(folder, tmp_path, capsys)
    assert (status, found["verdict"]) == (0, HOLDS)
    assert [claim["name"] for claim in found["claims"]] == ["tokens/s", "times the default"]
    assert found["claims"][1]["low"] > 10, "64 threads are 19 times slower than 16"


def test_a_figure_that_is_not_reached_does_not_hold(folder, tmp_path, capsys):
    def doubled(said):
        figure = said["evidence"]["throughput"]["tokens_per_s"]
        figure.update(value=2 * figure["value"], ci95=None)

    assert verified(folder, tmp_path, capsys, doubled)[0] == 1


def test_threads_that_are_slower_than_the_default_do_not_hold(folder, tmp_path, capsys):
    def swapped(said):
        said["config"]["parameters"]["L"] = 220
        said["config"]["execution"]["threads"] = 64

    status, found = verified(folder, tmp_path, capsys, swapped)
    assert status == 1
    assert {claim["verdict"] for claim in found["claims"]} == {FAILS}


class Noisy:
    """The config that is said to do 20 tokens/s does, and twice what the default does, give or take 4%."""

    def __init__(self):
        self.calls, self._random = 0, np.random.default_rng(0)

    def measure(self, config, fidelity, repeat=0):
        self.calls += 1
        rate = (20.0 if config.parameters.L == 200 else 10.0) * float(np.exp(0.04 * self._random.standard_normal()))
        figures = {"tokens_per_s": rate, "tokens_per_s_low": rate, "tokens_per_s_high": rate}
        return Measured({**figures, "throughput_kind": "measured"}, 0.0)


def test_it_goes_on_measuring_while_one_claim_cannot_be_told():
    there, bench = space(gpu="none"), Noisy()
    figure = tuned.Figure(value=20.0, ci95=(19.0, 21.0), kind="measured", measured_on="here")
    said = made(config=there.config({"K": 10, "L": 200, "threads": 0}))
    said = said.model_copy(
        update={"evidence": said.evidence.model_copy(update={"throughput": {"tokens_per_s": figure}})}
    )
    claims, problem = claims_of(said, there, bench, 60.0)
    assert problem is None
    assert bench.calls > 2 * LEAST_ROUNDS, "the gain is clear after these"
    assert [claim.verdict for claim in claims] == [HOLDS, HOLDS]
    assert claims[0].least == pytest.approx(19.0), "5% less than the figure"


def test_noise_tells_nothing(folder, tmp_path, capsys):
    held = json.loads(THREADS.read_text())
    noisy = {key: [s * f for s, f in zip(samples, (0.2, 0.3, 1, 1, 1, 5, 9), strict=True)]
             for key, samples in held["step_ms"].items()}  # fmt: skip
    path = tmp_path / "noisy.json"
    path.write_text(json.dumps({**held, "step_ms": noisy}))
    status, found = verified(folder, tmp_path, capsys, recording=path)
    assert (status, found["verdict"]) == (3, UNKNOWN)


def test_a_config_that_cannot_be_measured_tells_nothing(folder, tmp_path, capsys):
    status, found = verified(folder, tmp_path, capsys, lambda said: said["config"]["parameters"].update(K=7))
    assert (status, found["claims"]) == (3, [])
    assert "the grid has no time of this setting" in found["notes"][0]


def test_another_machine_is_named(folder, tmp_path, capsys):
    found = verified(folder, tmp_path, capsys, lambda said: said["hardware"]["cpu"].update(logical_cpus=8))[1]
    assert "made with logical CPUs 8, measured with 64" in found["notes"]


def study(folder, **best) -> dict:
    found = json.loads((folder / "study.json").read_text())
    next(t for t in found["trials"] if t["number"] == found["answer"]["trial"]).update(best)
    return found


def test_a_study_beside_itself_differs_in_nothing(folder, capsys):
    capsys.readouterr()
    assert main(["compare", str(folder), str(folder / "study.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["differences"], found["faster"]) == ({}, NEITHER)


def test_studies_are_told_apart_by_marks_and_by_intervals(folder):
    one, other = study(folder), study(folder, tokens_per_s_low=50.0, tokens_per_s_high=60.0)
    other["host"]["cpu"], other["environment"]["packages"]["torch"] = "another CPU", "9.9"
    other["fingerprint"]["space K"], other["workload"]["context"] = [1, 2], 1024
    found = compared(one, other)
    assert {*found["differences"]} == {"host cpu", "package torch", "study space K", "workload context"}
    assert found["faster"] == SECOND
    assert compared(other, one)["faster"] == FIRST
    assert found["sentence"].endswith("They are of different things: workload context.")
    assert compared(one, study(folder, tokens_per_s_low=None))["ratio"] is None


def test_what_is_no_study_is_refused(tmp_path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "study.json: expected a study's record" in capsys.readouterr().err
