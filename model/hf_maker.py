"""Makes a model's layer caches where its first keys turn out to be, if there are kernels for such keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from truffle.kernels.checks import expect
from truffle.kernels.waiting import set_wait_policy
from truffle.model.config import ModelShape
from truffle.model.hf_settings import Settings
from truffle.model.methods.base import LayerCache
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations

DTYPES = (torch.float32, torch.bfloat16)


class Maker:
    """Makes the LayerCaches of a model where its keys turn out to be.

    Attributes:
        config: what they decode with.
        caches: one a layer, none before the first keys have come.
    """

    def __init__(self, shape: ModelShape, settings: Settings) -> None:
        self.shape, self.config, self._settings = shape, settings.config, settings
        self.caches: list[LayerCache] = []
        self._device: torch.device | None = None

    def cache(self, index: int, keys: Sequence[torch.Tensor]) -> LayerCache:
        """The cache of a layer for prompts, one [Hkv, n, d] a row of the batch.

        Raises:
            ArgumentError: the layers are on several devices, or keys of another model or of a dtype that there is no
                kernel for.
        """
        device = keys[0].device
        self._check(keys)
        if self._device is None:
            self._settings.warn_if_far(max(row.shape[1] for row in keys), len(keys))
            self._make(device)
        expect(device == self._device, "device_map", f"every layer on {self._device}", f"layer {index} on {device}")
        return self.caches[index]

    def expect_made_for(self, shape: ModelShape) -> None:
        """Raise ArgumentError where a model of another shape decodes through these."""
        for name in ("layers", "kv_heads", "head_dim"):
            ours, theirs = getattr(self.shape, name), getattr(shape, name)
            expect(ours == theirs, "past_key_values", f"a cache for {name} {theirs} as in the model", f"one for {ours}")

    def _check(self, keys: Sequence[torch.Tensor]) -> None:
        heads, _, head_dim = keys[0].shape
        self.expect_made_for(self.shape.model_copy(update={"kv_heads": heads, "head_dim": head_dim}))
        remedy = "torch.float32 or torch.bfloat16 (load the model with dtype=torch.bfloat16)"
        expect(keys[0].dtype in DTYPES, "dtype", remedy, keys[0].dtype)

    def _make(self, device: torch.device) -> None:
        set_wait_policy(self.config.execution.wait_policy)  # the process's, as in Decoder
        self.caches = layer_caches(self.shape, self.config, Operations(self.config, device.type))
        self._device = device
