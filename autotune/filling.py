"""What sampling leaves of the card's memory, filled with dense layers: how many that is, and how records write it.

A layer whose tables the host holds takes several times as long as one that the card attends exactly (about 600 against
100 us a token at 96K, Llama-3.1-8B, batch 1), so that every layer that still fits is worth its place. A scanned layer
takes less, by its share of the keys, and some of the place: there the search tells.
"""

from __future__ import annotations

from typing import TypeAlias

from truffle.bench.vram import building_bytes, filled
from truffle.model.config import PAPER_DEFAULT, DecodeConfig, LshParameters, ModelShape, ScanParameters

OWN_LAYERS = PAPER_DEFAULT.dense_layers
Sampling: TypeAlias = LshParameters | ScanParameters


def filled_layers(shape: ModelShape, config: DecodeConfig, context: int, room_bytes: int) -> tuple[int, ...] | None:
    """The dense layers of `config`, of lsh or scan, where as many more than the methods' own are kept as `room_bytes`
    of the card hold beside what filling their caches takes in passing.

    None where there is no room for one more, or for all of them: that is exact attention, a rival of its own.
    """
    own = tuple(layer for layer in OWN_LAYERS if layer < shape.layers)
    assert isinstance(config.parameters, Sampling)
    config = config.model_copy(update={"parameters": with_layers(config.parameters, own)})
    found = filled(shape, config, context, room_bytes - building_bytes(shape, context)).parameters
    assert isinstance(found, Sampling)
    return found.dense_layers if len(own) < len(found.dense_layers) < shape.layers else None


def default_tables(batch: int) -> DecodeConfig:
    """The paper's default for a batch: how keys are hashed and stored is the host's affair, and fills no card."""
    execution = DecodeConfig().execution.model_copy(update={"batch_size": batch})
    return DecodeConfig(parameters=PAPER_DEFAULT, execution=execution)


def adds_layers(layers: tuple[int, ...]) -> bool:
    """Whether some are not the methods' own."""
    return not set(OWN_LAYERS).issuperset(layers)


def with_layers(parameters: Sampling, layers: tuple[int, ...]) -> Sampling:
    """The parameters with other dense layers."""
    return parameters.model_copy(update={"dense_layers": layers})


def written(layers: tuple[int, ...]) -> str:
    """Such as ``0,16``."""
    return ",".join(map(str, layers))


def read(text: str | None) -> tuple[int, ...]:
    """The reverse of `written`; the method's own where nothing is written."""
    return OWN_LAYERS if text is None else tuple(int(layer) for layer in text.split(",") if layer)
