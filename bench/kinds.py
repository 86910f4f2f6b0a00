"""How many layers of a model attend everything, and how many do not."""

from __future__ import annotations

from dataclasses import dataclass

from truffle.model.config import DecodeConfig, DenseParameters, ModelShape


@dataclass(frozen=True)
class LayerKinds:
    """How often each kind of layer occurs in the model."""

    dense: int
    sparse: int


def layer_kinds(shape: ModelShape, config: DecodeConfig) -> LayerKinds:
    """Dense and sparse layers of a model under a config."""
    p = config.parameters
    dense = shape.layers if isinstance(p, DenseParameters) else len(set(p.dense_layers) & set(range(shape.layers)))
    return LayerKinds(dense, shape.layers - dense)
