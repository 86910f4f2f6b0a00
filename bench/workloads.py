"""What is timed: a model's shape at a context length, written ``llama-3.1-8b@96k``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from truffle.kernels.checks import expect
from truffle.model.config import LshParameters, MethodParameters, ModelShape
from truffle.model.shapes import SHAPES


class WorkloadError(ValueError):
    """A workload that is not known."""


@dataclass(frozen=True)
class Workload:
    """A model's shape, the tokens cached when decoding starts, and the tokens decoded.

    Attributes:
        id: as it was written.
        model: a key of SHAPES.
        context: tokens; ``96k`` is 98,304.
        deviation: of the cosines of synthetic queries and keys; None for those of MagicPIG's Table 9.
    """

    id: str
    model: str
    context: int
    new_tokens: int = 128
    deviation: float | None = None

    def sampling(self, share: float | None, parameters: MethodParameters) -> Workload:
        """This with keys of which the method's tables sample a share; with None, this.

        Raises:
            ArgumentError: no such keys, or no tables.
        """
        if share is None:
            return self
        from truffle.bench.calibration import deviation_for

        tables = isinstance(parameters, LshParameters)
        expect(tables, "sampled", "the method lsh, whose tables sample", parameters.method)
        assert isinstance(parameters, LshParameters)
        return replace(self, deviation=deviation_for(parameters, share, self.shape.head_dim))

    @property
    def shape(self) -> ModelShape:
        """Shape of the model."""
        return SHAPES[self.model]


def parse_workload(text: str) -> Workload:
    """Read ``MODEL@CONTEXT``, the context in tokens or, with ``k``, in units of 1,024.

    Raises:
        WorkloadError: unknown model, or no context; the message lists the models.
    """
    model, _, context = text.lower().partition("@")
    match = re.fullmatch(r"(\d+)(k?)", context)
    if model not in SHAPES or not match or int(match[1]) == 0:
        known = ", ".join(SHAPES)
        raise WorkloadError(
            f"workload: expected MODEL@CONTEXT such as llama-3.1-8b@96k with MODEL one of {known}, got {text!r}"
        )
    tokens = int(match[1]) * (1024 if match[2] else 1)
    if tokens > SHAPES[model].max_positions:
        raise WorkloadError(f"workload: {model} has {SHAPES[model].max_positions} positions, got a context of {tokens}")
    return Workload(text.lower(), model, tokens)
