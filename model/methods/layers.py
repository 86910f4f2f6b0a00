"""Builds the cache of every layer of a decoder from its config."""

from __future__ import annotations

from functools import partial

import torch

from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    LshParameters,
    ModelShape,
    ScanParameters,
    SelectingParameters,
)
from truffle.model.methods.base import LayerCache
from truffle.model.methods.choosing.collisions import Collisions
from truffle.model.methods.choosing.methods import selector_of
from truffle.model.methods.choosing.scan import Scanned
from truffle.model.methods.dense import DenseLayer
from truffle.model.methods.fused import FusedLayer
from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.resident import ResidentLayer
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.scanned import ScannedLayer
from truffle.model.methods.sealing import SealingLayer
from truffle.model.methods.selecting import SelectingLayer
from truffle.model.methods.selector import Selector
from truffle.model.methods.streaming import StreamingLayer
from truffle.model.operations import Operations


def layer_caches(shape: ModelShape, config: DecodeConfig, ops: Operations) -> list[LayerCache]:
    """An empty cache for every layer of the model."""
    return [_layer(shape, config, ops, index) for index in range(shape.layers)]


def _layer(shape: ModelShape, config: DecodeConfig, ops: Operations, index: int) -> LayerCache:
    p = config.parameters
    if isinstance(p, DenseParameters) or index in p.dense_layers:
        return DenseLayer(ops)
    if isinstance(p, LshParameters | ScanParameters) and not p.has_fast_layer:
        sample = Collisions if isinstance(p, LshParameters) else Scanned
        return SelectingLayer(p.sink, p.window, p.seed, index, partial(sample, p, index, shape.head_dim, ops))
    if isinstance(p, LshParameters | ScanParameters):
        selector = _table_or_scan(p, index, shape.head_dim, ops)
        dtype = getattr(torch, config.execution.store_format)
        return _sampled_kind(config, ops)(p.sink, p.window, p.seal_tokens, dtype, selector, ops)
    if isinstance(p, SelectingParameters):
        new_selector = partial(selector_of, p, index, shape.head_dim, ops)
        return SelectingLayer(p.sink, p.window, getattr(p, "seed", 0), index, new_selector)
    return StreamingLayer(p, ops)


def _sampled_kind(config: DecodeConfig, ops: Operations) -> type[SealingLayer]:
    if config.resident:
        return ResidentLayer
    return FusedLayer if config.fused else ScannedLayer if ops.scans_beside else SampledLayer


def _table_or_scan(p: LshParameters | ScanParameters, layer: int, head_dim: int, ops: Operations) -> Selector:
    if isinstance(p, ScanParameters):
        return ScanSelector(p, layer, head_dim, ops)
    return LshSelector(p, layer, head_dim, ops)
