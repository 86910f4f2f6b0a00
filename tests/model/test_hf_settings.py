"""Settings of a TruffleCache: wrong ones are refused with where they stand, and tuned ones know their prompts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.model.hf_models import generated, prompts, tiny
from tests.model.tuned_files import made
from truffle.kernels.checks import ArgumentError
from truffle.model import tuned
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.hf import TruffleCache
from truffle.model.tuned import TunedFileError

PARAMETERS = LshParameters(K=4, L=20, window=8, seal_tokens=16)


@pytest.mark.parametrize("source", ["decode", r"truffle in config\.json"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "magic"}, "method: expected one of dense"),
        ({"parameters": {"K": 99}, "method": "lsh"}, "K: .* got 99"),
        ({"parameters": {"kk": 9}, "method": "lsh"}, "kk"),
        ({}, "method: expected one of dense, .* got none"),
        ({"parameters": {"K": 9}}, "method: expected one of dense, .* got none"),
        ([1], r"expected a DecodeConfig, or a mapping that says what one does, got \[1\]"),
        ("tuned.json", r"expected a DecodeConfig, .* got 'tuned\.json' \(a tuned file is given as tuned=\)"),
    ],
)
def test_wrong_settings_are_refused_with_where_they_stand(source: str, given: Any, message: str):
    config, decode = tiny().config, None
    if source == "decode":
        decode = given
    else:
        config.truffle = given
    with pytest.raises(ArgumentError, match=f"^{source}: {message}"):
        TruffleCache(config, decode)


def test_parameters_that_are_an_object_say_whose_they_are():
    assert TruffleCache(tiny().config, {"parameters": PARAMETERS}).decode_config.method == "lsh"


def test_settings_come_from_one_place(tmp_path: Path):
    with pytest.raises(ArgumentError, match="tuned: expected None beside decode"):
        TruffleCache(tiny().config, {"method": "dense"}, tuned=tmp_path / "tuned.json")
    with pytest.raises(TunedFileError, match="missing"):
        TruffleCache(tiny().config, tuned=tmp_path / "missing.json")


def tuned_for(folder: Path, context: int, batch: int) -> TruffleCache:
    """A cache that decodes as a file says that is good to 2 times its context and 3 times its batch."""
    config = DecodeConfig(parameters=PARAMETERS, execution=Execution(batch_size=batch))
    workload, match = tuned.Workload(context=context, new_tokens=8), tuned.Match(context_ratio=2, batch_ratio=3)
    tuned.save(made(config=config, workload=workload, match=match), folder / "tuned.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another card
        return TruffleCache(tiny().config, tuned=folder / "tuned.json")


@pytest.mark.parametrize(
    ("context", "batch", "expected"),
    [
        (80, 3, []),
        (20, 1, []),
        (81, 1, ["other context: tuned for context 81 and good to 2 times more or less, here it is 40"]),
        (19, 1, ["other context: tuned for context 19 and good to 2 times more or less, here it is 40"]),
        (40, 4, ["other batch: tuned for batch 4 and good to 3 times more or less, here it is 1"]),
    ],
)
def test_a_prompt_that_a_file_was_not_tuned_for_is_warned_of_once(tmp_path, context, batch, expected):
    cache = tuned_for(tmp_path, context, batch)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        answer, _ = generated(tiny(), prompts(1, 40), 4, past_key_values=cache)
        cache.reset()
        generated(tiny(), prompts(1, 40), 4, past_key_values=cache)
    assert answer.shape == (1, 4)
    assert [str(one.message) for one in found] == [f"{tmp_path / 'tuned.json'}: {message}" for message in expected]
