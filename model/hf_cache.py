"""The cache that models with attention "truffle" decode through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Cache

from truffle.model.config import DecodeConfig
from truffle.model.hf_layers import Maker, TruffleLayer
from truffle.model.hf_settings import settings_of, shape_of
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
        entry `truffle` of the config, or else with the paper's default; `batch_size` there does not bind.

        Raises:
            ArgumentError: a model or a setting that is not supported, by name.
            TunedFileError: the tuned file cannot be read.
        """
        shape = shape_of(config)
        self._maker = Maker(shape, settings_of(config, shape, decode, tuned))
        super().__init__(layers=[TruffleLayer(self._maker, index) for index in range(shape.layers)])

    @property
    def decode_config(self) -> DecodeConfig:
        """What it decodes with."""
        return self._maker.config

    @property
    def caches(self) -> list[LayerCache]:
        """One a layer, whose `usage`, `rows` and `memory_bytes` tell of the last step; none before the first prompt."""
        return self._maker.caches
