"""Settings that no kernel could run are refused where they are written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from truffle.model.config import DecodeConfig, LshParameters, Probing, StreamingParameters, one_line


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
    ],
)
def test_validation_errors_fit_one_line(parameters, line):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig.model_validate({"method": "lsh", "parameters": parameters})
    assert one_line(caught.value) == line
