"""The cache that models with attention "truffle" decode through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Cache

from truffle.kernels.checks import ArgumentError
from truffle.model.config import DecodeConfig
from truffle.model.hf_layers import TruffleLayer
from truffle.model.hf_maker import Maker
from truffle.model.hf_settings import settings_of
from truffle.model.hf_shape import shape_of
from truffle.model.methods.base import LayerCache


class TruffleCache(Cache):
    """Keys and values of one batch, for `generate(past_key_values=...)` or `model(past_key_values=...)`.

    Holds what was read and decoded until it is dropped or `reset`; another call of `generate` with the whole
    conversation goes on from there.
    """

    def __init__(
        self,
        config: Any,
        decode: DecodeConfig | Mapping[str, Any] | None = None,
        *,
        tuned: str | Path | None = None,
    ) -> None:
        """For a model with this transformers config. It decodes as `decode` says, or the file `tuned`, or else the
        entry `truffle` of the config, or else with the paper's default; `batch_size` there does not bind. The first
        prompts are compared with what the file was tuned for, and a warning tells where they are farther from it in
        context or batch than its `match` allows.

        Raises:
            ArgumentError: a model or a setting that is not supported, by name.
            TunedFileError: the tuned file cannot be read.
        """
        shape = shape_of(config)
        self._maker = Maker(shape, settings_of(config, shape, decode, tuned))
        self._layers = [TruffleLayer(self._maker, index) for index in range(shape.layers)]
        super().__init__(layers=[*self._layers])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a layer of the model calls before attention.

        Raises:
            ArgumentError: the model has more layers than the cache, or its attention is another.
        """
        if layer_idx >= len(self._layers):
            raise ArgumentError(f"past_key_values: expected a cache for the model's layers, got one for {len(self)}")
        return self._layers[layer_idx].update(key_states, value_states)

    def expect_made_for(self, config: Any) -> None:
        """Raise ArgumentError where the model of a transformers config has other layers or heads."""
        self._maker.expect_made_for(shape_of(config))

    @property
    def decode_config(self) -> DecodeConfig:
        """What it decodes with."""
        return self._maker.config

    @property
    def caches(self) -> list[LayerCache]:
        """One a layer, whose `usage`, `rows` and `memory_bytes` tell of the last step; none before the first prompt."""
        return self._maker.caches
