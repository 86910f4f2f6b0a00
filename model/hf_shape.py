"""What a transformers config says of a model's sizes, and which models are not decoded."""

from __future__ import annotations

from typing import Any

from truffle.kernels.checks import expect
from truffle.model.config import ModelShape

# Models whose attention does not take the cache's keys as they are.
_OWN_ATTENTION = {
    "diffllama": "attention that is called twice for the same keys",
    "doge": "masks of its own",
    "jetmoe": "keys that are repeated behind the cache",
}


def shape_of(config: Any) -> ModelShape:
    """Sizes of the decoder behind a transformers config.

    Raises:
        ArgumentError: it does not attend causally to everything, with what stands in the way by name.
    """
    wanted = "a transformers config, such as model.config"
    expect(hasattr(config, "get_text_config"), "config", wanted, type(config).__name__)
    text = config.get_text_config(decoder=True)
    _expect_supported(text)
    hidden, heads = _size(text, "hidden_size"), _size(text, "num_attention_heads")
    return ModelShape(
        layers=_size(text, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_given(text, "intermediate_size", "ffn_dim", "n_inner") or 4 * hidden,
        heads=heads,
        kv_heads=_given(text, "num_key_value_heads") or heads,
        head_dim=_given(text, "head_dim") or hidden // heads,
        vocabulary=_size(text, "vocab_size"),
    )


def _size(text: Any, name: str) -> int:
    found = _given(text, name)
    expect(isinstance(found, int), text.model_type, f"a number {name} in its config", found)
    return found


def _given(text: Any, *names: str) -> Any:
    """What a config says under the first of these names that it has."""
    return next((found for name in names if (found := getattr(text, name, None))), None)


def _expect_supported(text: Any) -> None:
    model = text.model_type
    both = getattr(text, "is_encoder_decoder", False) or hasattr(text, "encoder_layers")
    expect(not both, model, "a decoder alone", "an encoder-decoder")
    own = _OWN_ATTENTION.get(model)
    expect(own is None, model, "attention once a layer, over what is cached", own)
    _expect_full_attention(text)
    shared = getattr(text, "num_kv_shared_layers", 0)
    expect(not shared, model, "keys and values of its own in every layer", f"{shared} layers that share them")


def _expect_full_attention(text: Any) -> None:
    kinds = getattr(text, "layer_types", None)
    if kinds:
        other = sorted({*kinds} - {"full_attention"})
        expect(not other, text.model_type, "layers of full_attention only", ", ".join(other))
        return
    for name in ("sliding_window", "attention_chunk_size"):
        found = getattr(text, name, None)
        expect(found is None, text.model_type, f"full attention in every layer ({name} None)", f"{name} {found}")
