"""Which intervals and claims are measured, and the records of a set of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from truffle.bench.guarantees import scans, violations
from truffle.bench.guarantees.coverage import METHODS, Draw, measure_coverage
from truffle.bench.guarantees.positions import Position
from truffle.model.operations import Operations


@dataclass(frozen=True)
class Plan:
    """Methods whose intervals are measured; claims of vAttention, and settings of the scan."""

    methods: Mapping[str, Draw]
    claims: Sequence[tuple[str, str, str]]
    scans: Sequence[dict[str, Any]]

    def intervals(self, places: Sequence[Position], draws: int, ops: Operations) -> Iterator[dict[str, Any]]:
        """A record a method."""
        yield from ({"op": "coverage", **r} for r in measure_coverage(places, draws, ops, self.methods))

    def promises(
        self, places: Sequence[Position], epsilons: Sequence[float], keys: int, draws: int, ops: Operations
    ) -> Iterator[dict[str, Any]]:
        """A record a claim and epsilon; `keys` are drawn first, and as many are of a heavy set."""
        told = places, epsilons, keys, draws, ops
        yield from ({"op": "guarantee", **r} for r in violations.measure_claims(*told, claims=self.claims))
        yield from ({"op": "guarantee", **r} for r in scans.measure_scan_claims(*told, settings=self.scans))

    def rows(self, epsilons: Sequence[float]) -> int:
        """Records of both."""
        return len(self.methods) + len(epsilons) * (len(self.claims) + len(self.scans))


def plain(method: str) -> Plan:
    """Of all methods, or of the scan."""
    own = scans.intervals(scans.SAMPLES)
    if method == "scan":
        return Plan(own, (), scans.CLAIMS)
    return Plan(METHODS | own, violations.CLAIMS, scans.CLAIMS)


def planted() -> Plan:
    """Of what may be misled by planted keys: the scan by floor, and vAttention, for comparison."""
    return Plan(scans.intervals(scans.PLANTED), violations.PLANTED, scans.PLANTED)
