"""What transformers calls in every pass: a mask function once, and attention once a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from transformers.masking_utils import causal_mask_function

from truffle.kernels.checks import ArgumentError, expect
from truffle.model.hf_layers import LAYER, TruffleLayer

# What some models pass to attention that changes it.
_CHANGES = ("softcap", "s_aux", "sinks", "position_bias", "sliding_window", "cache")


@dataclass(frozen=True)
class NewTokens:
    """The tokens of a pass.

    Attributes:
        before: tokens in the cache, padding included.
        rows: where each row's own tokens are, a slice of [T] each; None where nothing is padding.
    """

    before: int
    rows: tuple[slice, ...] | None


def new_tokens(
    *,
    kv_length: int,
    mask_function: Any,
    attention_mask: torch.Tensor | None = None,
    q_length: int | None = None,
    cache_position: torch.Tensor | None = None,
    config: Any = None,
    **unused: Any,
) -> NewTokens:
    """What attention is told in place of a mask; `attention_mask` [B, n] is true but for padding.

    Raises:
        ArgumentError: the model asks for a mask that is not causal alone, or rows are padded in their middle or behind
            what is cached.
    """
    if mask_function is not causal_mask_function:
        _refuse_pattern(mask_function, config)
    if q_length is None:  # transformers before 5.5
        assert cache_position is not None
        q_length = len(cache_position)
    before = kv_length - q_length
    if attention_mask is None:
        return NewTokens(before, None)
    expect(attention_mask.shape[1] == kv_length, "attention_mask", f"{kv_length} columns", attention_mask.shape[1])
    real = attention_mask[:, before:].bool().cpu()
    if real.all():
        return NewTokens(before, None)
    remedy = "no padding behind what is cached (after a row that ended early, go on with a new TruffleCache)"
    expect(before == 0, "attention_mask", remedy, "some")
    return NewTokens(before, tuple(_run(row) for row in real))


def _refuse_pattern(mask_function: Any, config: Any) -> NoReturn:
    model = getattr(config, "model_type", "attention")
    other = "another mask: a sliding window, or packed sequences where no attention_mask is given"
    if mask_function.__name__.startswith("bidirectional"):
        other = "attention to all tokens (some encoders decode with is_decoder=True in their config)"
    raise ArgumentError(f"{model}: expected each token to attend to all before it, got {other}")


def _run(real: torch.Tensor) -> slice:
    """The one run of true values in [T]."""
    at = real.nonzero()[:, 0]
    expect(len(at) > 0, "attention_mask", "a token at least in every row", "a row without")
    run = slice(int(at[0]), int(at[-1]) + 1)
    expect(run.stop - run.start == len(at), "attention_mask", "padding at the ends of rows only", "some in between")
    return run


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: NewTokens,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a layer: prompts exactly, and what comes behind them through the layer of a TruffleCache.

    query [B, H, T, d]; key and value [B, Hkv, T, d] of the same tokens; returns [B, T, H, d]. Without a cache it is
    causal attention, and has gradients.

    Raises:
        ArgumentError: keys from another cache, or a kind of attention that is not supported, by name.
    """
    if not isinstance(attention_mask, NewTokens):
        _refuse_mask(module, attention_mask)
    layer: TruffleLayer | None = getattr(key, LAYER, None)
    tokens, own = attention_mask, layer is not None or attention_mask.before == 0
    expect(own and key.shape[2] == query.shape[2], "past_key_values", "a TruffleCache, or none", "another cache")
    if layer is not None:
        layer.take(module)
    if tokens.before == 0:
        _expect_plain(module, kwargs)
        if layer is not None:
            layer.read(*(_each(part, tokens) for part in (key, value)))
        return _read(query, key, value, tokens, scaling, dropout), None
    assert layer is not None
    d = query.shape[-1]
    if scaling is not None and scaling != d**-0.5:  # the layers' own
        query = query * (scaling * d**0.5)
    return layer.decode(query, key, value), None


def _refuse_mask(module: torch.nn.Module, found: Any) -> NoReturn:
    wanted = f"two dimensions, and {type(module).__name__} to use transformers' mask functions"
    raise ArgumentError(f"attention_mask: expected {wanted}, got {type(found).__name__}")


def _expect_plain(module: torch.nn.Module, kwargs: dict[str, Any]) -> None:
    """Refuse attention of another kind, when a prompt is read: a module asks for the same every time."""
    where = f"None ({type(module).__name__} is not supported)"
    for name in _CHANGES:
        expect(kwargs.get(name) is None, name, where, kwargs.get(name))
    causal = kwargs.get("is_causal") is not False and getattr(module, "is_causal", True)
    expect(causal, "is_causal", "true", False)


def _each(part: torch.Tensor, tokens: NewTokens) -> list[torch.Tensor]:
    """[B, Hkv, T, d] row by row, without padding."""
    if tokens.rows is None:
        return list(part)
    return [row[:, own] for row, own in zip(part, tokens.rows, strict=True)]


def _read(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tokens: NewTokens,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """Causal attention among each row's own tokens, [B, T, H, d]; zero where there is padding."""

    def causal(*parts: torch.Tensor) -> torch.Tensor:
        out = F.scaled_dot_product_attention(*parts, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2)

    if tokens.rows is None:
        return causal(query, key, value)
    out = query.new_zeros(query.transpose(1, 2).shape)
    for row, own in enumerate(tokens.rows):
        out[row, own] = causal(*(part[row : row + 1, :, own] for part in (query, key, value)))[0]
    return out
