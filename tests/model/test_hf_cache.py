"""What a TruffleCache does between passes: conversations go on, rows go, and the rest is refused."""

from __future__ import annotations

import pytest
import torch

from tests.model.hf_models import VOCABULARY, cache_for, generated, prompts, tiny
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DenseParameters, LshParameters, MethodParameters, ScanParameters

SETTINGS = [
    DenseParameters(),
    LshParameters(K=4, L=20, sink=2, window=8, dense_layers=(0,), seal_tokens=16),
    ScanParameters(sink=2, window=8, dense_layers=(0,), seal_tokens=16),
]


@pytest.mark.parametrize("parameters", SETTINGS, ids=lambda p: p.method)
def test_a_conversation_goes_on_where_it_was(parameters: MethodParameters):
    """A second prompt behind the first answer is decoded token by token: as if each had been chosen."""
    model, ids, more = tiny(), prompts(2, 40), prompts(2, 7, seed=1)
    cache, other = cache_for(model, parameters), cache_for(model, parameters)
    answer, _ = generated(model, ids, 20, past_key_values=cache)
    _, logits = generated(model, torch.cat([ids, answer, more], dim=1), 5, past_key_values=cache)
    with torch.no_grad():
        model(ids, past_key_values=other)
        for token in torch.cat([answer, more], dim=1).T:
            expected = model(token[:, None], past_key_values=other).logits
    torch.testing.assert_close(logits[:, 0], expected[:, -1], atol=1e-4, rtol=0)


def test_a_conversation_ends_as_it_does_with_sdpa():
    ids, more = prompts(1, 40), prompts(1, 7, seed=1)
    model, other = tiny(), tiny(attention="sdpa")
    cache = cache_for(model, DenseParameters())
    answer, _ = generated(model, ids, 20, past_key_values=cache)
    whole = torch.cat([ids, answer, more], dim=1)
    assert torch.equal(generated(model, whole, 20, past_key_values=cache)[0], generated(other, whole, 20)[0])


def test_a_prompt_of_one_token_is_read():
    tokens, _ = generated(tiny(), prompts(2, 1), 20, past_key_values=cache_for(tiny(), DenseParameters()))
    assert torch.equal(tokens, generated(tiny(attention="sdpa"), prompts(2, 1), 20)[0])


@pytest.mark.parametrize("parameters", SETTINGS, ids=lambda p: p.method)
@pytest.mark.parametrize("chosen", [[2, 0], [1]])
@pytest.mark.parametrize("way", ["batch_select_indices", "reorder_cache"])
def test_rows_are_kept_in_the_order_that_is_asked_for(parameters: MethodParameters, chosen: list[int], way: str):
    model, ids = tiny(), prompts(3, 40)
    cache, other = cache_for(model, parameters), cache_for(model, parameters)
    token = torch.tensor([[5]])
    with torch.no_grad():
        model(ids, past_key_values=cache)
        model(ids[chosen], past_key_values=other)
        getattr(cache, way)(torch.tensor(chosen))
        logits, expected = (model(token.expand(len(chosen), 1), past_key_values=each).logits for each in (cache, other))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_reset_forgets_everything():
    model, cache = tiny(), cache_for(tiny(), SETTINGS[1])
    first = generated(model, prompts(2, 40), 8, past_key_values=cache)[1]
    cache.reset()
    assert cache.get_seq_length() == 0
    assert torch.equal(generated(model, prompts(2, 40), 8, past_key_values=cache)[1], first)


def test_it_counts_what_it_has_seen():
    model, cache = tiny(), cache_for(tiny(), SETTINGS[1])
    assert (cache.get_seq_length(), cache.is_initialized, cache.caches) == (0, False, [])
    generated(model, prompts(2, 40), 8, past_key_values=cache)
    assert (cache.get_seq_length(), cache.is_initialized, cache.layers[0].batch_size) == (47, True, 2)
    assert len(cache.caches) == len(cache)
    assert not cache.is_compileable


def test_a_row_twice_is_refused():
    model, cache = tiny(), cache_for(tiny(), SETTINGS[1])
    generated(model, prompts(2, 40), 2, past_key_values=cache)
    with pytest.raises(ArgumentError, match="reorder_cache: expected every row once at most"):
        cache.reorder_cache(torch.tensor([1, 1]))


@pytest.mark.parametrize(("operation", "argument"), [("crop", -3), ("batch_repeat_interleave", 2), ("offload", 0)])
def test_what_it_cannot_do_is_refused_by_name(operation: str, argument: int):
    model, cache = tiny(), cache_for(tiny(), SETTINGS[1])
    generated(model, prompts(2, 40), 2, past_key_values=cache)
    with pytest.raises(NotImplementedError, match=operation):
        getattr(cache, operation)(argument)


def test_another_batch_is_refused():
    model, cache = tiny(), cache_for(tiny(), DenseParameters())
    with torch.no_grad():
        model(prompts(2, 40), past_key_values=cache)
        with pytest.raises(ArgumentError, match="input_ids: expected the 2 rows that the cache holds, got 3"):
            model(prompts(3, 1), past_key_values=cache)


def test_a_cache_of_inference_mode_decodes_outside_of_it():
    model, cache = tiny(), cache_for(tiny(), SETTINGS[1])
    with torch.inference_mode():
        model(prompts(2, 40), past_key_values=cache)
    logits = model(prompts(2, 1), past_key_values=cache).logits
    assert logits.shape == (2, 1, VOCABULARY)
    assert logits.isfinite().all()
