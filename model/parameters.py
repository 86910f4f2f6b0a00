"""What can be set of dense, streaming and LSH-sampled attention."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from truffle.model.schema import Frozen, Layers


class Probing(Frozen):
    """Which buckets of a table are visited: the query's own, all within a Hamming radius, or the nearest by margin.

    `amount` is the radius of a ball, and the number of buckets, the own one included, where the query directs.
    """

    kind: Literal["none", "ball", "directed"] = "none"
    amount: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _amount_goes_with_kind(self) -> Probing:
        least, most = {"none": (0, 0), "ball": (1, 3), "directed": (2, 64)}[self.kind]
        if not least <= self.amount <= most:
            wanted = f"{least} to {most}" if most else "0"
            raise ValueError(f"probing.amount: expected {wanted} where kind is {self.kind!r}, got {self.amount}")
        return self

    @property
    def ball(self) -> int:
        """The Hamming radius of what is probed whatever the query is."""
        return self.amount if self.kind == "ball" else 0

    @property
    def name(self) -> str:
        """Such as ``none``, ``ball 1`` or ``directed 8``."""
        return f"{self.kind} {self.amount}" if self.amount else self.kind

    @classmethod
    def named(cls, name: str) -> Probing:
        """The reverse of `name`."""
        kind, _, amount = name.partition(" ")
        return cls.model_validate({"kind": kind, "amount": int(amount or 0)})


class DenseParameters(Frozen):
    """Exact attention over everything."""

    method: ClassVar[str] = "dense"


class StreamingParameters(Frozen):
    """Sink and window only (StreamingLLM, arXiv 2309.17453, without re-indexed positions)."""

    method: ClassVar[str] = "streaming"
    sink: int = Field(default=4, ge=0)
    window: int = Field(default=64, ge=1)
    dense_layers: Layers = (0, 16)


Family = Literal["simhash", "simple_lsh", "cross_polytope"]
MOST_COORDINATES = 128


class LshParameters(Frozen):
    """LSH-sampled attention; the defaults are MagicPIG's (arXiv 2410.16179, section 5).

    A code has K bits whatever the family, so that indexes of equal K and L are equally large. A cross-polytope hash
    over `coordinates` m takes log2(2m) of them; the last hash of a table has fewer coordinates where that does not
    divide K. SimpleLSH is there to show what it costs: it has no fast layer, for the kernels' law is by the angle to
    the key itself, and its layers compare the codes of all keys.
    """

    method: ClassVar[str] = "lsh"
    K: int = Field(default=10, ge=1, le=16)
    L: int = Field(default=150, ge=1, le=4096)
    min_hits: int = Field(default=2, ge=1, le=3)
    probing: Probing = Probing()
    family: Family = Field(default="simhash", description="what codes are made of")
    coordinates: int | None = Field(
        default=None, description="projections a cross_polytope hash is the largest of, a power of two"
    )
    centred: bool = True
    sink: int = Field(default=4, ge=0)
    window: int = Field(default=64, ge=1)
    dense_layers: Layers = (0, 16)
    seal_tokens: int = Field(default=1024, ge=1, le=65_536)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _enough_tables(self) -> LshParameters:
        if self.min_hits > self.L:
            raise ValueError(f"min_hits: expected at most L = {self.L}, got {self.min_hits}")
        return self

    @model_validator(mode="after")
    def _coordinates_are_the_familys(self) -> LshParameters:
        m = self.coordinates
        if self.family != "cross_polytope":
            if m is not None:
                raise ValueError(f"coordinates: expected none where family is {self.family}, got {m}")
            return self
        most = min(MOST_COORDINATES, 1 << self.K - 1)  # one hash of all K bits
        if m is None or not 1 <= m <= most or m & (m - 1):
            raise ValueError(f"coordinates: expected a power of two up to {most} where K is {self.K}, got {m}")
        return self

    @model_validator(mode="after")
    def _only_planes_have_neighbours(self) -> LshParameters:
        if self.family != "simhash" and self.probing.kind != "none":
            raise ValueError(f"probing: expected none where family is {self.family}, got {self.probing.name}")
        return self

    @model_validator(mode="after")
    def _probing_leaves_buckets_out(self) -> LshParameters:
        kind, amount = self.probing.kind, self.probing.amount
        if kind == "ball" and amount >= self.K:
            raise ValueError(f"probing.amount: expected less than K = {self.K}, got {amount}")
        if kind == "directed" and amount >= 1 << self.K:
            raise ValueError(f"probing.amount: expected less than 2^K = {1 << self.K}, got {amount}")
        return self

    @property
    def has_fast_layer(self) -> bool:
        """Whether the kernels' law, by the angle between query and centred key, is that of the codes."""
        return self.family != "simple_lsh"


PAPER_DEFAULT = LshParameters()
