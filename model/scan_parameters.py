"""What can be set of attention that is sampled by a scan of keys in a few bits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from truffle.model.schema import Frozen, Layers
from truffle.model.selecting_parameters import Budget, keys_of


def _whole(given: Any) -> Any:
    """A number as a command line writes it."""
    return int(given) if isinstance(given, str) and given.strip().isdigit() else given


MOST_DELTA_OF_VECTORS = 0.2  # within what Szekely and Bakirov (2003) have shown of the length of a normal vector


class ScanParameters(Frozen):
    """Poisson sampling by a proposal from quantised keys, weighed by exact scores.

    The budget is of the keys that are stored and scanned. They are expected of a sample in the mean, `floor` of them
    drawn uniformly, so that no weight exceeds n / (floor * budget): a key whose estimate is far too low can only do so
    much harm. A budget of all keys takes them with certainty.

    With `epsilon` and `delta` the budget is what is drawn first: every row raises it, its floor too, until by the
    estimate of its own sample no head is off by more than epsilon but with probability delta. What that estimate cannot
    see, heavy keys that the scan holds to be light and the sample misses, no epsilon covers.
    """

    method: ClassVar[str] = "scan"
    bits: Annotated[Literal[1, 2, 4], BeforeValidator(_whole)] = Field(
        default=4, description="bits a coordinate of the keys that are scanned"
    )
    budget: Budget = Field(default=0.02, description="keys chosen, a count or a fraction")
    per: Literal["group", "head"] = Field(
        default="group",
        description="whose sample it is: a key/value head's with all its query heads, or a query head's",
    )
    floor: float = Field(default=0.1, ge=0, le=1, description="share of the budget that is drawn uniformly")
    epsilon: float | None = Field(default=None, gt=0, lt=1, description="relative error that is allowed")
    delta: float | None = Field(default=None, gt=0, lt=1, description="share of the steps that may exceed it")
    check: Literal["denominator", "both"] = Field(default="denominator", description="what is held to epsilon")
    centred: bool = True
    sink: int = Field(default=4, ge=0)
    window: int = Field(default=64, ge=1)
    dense_layers: Layers = (0, 16)
    seal_tokens: int = Field(default=128, ge=1, le=65_536)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _promises_are_whole(self) -> ScanParameters:
        if (self.epsilon is None) != (self.delta is None):
            there, missing = ("epsilon", "delta") if self.delta is None else ("delta", "epsilon")
            raise ValueError(f"{missing}: expected one where there is {there}, got none")
        if self.epsilon is not None and self.budget == 0:
            raise ValueError("budget: expected more than nothing where there is epsilon, got 0")
        if self.check == "both" and self.delta is not None and self.delta > MOST_DELTA_OF_VECTORS:
            raise ValueError(f"delta: expected at most {MOST_DELTA_OF_VECTORS} where check is both, got {self.delta}")
        return self

    @property
    def has_fast_layer(self) -> bool:
        """Whether the sample is known before anything is attended: how far it is off takes exact scores to tell."""
        return self.epsilon is None

    @property
    def fixed(self) -> ScanParameters:
        """The same with the budget as it is."""
        return self.model_copy(update={"epsilon": None, "delta": None})

    def expected(self, n: int) -> tuple[float, float]:
        """Keys of n to expect of the proposal, and of the uniform sample; together no more than the budget."""
        keys = keys_of(self.budget, n)
        return (float(n), 0.0) if keys == n else (keys * (1 - self.floor), keys * self.floor)
