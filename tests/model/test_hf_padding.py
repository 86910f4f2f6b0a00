"""Padded batches with attention "truffle": each row decodes as it does alone."""

from __future__ import annotations

import pytest
import torch

from tests.model.hf_models import cache_for, generated, prompts, tiny
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DenseParameters, LshParameters, MethodParameters, ScanParameters

SETTINGS = [
    DenseParameters(),
    LshParameters(K=4, L=20, sink=2, window=8, dense_layers=(0,), seal_tokens=16),
    ScanParameters(sink=2, window=8, dense_layers=(0,), seal_tokens=16),
]
LENGTHS = (60, 23, 9)


def padded(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded prompts [B, n] and their mask."""
    ids = prompts(len(lengths), max(lengths))
    mask = torch.stack([torch.arange(max(lengths)) >= max(lengths) - length for length in lengths])
    return ids * mask, mask.long()


@pytest.mark.parametrize("parameters", SETTINGS, ids=lambda p: p.method)
def test_rows_of_a_padded_batch_decode_as_they_do_alone(parameters: MethodParameters):
    model, (ids, mask) = tiny(), padded(LENGTHS)
    tokens, logits = generated(model, ids, 40, attention_mask=mask, past_key_values=cache_for(model, parameters))
    for row, length in enumerate(LENGTHS):
        cache = cache_for(model, parameters)
        alone, expected = generated(model, ids[row : row + 1, -length:], 40, past_key_values=cache)
        assert torch.equal(tokens[row], alone[0])
        torch.testing.assert_close(logits[row], expected[0], atol=1e-3, rtol=0)


def test_padding_is_not_cached():
    model, (ids, mask) = tiny(), padded(LENGTHS)
    cache = cache_for(model, SETTINGS[1])
    generated(model, ids, 6, attention_mask=mask, past_key_values=cache)
    usage = cache.caches[1].usage()
    assert usage is not None
    assert usage.tokens.tolist() == [length + 5 for length in LENGTHS]  # the last token is not read


def test_what_is_padding_does_not_matter():
    model, (ids, mask) = tiny(), padded(LENGTHS)
    _, logits = generated(model, ids, 8, attention_mask=mask)
    _, other = generated(model, torch.where(mask.bool(), ids, 77), 8, attention_mask=mask)
    assert torch.equal(logits, other)


def test_greedy_rows_say_what_they_say_with_sdpa():
    ids, mask = padded(LENGTHS)
    model, exact = tiny(), cache_for(tiny(), DenseParameters())
    tokens, _ = generated(model, ids, 64, attention_mask=mask, past_key_values=exact)
    assert torch.equal(tokens, generated(tiny(attention="sdpa"), ids, 64, attention_mask=mask)[0])


def test_rows_padded_in_their_middle_are_refused():
    ids, mask = padded((20, 20))
    mask[1, 7] = 0
    with pytest.raises(ArgumentError, match="attention_mask: expected padding at the ends of rows only"):
        tiny()(ids, attention_mask=mask)


def test_a_row_of_padding_alone_is_refused():
    ids, mask = padded((20, 20))
    mask[1] = 0
    with pytest.raises(ArgumentError, match="attention_mask: expected a token at least in every row"):
        tiny()(ids, attention_mask=mask)


def test_padding_behind_what_is_cached_is_refused():
    model, (ids, mask) = tiny(), padded((20, 20))
    cache = cache_for(model, DenseParameters())
    with torch.no_grad():
        model(ids, attention_mask=mask, past_key_values=cache)
        longer = torch.cat([mask, torch.tensor([[1], [0]])], dim=1)
        with pytest.raises(ArgumentError, match=r"no padding behind what is cached \(.* a new TruffleCache\)"):
            model(ids[:, :1], attention_mask=longer, past_key_values=cache)
