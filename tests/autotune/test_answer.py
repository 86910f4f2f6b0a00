"""What is recommended, and what is said of it."""

from __future__ import annotations

import dataclasses

import pytest

from tests.autotune.fakes import record, space
from truffle.autotune import outputs
from truffle.autotune.answer import decide, front
from truffle.autotune.baselines import ON_GPU, Baseline, exact_baselines, fastest, known_interval

EXACT = Baseline("all on the GPU", True, None, batch_size=2, tokens_per_s=10.0)


def test_the_fastest_feasible_point_wins():
    records = [
        record(0, 0.02, 15.0, origin="default"),
        record(1, 0.01, 30.0),
        record(2, 0.05, 90.0, feasible=False, infeasible_because="KL 0.0500 is over the limit 0.0200"),
    ]
    found = decide(records, EXACT, 0.02)
    assert found.trial.number == 1
    assert "lsh 1 with 4 CPU threads" in found.headline
    assert "3.00x the fastest exact way" in found.headline
    assert found.gain_over_default == pytest.approx(2.0)


def test_the_gain_over_the_default_is_stated_with_its_interval():
    found = decide(
        [record(0, 0.02, 15.0, origin="default"), record(1, 0.01, 30.0, gain_low=1.9, gain_high=2.1)], EXACT, 0.02
    )
    assert "That is 2.00x the paper's default (10, 150) (1.90 to 2.10, by turns), which fits too." in found.detail


@pytest.mark.parametrize(("kl", "high", "said"), [(0.019, 0.03, True), (0.02, 0.03, False), (0.01, 0.015, False)])
def test_a_kl_that_is_not_told_apart_from_the_limit_is_said(kl, high, said):
    default = record(0, 0.02, 15.0, origin="default")
    found = decide([default, record(1, kl, 30.0, kl_low=0.005, kl_high=high)], EXACT, 0.02)
    assert any("not told apart from the limit: 0.0050 to 0.0300" in line for line in found.detail) == said


def test_no_significant_gain_keeps_the_default():
    records = [record(0, 0.02, 15.0, origin="default"), record(1, 0.01, 15.4)]
    found = decide(records, EXACT, 0.02)
    assert found.trial.number == 0
    assert any("default is kept" in sentence for sentence in found.detail)


def test_turns_that_both_took_tell_a_gain_that_intervals_do_not():
    default = record(0, 0.02, 15.0, origin="default")
    for low, number in ((1.01, 1), (0.99, 0)):
        found = decide([default, record(1, 0.01, 15.4, gain_low=low, gain_high=1.04)], EXACT, 0.02)
        assert found.trial.number == number


@pytest.mark.parametrize("records", [[], [record(0, 0.02, 9.0)], [record(0, 0.02, 50.0, feasible=False)]])
def test_dense_is_recommended_when_nothing_beats_it(records):
    found = decide(records, EXACT, 0.02)
    assert found.trial is None
    assert found.headline.startswith("Use dense")
    assert "all on the GPU" in found.headline


def test_the_front_holds_what_nothing_beats_in_both():
    records = [record(0, 0.03, 30.0), record(1, 0.01, 10.0), record(2, 0.02, 9.0), record(3, 0.02, 20.0)]
    records.append(record(4, 0.001, 99.0, feasible=False, infeasible_because="needs 99 GB of the host's usable 1 GB"))
    slow = Baseline("all on the GPU", True, None, batch_size=1, tokens_per_s=5.0)
    assert [found.number for found in front(records, slow)] == [1, 3, 0]
    assert [found.number for found in front(records, EXACT)] == [3, 0], "exact attention beats the first"


def test_exact_ways_on_a_24_gb_card():
    ways = {way.name: way for way in exact_baselines(space().workload, space().target)}
    assert not ways["all on the GPU"].fits
    assert ways["all on the GPU"].reason.startswith("needs 28.9 GB of the GPU's usable")
    streamed = ways["what does not fit streamed over the link"]
    weights, kv = 2 * 8.03e9, 98304 * 131072
    rest = kv - (int(25769803776 * 0.95) - 2**30 - weights)
    assert 1 / streamed.tokens_per_s == pytest.approx(rest / (31507692308 * 0.84), rel=0.02)
    assert fastest(list(ways.values())).tokens_per_s == max(way.tokens_per_s or 0 for way in ways.values())


def test_everything_on_a_card_that_holds_it():
    roomy = space(gpu="h200")
    ways = {way.name: way for way in exact_baselines(roomy.workload, roomy.target)}
    assert ways["all on the GPU"].batch_size > 4
    assert not ways["what does not fit streamed over the link"].fits or ways["all on the GPU"].fits


def test_an_estimate_of_exact_attention_on_the_card_has_the_interval_of_its_back_test():
    roomy = space(gpu="h200")
    ways = {way.name: way for way in exact_baselines(roomy.workload, roomy.target)}
    card = ways.pop(ON_GPU)
    low, high = known_interval(card, roomy.target)
    assert 0.8 * card.tokens_per_s < low < card.tokens_per_s < high < 1.2 * card.tokens_per_s
    assert [known_interval(way, roomy.target) for way in ways.values()] == [None] * len(ways)
    assert known_interval(dataclasses.replace(card, kind="measured"), roomy.target) is None


def test_a_gain_within_noise_over_exact_attention_is_none():
    found = decide([record(3, 0.01, 10.001)], EXACT, 0.02)
    assert found.trial is None
    assert "clearly faster" in found.headline


def test_larger_batches_that_no_longer_fit_the_card_are_tried_with_offloading():
    fast_host = space(gpu="l40s", memory_gib=512)
    rates = [r.model_copy(update={"read_bytes_per_s": r.read_bytes_per_s.model_copy(update={"p50": 3.2e11})})
             for r in fast_host.target.host.rates]  # fmt: skip
    host = dataclasses.replace(fast_host.target.host, rates=tuple(rates))
    ways = exact_baselines(fast_host.workload, dataclasses.replace(fast_host.target, host=host))
    shared = next(way for way in ways if "attended on the CPU" in way.name)
    assert shared.fits
    assert shared.batch_size > next(way for way in ways if way.name == "all on the GPU").batch_size


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"attend_with": "retrieve + sparse_attend"}, {"retrieve", "sparse_attend"}),
        ({"attend_with": "retrieve_attend", "probing": "ball 1"}, {"retrieve_attend"}),
        ({"attend_with": "retrieve_attend", "probing": "directed 8"}, {"direct_probes", "retrieve_attend"}),
    ],
)
def test_a_tuned_config_names_what_it_was_measured_with(settings, named):
    config = outputs._config(record(1, 0.01, 9.0, pinning="none", **settings), EXACT, space())
    assert set(config.implementations) == {"hash_codes", "build_tables"} | named
    assert config.fused == ("retrieve_attend" in named)
    assert config.parameters.probing.name == settings.get("probing", "none")
