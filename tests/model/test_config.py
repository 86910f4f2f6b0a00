"""Settings that no kernel could run are refused where they are written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from truffle.model.config import METHODS, DecodeConfig, LshParameters, Probing, StreamingParameters, one_line


@pytest.mark.parametrize("kind", [LshParameters, StreamingParameters])
def test_dense_layers_are_counted_from_0(kind):
    assert kind(dense_layers=(0, 31)).dense_layers == (0, 31)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        kind(dense_layers=(0, -1))


@pytest.mark.parametrize(
    ("K", "ball", "fits"), [(4, 3, True), (3, 3, False), (2, 3, False), (1, 0, True), (1, 1, False)]
)
def test_a_ball_is_smaller_than_its_table(K, ball, fits):
    probing = Probing(kind="ball" if ball else "none", amount=ball)
    if fits:
        assert LshParameters(K=K, probing=probing).probing.amount == ball
        return
    with pytest.raises(ValidationError, match=f"probing.amount: expected less than K = {K}, got {ball}"):
        LshParameters(K=K, probing=probing)


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"K": 17}, "K: Input should be less than or equal to 16, got 17"),
        ({"min_hits": 3, "L": 2}, "min_hits: expected at most L = 2, got 3"),
        ({"probing": {"kind": "ball"}}, "probing.amount: expected 1 to 3 where kind is 'ball', got 0"),
        ({"probing": {"amount": 2}}, "probing.amount: expected 0 where kind is 'none', got 2"),
        (
            {"probing": {"kind": "directed", "amount": 65}},
            "probing.amount: expected 2 to 64 where kind is 'directed', got 65",
        ),
        (
            {"K": 3, "probing": {"kind": "directed", "amount": 8}},
            "probing.amount: expected less than 2^K = 8, got 8",
        ),
        ({"family": "cross_polytope"}, "coordinates: expected a power of two up to 128 where K is 10, got None"),
        (
            {"family": "cross_polytope", "coordinates": 12},
            "coordinates: expected a power of two up to 128 where K is 10, got 12",
        ),
        (
            {"family": "cross_polytope", "coordinates": 16, "K": 4},
            "coordinates: expected a power of two up to 8 where K is 4, got 16",
        ),
        ({"coordinates": 16}, "coordinates: expected none where family is simhash, got 16"),
        (
            {"family": "cross_polytope", "coordinates": 4, "probing": {"kind": "ball", "amount": 1}},
            "probing: expected none where family is cross_polytope, got ball 1",
        ),
        (
            {"family": "simple_lsh", "probing": {"kind": "directed", "amount": 4}},
            "probing: expected none where family is simple_lsh, got directed 4",
        ),
    ],
)
def test_validation_errors_fit_one_line(parameters, line):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig.model_validate({"method": "lsh", "parameters": parameters})
    assert one_line(caught.value) == line


def test_families_survive_json_and_files_from_before_them_are_simhash():
    config = DecodeConfig(parameters=LshParameters(family="cross_polytope", coordinates=16))
    assert DecodeConfig.model_validate_json(config.model_dump_json()) == config
    older = config.parameters.model_dump(exclude={"family", "coordinates"})
    assert DecodeConfig(method="lsh", parameters=older).parameters == LshParameters()


@pytest.mark.parametrize("named", ["retrieve", "retrieve_attend"])
def test_simple_lsh_calls_no_operation_of_tables(named):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(parameters=LshParameters(family="simple_lsh"), implementations={named: "auto"})
    assert one_line(caught.value) == f"implementations: expected none of {named}, which simple_lsh does not call"


@pytest.mark.parametrize("method", METHODS)
def test_configs_of_every_method_survive_json(method):
    config = DecodeConfig(method=method)
    assert type(config.parameters) is METHODS[method]
    assert DecodeConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("given", "budget"), [(1, 1), (1.0, 1.0), ("1", 1), ("1.0", 1.0), (128, 128), (0, 0), (".5", 0.5)]
)
def test_a_budget_is_a_count_or_a_fraction_by_how_it_is_written(given, budget):
    config = DecodeConfig.model_validate({"method": "quest", "parameters": {"budget": given}})
    again = DecodeConfig.model_validate_json(config.model_dump_json())
    for found in (config.parameters.budget, again.parameters.budget):
        assert (type(found), found) == (type(budget), budget)


@pytest.mark.parametrize("given", [-1, 1.5, "2.5", "many", None, True])
def test_other_budgets_are_refused(given):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig.model_validate({"method": "quest", "parameters": {"budget": given}})
    wanted = "budget: expected a count such as 128, or a fraction from 0.0 to 1.0, got "
    assert one_line(caught.value) == f"{wanted}{given!r}"
