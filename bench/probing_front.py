"""Which settings are compared, and which plain index each probing setting has to beat."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from truffle.kernels.store import SEGMENT_TOKENS
from truffle.model.config import LshParameters, Probing

INDEX_TOKENS = 98_304  # the context that index bytes are stated for
MOST_OF_THE_BYTES = 0.6
# Plain tables by bits: from where most keys are read, or the index is smallest, to where hardly any are.
PLAIN_TABLES = {
    5: (4, 40), 6: (6, 60), 7: (10, 95), 8: (16, 130), 9: (20, 200), 10: (30, 320), 11: (50, 450), 12: (80, 620),
}  # fmt: skip
STEP = 1.25
FEW, SOME = (5, 7, 10, 14), (20, 30, 45, 65)


def plain_settings() -> list[LshParameters]:
    """Tables without probing; with one hit half as many do."""
    return [
        LshParameters(K=K, L=L, min_hits=min_hits)
        for K, (least, most) in PLAIN_TABLES.items()
        for min_hits in (1, 2)
        for L in _geometric(least, most * min_hits // 2)
    ]


def probing_settings() -> list[LshParameters]:
    """Few tables that many buckets are read of, and more that fewer are."""
    grids = (
        ((8, 9, 10), FEW, (1, 2), (("directed", 16), ("directed", 32))),
        ((10, 11, 12), SOME[:2], (1,), (("directed", 8), ("directed", 16))),
        ((9, 10, 11, 12), SOME, (2,), (("ball", 1), ("directed", 4), ("directed", 8), ("directed", 16))),
    )
    return [
        LshParameters(K=K, L=L, min_hits=min_hits, probing=Probing(kind=kind, amount=amount))
        for grid in grids
        for K, L, min_hits, (kind, amount) in itertools.product(*grid)
    ]


def _geometric(least: int, most: int) -> Iterable[int]:
    tables = float(least)
    while tables <= most:
        yield round(tables)
        tables *= STEP


def index_bytes_per_token(K: int, L: int) -> float:
    """16-bit ids and 32-bit offsets of one key/value head at INDEX_TOKENS, in segments of 65,536 tokens."""
    segments = -(-INDEX_TOKENS // SEGMENT_TOKENS)
    return L * (2 + 4 * segments * ((1 << K) + 1) / INDEX_TOKENS)


def judge(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of one context, those of probing settings with the plain index that they have to beat.

    ``smallest_*`` is the smallest plain index whose error is no larger; ``rival_*`` the smallest one that moreover
    reads no more keys. ``*_ratio`` is index bytes over its bytes, and `meets` says whether the setting reads no more
    keys than the smallest at MOST_OF_THE_BYTES of its bytes. All are None where no plain setting gets so far.
    """
    plain = sorted((r for r in records if r["probing"] == "none"), key=lambda r: r["index_bytes"])
    return [r if r["probing"] == "none" else r | _judged(r, plain) for r in records]


def _judged(record: dict[str, Any], plain: list[dict[str, Any]]) -> dict[str, Any]:
    reaching = [r for r in plain if r["output_error"] <= record["output_error"]]
    smallest = next(iter(reaching), None)
    rival = next((r for r in reaching if _reads_no_more(r, record)), None)
    found = _against(record, smallest, "smallest") | _against(record, rival, "rival")
    meets = smallest is not None and found["smallest_ratio"] <= MOST_OF_THE_BYTES and _reads_no_more(record, smallest)
    return found | {"meets": meets}


def _reads_no_more(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["density"] <= other["density"] and one["rows"] <= other["rows"]


def _against(record: dict[str, Any], plain: dict[str, Any] | None, name: str) -> dict[str, Any]:
    shown = ("K", "L", "min_hits", "output_error", "density", "rows", "index_bytes")
    found = {f"{name}_{key}": None if plain is None else plain[key] for key in shown}
    return found | {f"{name}_ratio": None if plain is None else record["index_bytes"] / plain["index_bytes"]}


def saving(records: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Probing settings that save at every context, by keys read: name and records in the contexts' order.

    They meet the goal, or take MOST_OF_THE_BYTES of their rival's at most and no other probing setting is as good in
    error, keys and bytes at once.
    """
    settings: dict[str, list[dict[str, Any]]] = {}
    for r in records:
        if r["probing"] != "none":
            name = f"K={r['K']} L={r['L']} hits={r['min_hits']} {r['probing']} {r['amount']}"
            settings.setdefault(name, []).append(r)
    found = [(name, own) for name, own in settings.items() if _saves(own, settings.values())]
    return sorted(found, key=lambda pair: pair[1][0]["density"])


def _saves(own: list[dict[str, Any]], everyone: Iterable[list[dict[str, Any]]]) -> bool:
    if all(r["meets"] for r in own):
        return True
    if not all(r["rival_ratio"] is not None and r["rival_ratio"] <= MOST_OF_THE_BYTES for r in own):
        return False
    return not any(other is not own and _as_good(other, own) for other in everyone)


def _as_good(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    names = ("output_error", "density", "index_bytes")
    return all(a[name] <= b[name] for a, b in zip(one, other, strict=True) for name in names)
