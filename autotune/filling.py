"""What sampling leaves of the card's memory, filled with dense layers: how many that is, and how records write it.

A sampled layer whose keys the host holds takes several times as long as one that the card attends exactly (about 600
against 100 us a token at 96K, Llama-3.1-8B, batch 1), so that every layer that still fits is worth its place.
"""

from __future__ import annotations

from truffle.bench.vram import building_bytes, filled
from truffle.model.config import PAPER_DEFAULT, DecodeConfig, LshParameters, ModelShape

OWN_LAYERS = PAPER_DEFAULT.dense_layers


def filled_layers(shape: ModelShape, context: int, batch: int, room_bytes: int) -> tuple[int, ...] | None:
    """The dense layers where as many more than the method's own are kept as `room_bytes` of the card hold beside what
    filling their caches takes in passing.

    None where there is no room for one more, or for all of them: that is exact attention, a rival of its own. How keys
    are hashed and stored makes no difference, as the host holds them.
    """
    own = tuple(layer for layer in OWN_LAYERS if layer < shape.layers)
    execution = DecodeConfig().execution.model_copy(update={"batch_size": batch})
    config = DecodeConfig(parameters=with_layers(PAPER_DEFAULT, own), execution=execution)
    found = filled(shape, config, context, room_bytes - building_bytes(shape, context)).parameters
    assert isinstance(found, LshParameters)
    return found.dense_layers if len(own) < len(found.dense_layers) < shape.layers else None


def with_layers(parameters: LshParameters, layers: tuple[int, ...]) -> LshParameters:
    """The parameters with other dense layers."""
    return parameters.model_copy(update={"dense_layers": layers})


def written(layers: tuple[int, ...]) -> str:
    """Such as ``0,16``."""
    return ",".join(map(str, layers))


def read(text: str | None) -> tuple[int, ...]:
    """The reverse of `written`; the method's own where nothing is written."""
    return OWN_LAYERS if text is None else tuple(int(layer) for layer in text.split(",") if layer)
