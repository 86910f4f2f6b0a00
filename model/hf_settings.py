"""What a transformers config says of a model, and which settings it is decoded with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from truffle.kernels import hardware
from truffle.kernels.checks import ArgumentError, expect
from truffle.model import tuned as tuned_files
from truffle.model.config import DecodeConfig, LshParameters, ModelShape, one_line
from truffle.model.runnable import runnable
from truffle.model.stale import stale

NAME = "truffle"


def shape_of(config: Any) -> ModelShape:
    """Sizes of the decoder behind a transformers config.

    Raises:
        ArgumentError: it does not attend causally to everything, with what stands in the way by name.
    """
    text = config.get_text_config(decoder=True)
    model = text.model_type
    expect(not getattr(text, "is_encoder_decoder", False), model, "a decoder alone", "an encoder-decoder")
    _expect_full_attention(text)
    shared = getattr(text, "num_kv_shared_layers", 0)
    expect(not shared, model, "keys and values of its own in every layer", f"{shared} layers that share them")
    heads = text.num_attention_heads
    return ModelShape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocabulary=text.vocab_size,
    )


def _expect_full_attention(text: Any) -> None:
    kinds = getattr(text, "layer_types", None)
    if kinds:
        other = sorted({*kinds} - {"full_attention"})
        expect(not other, text.model_type, "layers of full_attention only", ", ".join(other))
        return
    for name in ("sliding_window", "attention_chunk_size"):
        found = getattr(text, name, None)
        expect(found is None, text.model_type, f"full attention in every layer ({name} None)", f"{name} {found}")


def settings_of(
    config: Any, shape: ModelShape, decode: DecodeConfig | Mapping[str, Any] | None, tuned: str | Path | None
) -> DecodeConfig:
    """`decode`, or the file `tuned`, or else the entry `truffle` of a transformers config, or the paper's default.

    Of what was written down, maybe for another machine, only what can run here is taken, with a warning. A tuned file
    that is named here is taken for every context; `tuned.resolve` finds the nearest.

    Raises:
        ArgumentError: a setting that there is not or that is out of range, by name.
        TunedFileError: the tuned file cannot be read.
    """
    expect(decode is None or tuned is None, "tuned", "None beside decode", tuned)
    if tuned is not None:
        file = tuned_files.load(Path(tuned))
        return _warned(str(tuned), file.config, stale(file, shape, hardware.detect()))
    if decode is not None:
        return _checked(decode)
    entry = getattr(config, NAME, None)
    return DecodeConfig(parameters=LshParameters()) if entry is None else _warned(f"{NAME} in config.json", entry)


def _checked(given: Any) -> DecodeConfig:
    try:
        return DecodeConfig.model_validate(given)
    except ValidationError as error:
        raise ArgumentError(one_line(error)) from error


def _warned(source: str, given: Any, differing: tuple[str, ...] = ()) -> DecodeConfig:
    config, changed = runnable(_checked(given), hardware.detect())
    for message in (*differing, *changed):
        warnings.warn(f"{source}: {message}", stacklevel=4)
    return config
