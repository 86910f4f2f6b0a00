"""The comparison of probing with plain tables: what it measures, and what it calls a saving."""

from __future__ import annotations

import pytest
import torch

from truffle.bench.dense_run import DenseRun, LayerStep
from truffle.bench.probing import measure_settings
from truffle.bench.probing_front import index_bytes_per_token, judge, plain_settings, probing_settings
from truffle.bench.tables import probing_table
from truffle.model.config import LshParameters, Probing

KV_HEADS, HEADS, D, TOKENS = 2, 6, 32, 400


def run() -> DenseRun:
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, KV_HEADS, TOKENS, D, generator=generator)
    steps = [[LayerStep(torch.randn(1, HEADS, D, generator=generator), keys, values, keys)] for _ in range(3)]
    nothing = torch.empty(0)
    return DenseRun(nothing, nothing, [nothing, keys], [nothing, values], nothing, [[step[0]] * 2 for step in steps])


def test_probing_more_buckets_reads_more_and_errs_less():
    probings = [Probing(), *(Probing(kind="directed", amount=amount) for amount in (3, 9, 31))]
    settings = [LshParameters(K=5, L=20, min_hits=1, probing=probing) for probing in probings]
    found = list(measure_settings(run(), settings, seeds=2, threads=1))
    assert [record["amount"] for record in found] == [0, 3, 9, 31]
    for name, reverse in (("output_error", True), ("density", False), ("rows", False)):
        values = [record[name] for record in found]
        assert values == sorted(values, reverse=reverse), name
    assert found[-1]["density"] == pytest.approx(1.0, abs=1e-3)
    assert found[-1]["output_error"] < 0.01, "what is left is the rounding of stored keys"


def test_index_bytes_are_ids_and_offsets_of_two_segments():
    assert index_bytes_per_token(10, 150) == pytest.approx(150 * (2 + 8 * 1025 / 98_304))


def record(probing: str, error: float, keys: float, size: float) -> dict:
    return {"K": 1, "L": 1, "min_hits": 2, "probing": probing, "amount": 4, "output_error": error, "density": keys,
            "rows": keys, "index_bytes": size, "context": 600}  # fmt: skip


def test_a_setting_meets_the_goal_against_the_smallest_plain_index_that_reaches_its_error():
    plain = [record("none", 0.3, 0.1, 10.0), record("none", 0.1, 0.3, 100.0), record("none", 0.1, 0.1, 500.0)]
    wanted = {
        (0.1, 0.3, 60.0): (True, 0.6, 60.0 / 100),
        (0.1, 0.2, 61.0): (False, 0.61, 61.0 / 500),
        (0.2, 0.4, 50.0): (False, 0.5, 50.0 / 100),
        (0.1, 0.05, 50.0): (True, 0.5, None),
        (0.05, 0.9, 1.0): (False, None, None),
    }
    for setting, expected in wanted.items():
        judged = judge([*plain, record("directed", *setting)])[-1]
        assert (judged["meets"], judged["smallest_ratio"], judged["rival_ratio"]) == expected


def test_the_table_shows_settings_that_save_at_every_context():
    plain = record("none", 0.1, 0.3, 100.0)
    good, bad = record("directed", 0.1, 0.2, 50.0), record("ball", 0.1, 0.4, 70.0)
    at_4k = judge([plain, good, bad])
    at_8k = [r | {"context": 1200} for r in at_4k]
    assert probing_table(at_4k + at_8k).row_count == 2
    at_8k[1] |= {"meets": False, "rival_ratio": 0.7}
    assert probing_table(at_4k + at_8k).row_count == 0
    records = at_4k
    assert next(iter(probing_table(records).columns[0].cells)).endswith("directed 4")


def test_every_probing_setting_has_plain_rivals_of_many_sizes():
    assert {p.K for p in plain_settings()} == set(range(5, 13))
    assert all(p.probing.kind == "none" for p in plain_settings())
    assert all(p.probing.kind != "none" for p in probing_settings())
