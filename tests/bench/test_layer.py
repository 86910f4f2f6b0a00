"""Methods on a synthetic layer: scores are as stated, exact attention has no error, and no time without a gate."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from truffle.bench import layer_methods, layer_time
from truffle.bench.__main__ import build_parser, main
from truffle.bench.comparison import compared
from truffle.bench.scored import SCORE_DEVIATIONS, ScoredLayer, scored_layer
from truffle.model.config import ModelShape

SHAPE = ModelShape(layers=4, hidden=64, intermediate=64, heads=16, kv_heads=8, head_dim=64, vocabulary=1)
LAYER = scored_layer(SHAPE, 2048, 3, 0, 0.75)


def contenders(methods: str, density: str = "0.1") -> list:
    arguments = build_parser().parse_args(["layer", "--methods", methods, "--densities", density])
    arguments.context = 2048
    return compared(arguments)


def measured(methods: str, density: str = "0.1", seconds: float = 0.0) -> dict[str, dict]:
    records = layer_methods.measure(contenders(methods, density), SHAPE, [LAYER], seconds)
    return {record["method"]: record for record in records}


def test_scores_of_a_head_have_the_deviation_of_its_place_and_those_of_a_group_the_correlation():
    layer = scored_layer(SHAPE, 4096, 64, 1, 0.75)
    keys = layer.keys.float() - layer.keys.float().mean(1, keepdim=True)
    scores = layer.queries.float().unflatten(1, (8, 2)).permute(1, 2, 0, 3) @ keys[:, None].transpose(2, 3) / 8
    assert torch.allclose(scores.std((1, 2, 3)), torch.tensor(SCORE_DEVIATIONS), rtol=0.1)
    together = (scores[:, 0] * scores[:, 1]).mean((1, 2)) / scores.square().mean((1, 2, 3))
    assert together.mean() == pytest.approx(0.75, abs=0.05)


def test_a_step_sees_its_own_token_and_those_before_it():
    changed = replace(LAYER, values=LAYER.values.clone())
    changed.values[:, -1] += 100
    assert torch.equal(changed.exact(1), LAYER.exact(1))
    assert not torch.equal(changed.exact(2), LAYER.exact(2))


def test_exact_attention_and_methods_with_all_keys_have_no_error():
    found = measured("scan, oracle_topk, quest", "1.0")
    assert found["dense"]["output_error"] < 0.005, "bfloat16"
    assert max(found[name]["output_error"] for name in ("scan", "oracle_topk", "quest")) < 0.005
    assert found["scan"]["rows"] == pytest.approx(1.0)


def test_a_better_proposal_errs_less_at_equal_keys():
    found = measured("priority, scan, uniform")
    assert found["priority"]["output_error"] < found["uniform"]["output_error"] / 4
    assert found["scan"]["output_error"] < found["uniform"]["output_error"] / 2
    assert found["scan"]["density"] == pytest.approx(0.1, abs=0.03)
    low, high = (found["scan"][f"output_error_{end}"] for end in ("low", "high"))
    assert low <= found["scan"]["output_error"] <= high
    assert found["scan"]["index_bytes"] == pytest.approx(34, rel=0.1), "32 of codes, 2 of the scale, spare ones"
    assert found["priority"]["index_bytes"] is None


def test_what_passes_its_gate_is_timed_and_compared_with_the_first(monkeypatch):
    monkeypatch.setattr(layer_time, "MIN_ROUNDS", 2)
    found = measured("lsh --K 6 --L 20, scan, quest", seconds=1e-3)
    assert found["lsh"]["ratio"] == found["lsh"]["ratio_low"] == 1
    assert found["scan"]["samples"] == 2
    assert "median_us" not in found["quest"]


def test_what_fails_its_gate_is_not_timed(monkeypatch):
    failing = {"scan_sample": "failed: one_key: made by a test"}
    monkeypatch.setattr(layer_time, "MIN_ROUNDS", 2)
    monkeypatch.setattr(layer_time, "judged", lambda op, *how: (failing.get(op, "passed"), "auto"))
    found = measured("lsh --K 6 --L 20, scan", seconds=1e-3)
    assert "median_us" in found["lsh"]
    assert found["scan"]["gate"] == failing["scan_sample"]
    assert "median_us" not in found["scan"]


def test_the_part_that_is_timed_computes_what_a_step_does():
    _, contender = contenders("scan", "1.0")
    ops = layer_methods.Operations(contender.config, "cpu")
    first = ScoredLayer(LAYER.queries[:1], LAYER.keys, LAYER.values)
    cache = layer_methods.filled_cache(first, SHAPE, contender.config, ops)
    layer_time.part(first, cache, ops)()
    (exchange,) = cache._exchanges
    keys, values = (part[:, 4 : part.shape[1] - 65].float() for part in (LAYER.keys, LAYER.values))
    q = LAYER.queries[0].float().unflatten(0, (8, 2))
    right = (q @ keys.transpose(1, 2) / 8).softmax(-1) @ values
    assert torch.allclose(exchange.out[0].unflatten(0, (8, 2)), right, atol=0.02)


def test_a_record_a_method_is_written(tmp_path, capsys):
    file = tmp_path / "found.json"
    assert main(["layer", "--workload", "smollm2@1k", "--steps", "2", "--methods", "scan", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    assert [record["method"] for record in content["records"]] == ["dense", "scan"]
    assert content["records"][1]["context"] == 1024
    assert "scan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps: expected at least 1, got 0"),
        (["--group-correlation", "2"], "group_correlation: expected 0 to 1, got 2.0"),
        (["--workload", "nope@1k"], "workload: expected MODEL@CONTEXT"),
        (["--samples", "0"], "samples: expected at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, message, capsys):
    assert main(["layer", "--methods", "scan", *options]) == 2
    assert message in capsys.readouterr().err
