"""Points that the cost model rules out: by its prediction, less what it is known to be wrong by."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.autotune.fakes import Bench
from truffle.autotune import known_error
from truffle.autotune.foretold_step import foretold_too_slow
from truffle.autotune.host_model import HostKernels
from truffle.autotune.limits import Limits
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.predict import Machine, step_time
from truffle.autotune.search import Search
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import open_study
from truffle.autotune.target import Target, host_of
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.workloads import parse_workload
from truffle.kernels import profiles
from truffle.model.config import FUSED, DecodeConfig, Execution, LshParameters, QuestParameters

HOST = Path(__file__).parents[2] / "reports/results/h200/host.json"
WORKLOAD = parse_workload("llama-3.1-8b@96k")
FUSED_LSH = DecodeConfig(
    parameters=LshParameters(), execution=Execution(threads=15), implementations={FUSED: "cpu_native"}
)


@pytest.fixture(scope="module")
def calibration():
    return HostCalibration.load(HOST)


@pytest.fixture(scope="module")
def machine(calibration):
    return Machine(profiles.load("h200"), HostKernels(calibration.kernels))


@pytest.fixture(scope="module")
def least_s(machine):
    """What the point takes at the least."""
    known = known_error.find(machine.gpu, "lsh", "predicted")
    assert known is not None
    predicted = step_time(WORKLOAD.shape, FUSED_LSH, WORKLOAD.context, machine).total
    least = known.seconds(predicted)[0]
    assert 0.5 * predicted < least < predicted
    return least


@pytest.mark.parametrize(("share", "kept"), [(0.99, True), (1.01, False)])
def test_a_point_is_ruled_out_where_even_its_fastest_is_slower_than_exact(machine, least_s, share, kept):
    found = foretold_too_slow(FUSED_LSH, WORKLOAD, machine, share / least_s)
    assert (found is None) == kept
    assert kept or found.startswith("the cost model expects ")


@pytest.mark.parametrize(("share", "kept"), [(0.99, False), (1.01, True)])
def test_or_beyond_the_latency_limit(machine, least_s, share, kept):
    found = foretold_too_slow(FUSED_LSH, WORKLOAD, machine, 0.0, share * least_s * 1e3)
    assert (found is None) == kept
    assert kept or "; the limit is " in found


def test_nothing_is_said_without_times_of_kernels_or_of_a_method_that_has_none(machine):
    assert foretold_too_slow(FUSED_LSH, WORKLOAD, Machine(machine.gpu, None), 1e9) is None
    assert foretold_too_slow(DecodeConfig(parameters=QuestParameters()), WORKLOAD, machine, 1e9) is None


def test_the_search_measures_none_of_them(calibration, tmp_path):
    target = Target(profiles.load("h200"), False, host_of(calibration), ())
    there = MixedSpace(WORKLOAD, target, (1, 15), 0)
    limits = Limits(max_latency_ms=10.0)
    search = Search(open_study(tmp_path, {}, seed=0), there, Bench(), limits, 0.0, lambda record: None)
    search.plan()
    search.run(Stopping(40, 60))
    searched = [record for record in search.judged() if record.origin == "search"]
    foretold = [record for record in searched if (record.reason or "").startswith("the cost model expects")]
    assert len(foretold) > 5
    assert all(record.status == "pruned" and record.tokens_per_s is None for record in foretold)
    default = next(record for record in search.judged() if record.origin == "default")
    assert default.status == "complete", "what is planned is measured"
