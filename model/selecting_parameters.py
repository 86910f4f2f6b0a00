"""What can be set of the reference methods, which keep all keys exact and choose among them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from truffle.model.parameters import LshParameters
from truffle.model.schema import Frozen, Layers

LEAST_BASE = 2  # keys that a spread can be estimated from
SEAL_TOKENS = 64  # that a heavy set's tables take together


def _budget(given: Any) -> int | float:
    """A count, or a fraction, told apart by how it is written: 1 is one key, 1.0 all of them."""
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = -1.0
    whole = isinstance(given, int) or (isinstance(given, str) and given.strip().isdigit())
    if isinstance(given, bool) or number < 0 or not (whole or number <= 1):
        raise ValueError("expected a count such as 128, or a fraction from 0.0 to 1.0")
    return int(number) if whole else number


Budget = Annotated[int | float, BeforeValidator(_budget)]


def keys_of(budget: int | float, n: int) -> int:
    """Keys that a budget means where there are n: the count, or the fraction rounded, but one at least."""
    if isinstance(budget, int):
        return min(budget, n)
    return min(n, max(1, round(budget * n))) if budget > 0 else 0


class SelectingParameters(Frozen):
    """What the reference methods share: sink and window are attended, the budget is of the keys between them."""

    method: ClassVar[str]
    sink: int = Field(default=4, ge=0)
    window: int = Field(default=64, ge=1)
    dense_layers: Layers = (0, 16)


class OracleTopKParameters(SelectingParameters):
    """The keys of the largest exact scores."""

    method: ClassVar[str] = "oracle_topk"
    budget: Budget = Field(default=0.05, description="keys chosen, a count or a fraction")


class OracleTopPParameters(SelectingParameters):
    """The fewest keys that, with sink and window, hold a share of all attention."""

    method: ClassVar[str] = "oracle_topp"
    mass: float = Field(default=0.95, ge=0, le=1, description="share of the attention that is kept")


class QuestParameters(SelectingParameters):
    """Whole pages, by an upper bound of their scores (Quest, arXiv 2406.10774)."""

    method: ClassVar[str] = "quest"
    budget: Budget = Field(default=0.05, description="keys chosen, a count or a fraction")
    page_size: int = Field(default=16, ge=1, description="keys a page")


class OracleSamplingParameters(SelectingParameters):
    """Draws from the exact attention weights, with replacement (MagicPIG, arXiv 2410.16179, Definition 3.1)."""

    method: ClassVar[str] = "oracle_sampling"
    budget: Budget = Field(default=0.05, description="draws, a count or a fraction of the keys")
    draws: Literal["iid", "systematic"] = Field(default="iid", description="iid, or systematic: evenly spaced")
    seed: int = Field(default=0, ge=0)


class UniformParameters(SelectingParameters):
    """A uniform sample without replacement."""

    method: ClassVar[str] = "uniform"
    budget: Budget = Field(default=0.05, description="keys chosen, a count or a fraction")
    seed: int = Field(default=0, ge=0)


class PriorityParameters(SelectingParameters):
    """Priority sampling by exact weights, over one uniform number a key (Duffield, Lund, Thorup 2007)."""

    method: ClassVar[str] = "priority"
    budget: Budget = Field(default=0.05, description="keys chosen, a count or a fraction")
    seed: int = Field(default=0, ge=0)


class VAttentionParameters(SelectingParameters):
    """A heavy set, and of the rest a uniform sample as large as the wanted error asks for (arXiv 2510.05688).

    Off by more than `epsilon`, relatively, with probability `delta` at most: the denominator, or where both are
    checked the output. The central limit theorem asks for a normal mean and a base large enough for its spread; the
    other bounds always hold, for which the heavy set must bound the weights it leaves.
    """

    method: ClassVar[str] = "vattention"
    heavy: Literal["oracle", "quest", "lsh"] = Field(default="oracle", description="who finds the heavy set")
    heavy_budget: Budget = Field(default=0.05, description="keys of the heavy set, a count or a fraction")
    base_budget: Budget = Field(default=0.05, description="keys drawn first, to estimate how many are needed")
    epsilon: float = Field(default=0.1, gt=0, lt=1, description="relative error that is allowed")
    delta: float = Field(default=0.1, gt=0, lt=1, description="share of the steps that may exceed it")
    bound: Literal["clt", "bernstein", "hoeffding"] = Field(default="clt", description="how the sample is made enough")
    check: Literal["denominator", "both"] = Field(default="denominator", description="what is held to epsilon")
    page_size: int = Field(default=16, ge=1, description="keys a page")
    K: int = Field(default=10, ge=1, le=16)
    L: int = Field(default=150, ge=1, le=4096)
    min_hits: int = Field(default=2, ge=1, le=3)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _bounds_are_known(self) -> VAttentionParameters:
        if self.min_hits > self.L:
            raise ValueError(f"min_hits: expected at most L = {self.L}, got {self.min_hits}")
        if self.bound == "clt":
            return self
        if self.heavy == "lsh" or self.heavy_budget == 0:
            why = "heavy is lsh" if self.heavy == "lsh" else "heavy_budget is 0"
            raise ValueError(f"bound: expected clt where {why}, since nothing bounds the rest, got {self.bound}")
        return self

    @model_validator(mode="after")
    def _vectors_are_bound(self) -> VAttentionParameters:
        if self.check == "both" and self.bound != "clt":
            raise ValueError(f"bound: expected clt where check is both, got {self.bound}")
        if self.check == "both" and self.delta > 0.4:
            raise ValueError(f"delta: expected at most 0.4 where check is both, got {self.delta}")
        return self

    @property
    def tables(self) -> LshParameters:
        """Those of a heavy set found by collisions."""
        own = {name: getattr(self, name) for name in ("K", "L", "min_hits", "sink", "window", "dense_layers", "seed")}
        return LshParameters(seal_tokens=SEAL_TOKENS, **own)
