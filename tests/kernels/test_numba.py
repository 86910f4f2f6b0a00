"""What the shared suite does not ask of the Numba kernels: hostile data, concurrent calls, thread counts."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

from truffle.kernels import numba_math, registry
from truffle.kernels.checks import ArgumentError
from truffle.kernels.collision import CollisionLaw

OPS = ("hash_codes", "build_tables", "retrieve", "sparse_attend")


def prepared(op, name):
    contract = registry.contract(op)
    case = next(case for case in contract.cases if case.name == name)
    return contract.arguments(case), registry.get(op, "cpu_numba")


@pytest.mark.parametrize("op", OPS)
def test_unknown_isa_and_no_threads_are_refused(op):
    arguments, implementation = prepared(op, registry.contract(op).cases[1].name)
    with pytest.raises(ArgumentError, match=r"isa: .*avx2"):
        implementation(**arguments, isa="avx2")
    with pytest.raises(ArgumentError, match="threads"):
        implementation(**arguments, threads=0)


def test_more_threads_than_numba_has_and_the_callers_setting_stays():
    arguments, implementation = prepared("build_tables", "usual")
    before = numba.get_num_threads()
    implementation(**arguments, threads=1000)
    assert numba.get_num_threads() == before
    assert (arguments["ids"].int() < 1000).all()


def test_build_tables_refuses_large_codes_even_unchecked():
    arguments, implementation = prepared("build_tables", "usual")
    arguments["codes"][2, 3, 500] = 256
    with pytest.raises(ValueError, match="codes"):
        implementation.function(**arguments)


def test_retrieve_refuses_large_codes():
    arguments, implementation = prepared("retrieve", "usual")
    arguments["query_codes"][0, 7, 29, 0] = 0xFFFF
    with pytest.raises(ValueError, match=r"query_codes.* row 7"):
        implementation(**arguments)


@pytest.mark.parametrize("wrong", [-1, 1_000_000])
def test_retrieve_refuses_corrupt_offsets(wrong):
    arguments, implementation = prepared("retrieve", "usual")
    arguments["tables"][0][0].offsets[:] = wrong
    with pytest.raises(ValueError, match="offsets"):
        implementation(**arguments)


def test_retrieve_refuses_ids_outside_the_segment():
    arguments, implementation = prepared("retrieve", "usual")
    arguments["tables"][0][0].ids[:] = 1000
    with pytest.raises(IndexError, match="ids below"):
        implementation(**arguments)


def test_retrieve_survives_repeated_ids_and_overlapping_segments():
    arguments, implementation = prepared("retrieve", "full_bucket")
    segment = arguments["tables"][0][0]
    with pytest.raises(ValueError, match="overlap"):
        implementation(**(arguments | {"tables": [[segment, segment]]}))
    segment.ids[:] = 0
    implementation(**arguments, threads=2)
    assert (arguments["count"] <= segment.length).all()


def test_retrieve_counts_beyond_a_byte():
    arguments, implementation = prepared("retrieve", "full_bucket")
    segment = arguments["tables"][0][0]
    many = replace(segment, offsets=segment.offsets.repeat(1, 100, 1), ids=segment.ids.repeat(1, 100, 1))
    codes = arguments["query_codes"].repeat(1, 1, 100, 1)
    implementation(**(arguments | {"tables": [[many]], "query_codes": codes, "min_hits": 300}))
    assert (arguments["count"] == 257).all()


@pytest.mark.parametrize("wrong", [-1, 201])
def test_sparse_attend_refuses_rows_outside_the_store(wrong):
    arguments, implementation = prepared("sparse_attend", "groups_of_3")
    arguments["ids"][8, int(arguments["count"][8]) - 1] = wrong
    with pytest.raises(IndexError, match="row 8"):
        implementation(**arguments)


def test_sparse_attend_survives_nan():
    arguments, implementation = prepared("sparse_attend", "groups_of_3")
    arguments["q"][0, 0] = torch.nan
    implementation(**arguments)
    assert arguments["out"][0, 1:].isfinite().all()


def test_sparse_attend_does_not_depend_on_threads():
    results = []
    for threads in (1, 2, 1000):
        arguments, implementation = prepared("sparse_attend", "huge")
        implementation(**arguments, threads=threads)
        results.append(arguments["out"])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@numba.njit
def over(function, x):
    """Elementwise in float32; Python would hand the function float64."""
    result = np.empty_like(x)
    for i in range(len(x)):
        result[i] = function(x[i])
    return result


def test_exp_below_one():
    x = np.linspace(-87, 0, 100_001, dtype=np.float32)
    relative = over(numba_math.exp_below_one, x) / np.exp(x.astype(np.float64)) - 1
    assert np.abs(relative).max() < 3e-7
    below, unknown = over(numba_math.exp_below_one, np.float32([-np.inf, np.nan]))
    assert below < 2e-38
    assert np.isnan(unknown)


def test_arc_cosine():
    cosine = np.linspace(-1, 1, 100_001, dtype=np.float32)
    error = over(numba_math.arc_cosine, cosine) - np.arccos(cosine.astype(np.float64))
    assert np.abs(error).max() < 5e-7


def test_log_inclusion_at_and_beyond_the_ends():
    table = CollisionLaw(8, 75).tables[0]
    for cosine, cell in [(1.0, -1), (1.5, -1), (-1.0, 0), (-2.0, 0), (np.nan, 0)]:
        found = log_inclusion_of(np.float32(cosine), table)
        assert found == pytest.approx(float(table[cell]), rel=1e-5, abs=1e-6)


@numba.njit
def log_inclusion_of(cosine, table):
    return numba_math.interpolate(numba_math.agreement_cell(cosine, len(table) - 1), table)


CONCURRENT = """
import sys
sys.path.insert(0, "tests/kernels")
import numba, test_numba
test_numba.call_from_four_threads()
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_concurrent_calls(layer):
    root = Path(__file__).parents[2]
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", CONCURRENT]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if "No threading layer could be loaded" in run.stderr:
        pytest.skip(f"Numba has no {layer} layer here")
    assert run.returncode == 0, run.stderr[-3000:]
    assert layer in run.stdout


def test_threads_sleep_between_calls():
    arguments, implementation = prepared("build_tables", "usual")
    implementation(**arguments, threads=2)
    assert numba.threading_layer() in ("tbb", "workqueue")


def call_from_four_threads():
    wanted, implementation = prepared("retrieve", "large")
    implementation(**wanted)

    def call(_):
        arguments, _ = prepared("retrieve", "large")
        for _ in range(50):
            implementation.function(**arguments, threads=2)
        return registry.contract("retrieve").compare(arguments, wanted)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == [None] * 4
