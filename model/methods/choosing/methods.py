"""The selector of a reference method."""

from __future__ import annotations

from truffle.model.methods.choosing.draws import OracleSampling
from truffle.model.methods.choosing.priority import Priority
from truffle.model.methods.choosing.quest import Quest
from truffle.model.methods.choosing.selector import Selector
from truffle.model.methods.choosing.top import OracleTopK, OracleTopP
from truffle.model.methods.choosing.uniform import Uniform
from truffle.model.methods.choosing.vattention import VAttention
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import (
    OracleSamplingParameters,
    OracleTopKParameters,
    OracleTopPParameters,
    PriorityParameters,
    QuestParameters,
    SelectingParameters,
    UniformParameters,
    VAttentionParameters,
)


def selector_of(p: SelectingParameters, layer: int, head_dim: int, ops: Operations) -> Selector:
    """A new selector, for one request of a layer."""
    match p:
        case OracleTopKParameters():
            return OracleTopK(p)
        case OracleTopPParameters():
            return OracleTopP(p)
        case QuestParameters():
            return Quest(p)
        case OracleSamplingParameters():
            return OracleSampling(p)
        case UniformParameters():
            return Uniform(p)
        case PriorityParameters():
            return Priority(p, layer)
        case VAttentionParameters():
            return VAttention(p, layer, head_dim, ops)
    raise TypeError(f"parameters: expected those of a reference method, got {type(p).__name__}")
