"""The comparison of hash families: what it measures, and how it compares at equal density."""

from __future__ import annotations

import pytest

from tests.bench.test_probing import run
from truffle.bench import families
from truffle.bench.families import at_equal_density, measure_families, settings
from truffle.bench.tables import family_table
from truffle.model.config import LshParameters


def test_indexes_of_equal_bits_and_tables_are_equally_large_and_more_tables_err_less():
    compared = [(name, p) for name, p in settings(range(7, 8)) if name != "cross_polytope 16"]
    found = list(measure_families(run(), compared, threads=1))
    assert [r["family"] for records in found for r in records[:1]] == [name for name, _ in compared]
    for records in found:
        assert [(r["L"], r["min_hits"]) for r in records] == [(75, 1), (75, 2), (150, 1), (150, 2)]
        assert [r["index_bytes"] for r in records] == [r["index_bytes"] for r in found[0]]
        assert records[0]["density"] > records[1]["density"]
        assert records[2]["density"] > records[0]["density"]
        assert records[2]["output_error"] < records[1]["output_error"]


def test_every_key_is_no_error(monkeypatch):
    monkeypatch.setattr(families, "TAKEN", ((150, 1),))
    (records,) = measure_families(run(), [("simhash", LshParameters(K=1, L=150, seal_tokens=1))], threads=1)
    assert records[0]["density"] == pytest.approx(1.0, abs=1e-3)
    assert records[0]["output_error"] < 1e-3


def test_errors_are_interpolated_between_the_densities_around():
    def record(family: str, K: int, density: float, error: float) -> dict:
        return {"family": family, "K": K, "L": 75, "min_hits": 2, "density": density, "output_error": error,
                "index_bytes": 100.0}  # fmt: skip

    ours = [record("simhash", 9, 0.025, 0.4), record("simhash", 8, 0.1, 0.1)]
    found = at_equal_density([*ours, record("simple_lsh", 8, 0.06, 0.3)])
    figures = {(r["family"], r["at_density"]): r["output_error"] for r in found}
    assert figures["simhash", 0.05] == pytest.approx(0.2)
    assert figures["simhash", 0.1] == pytest.approx(0.1)
    assert figures["simhash", 0.02] is None
    assert figures["simple_lsh", 0.05] is None
    assert family_table(found).row_count == 2
