"""sparse_attend: attention over sampled keys, each weighted by the inverse of its inclusion probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from truffle.kernels import registry
from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.collision import TABLE_CELLS, CollisionLaw, InclusionLaw
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.directed import DirectedLaw
from truffle.kernels.handles import expect_whole_store
from truffle.kernels.store import Store

# The reference attends to the same int8 codes and scales, and sums over a code are as exact as over a float32.
RELATIVE_RMS = {"float32": 2e-5, "bfloat16": 1e-3, "int8": 2e-5}
LSE_ABSOLUTE = {"float32": 1e-4, "bfloat16": 1e-3, "int8": 1e-4}
LSE_ROUNDING = 2.0**-22  # a float32 product of head_dim terms: a logit of 1,000 is not known to 1e-4
INT8 = {"dtype": "int8", "query_dtype": "float32"}


def arguments(case: Case) -> Arguments:
    s = case.sizes
    B, H, Hkv, d = s["B"], s["H"], s["Hkv"], s["d"]
    generator = torch.Generator().manual_seed(case.seed)
    dtype = getattr(torch, s.get("dtype", "float32"))
    q = torch.randn(B, H, d, generator=generator) * s.get("query_scale", 1.0)
    center = torch.randn(B, Hkv, d, generator=generator) if s.get("law", True) else None
    stores, capacity = [], max(max(s["keys"]), 1)
    for request, n in enumerate(s["keys"]):
        keys, values = torch.randn(2, Hkv, n, d, generator=generator)
        if s.get("special") and n > 3:
            keys[:, 0] = 0.0
            keys[:, 1] = center[request] if center is not None else 0.0
            keys[:, 2] = q[request, 0] * 3
        linked = bool(s.get("linked"))  # takes effect on a device
        stores.append(Store.allocate(Hkv, n + 3, d, dtype, linked=linked).appended(keys, values))
    lists = Hkv if s.get("per_group") else H
    ids = torch.full((B * lists, capacity), -1, dtype=torch.int32)
    count = torch.zeros(B * lists, dtype=torch.int32)
    for row in range(B * lists):
        n = s["keys"][row // lists]
        chosen = torch.randperm(n, generator=generator)[: (row * 7) % (n + 1) if s.get("ragged") else n]
        ids[row, : len(chosen)] = chosen.int()
        count[row] = len(chosen)
    return {
        "q": q.to(query_dtype(case)),
        "stores": stores,
        "ids": ids,
        "count": count,
        "center": center,
        "law": _law(s, generator) if center is not None else None,
        "log_weight": None if center is not None else -3 * torch.rand(B * lists, capacity, generator=generator),
        "out": torch.full((B, H, d), torch.nan),
        "lse": torch.full((B, H), torch.nan),
        "scale": d**-0.5,
    }


def _law(s: Mapping[str, Any], generator: torch.Generator) -> InclusionLaw:
    if "directed" not in s:
        return CollisionLaw(**s.get("law", {"K": 8, "L": 75}))
    directed = s["directed"]
    margins = torch.randn(s["B"], s["H"], directed["L"], directed["K"], generator=generator)
    codes = torch.empty(*margins.shape[:3], directed["P"], dtype=torch.uint16)
    log_u = torch.empty(s["B"] * s["H"], TABLE_CELLS + 1)
    registry.get("direct_probes", "reference")(margins, codes, log_u, min_hits=directed["min_hits"])
    return DirectedLaw(margins, codes, log_u, directed["min_hits"])


def query_dtype(case: Case) -> torch.dtype:
    """The rows' dtype, unless the case says otherwise: queries are never int8."""
    return getattr(torch, case.sizes.get("query_dtype", case.sizes.get("dtype", "float32")))


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    stores, law = arguments["stores"], arguments["law"]
    if law is not None:
        rows, found = sizes["B"] * sizes["H"], law.tables.shape
        expect(found[0] in (1, rows), "law", f"tables of 1 or B*H = {rows} rows", found[0])
    expect(len(stores) == sizes["B"], "stores", f"one store a request, B = {sizes['B']}", len(stores))
    by_weight = law is None and arguments["center"] is None and arguments["log_weight"] is not None
    by_law = law is not None and arguments["center"] is not None and arguments["log_weight"] is None
    expect(by_weight or by_law, "law", "either law and center, or log_weight", "both, neither or half")
    expect(sizes["H"] % sizes.get("Hkv", sizes["H"]) == 0, "center", "Hkv that divides H", sizes.get("Hkv"))
    lists, rest = divmod(sizes["lists"], sizes["B"] or 1)
    for request, store in enumerate(stores):
        name = f"stores[{request}]"
        expect_whole_store(store, name, arguments["q"].device)
        expect(store.head_dim == sizes["d"], name, f"head_dim {sizes['d']}", store.head_dim)
        Hkv = store.rows.shape[0]
        expect(sizes["H"] % Hkv == 0, name, f"a key/value head count that divides H = {sizes['H']}", Hkv)
        expect(Hkv == sizes.get("Hkv", Hkv), name, f"{sizes.get('Hkv')} key/value heads as in center", Hkv)
        expect(store.rows.dtype == stores[0].rows.dtype, name, f"{stores[0].rows.dtype}", store.rows.dtype)
        known = (sizes["H"],) if law is not None else (sizes["H"], Hkv)
        wanted = f"B times {' or '.join(str(number) for number in dict.fromkeys(known))} rows"
        expect(not rest and lists in known, "ids", wanted, sizes["lists"])
    counts = arguments["count"]
    if counts.device.type != "cpu":  # to look at it would be to wait for it
        return
    low, high = int(counts.min()), int(counts.max())
    expect(low >= 0 and high <= sizes["capacity"], "count", f"0 to capacity {sizes['capacity']}", (low, high))


def compare(got: Arguments, want: Arguments) -> str | None:
    dtype = str(want["stores"][0].rows.dtype).removeprefix("torch.")
    if not torch.isfinite(got["out"]).all():
        return "out holds NaN or infinity"
    empty = want["lse"] == -torch.inf
    if not torch.equal(got["lse"] == -torch.inf, empty):
        return "lse is -inf for other heads than those with an empty sample"
    error = (got["out"] - want["out"]).norm() / want["out"].norm().clamp_min(1e-30)
    if error > RELATIVE_RMS[dtype]:
        return f"out differs by {error:.2e} (relative RMS), tolerance {RELATIVE_RMS[dtype]:.0e}"
    lse = want["lse"][~empty]
    excess = (got["lse"][~empty] - lse).abs() - LSE_ROUNDING * lse.abs()
    if len(lse) and excess.max() > LSE_ABSOLUTE[dtype]:
        return f"lse differs by {excess.max():.2e} more than its rounding, tolerance {LSE_ABSOLUTE[dtype]:.0e}"
    return None


def bytes_moved(arguments: Arguments) -> int:
    """Rows of the sampled keys, their ids and weights, once a list: once a query head, or once for all of a group."""
    store = arguments["stores"][0]
    row_bytes = store.rows.shape[2] * store.rows.element_size()
    weights = 4 if arguments["log_weight"] is not None else 0
    return int(arguments["count"].sum()) * (row_bytes + 4 + weights)


def _per_group(name: str, seed: int, **sizes: Any) -> Case:
    """Lists that the heads of a group share."""
    return Case(name, {"B": 1, "d": 64, "law": None, "per_group": True} | sizes, seed)


CONTRACT = OpContract(
    name="sparse_attend",
    formula="""a_i = scale * q.k_i - ln u_i;  lse = ln sum_i exp(a_i);  out = sum_i exp(a_i - lse) v_i

    over i in ids[b*H + h, :count[b*H + h]] (MagicPIG, arXiv 2410.16179, Eq. 9 and 11). Either `law` gives
    ln u_i from cos_i = (q.k_i - q.center) / (|q| |k_i - center|), with both factors of a zero norm giving
    cos 0, or `log_weight` of the shape of `ids` holds ln u_i. With `log_weight`, lists may be B*Hkv in number instead:
    one for all G query heads of a key/value head, which are then to read each row from memory once between them. An
    empty sample gives out = 0 and lse = -inf. An id outside the store raises IndexError; on a GPU, where that would
    mean waiting, it is left out.
    """,
    tensors={
        "q": TensorSpec("B H d", ("float32", "bfloat16")),
        "ids": TensorSpec("lists capacity", ("int32",)),
        "count": TensorSpec("lists", ("int32",)),
        "center": TensorSpec("B Hkv d", ("float32",), optional=True),
        "log_weight": TensorSpec("lists capacity", ("float32",), optional=True),
        "out": TensorSpec("B H d", ("float32",), output=True),
        "lse": TensorSpec("B H", ("float32",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one_key", {"B": 1, "H": 1, "Hkv": 1, "d": 64, "keys": [1]}),
        Case("groups_of_3", {"B": 1, "H": 9, "Hkv": 3, "d": 64, "keys": [201], "ragged": True}, seed=1),
        Case("bf16", {"B": 2, "H": 8, "Hkv": 2, "d": 128, "keys": [150, 33], "dtype": "bfloat16"}, seed=2),
        Case("empty", {"B": 2, "H": 2, "Hkv": 1, "d": 64, "keys": [0, 17]}, seed=3),
        Case("not_16", {"B": 1, "H": 17, "Hkv": 1, "d": 64, "keys": [31], "ragged": True}, seed=4),
        Case("weights", {"B": 2, "H": 4, "Hkv": 4, "d": 128, "keys": [99, 64], "law": None}, seed=5),
        Case("special", {"B": 1, "H": 2, "Hkv": 1, "d": 64, "keys": [40], "special": True}, seed=6),
        Case("huge", {"B": 1, "H": 4, "Hkv": 2, "d": 64, "keys": [300], "query_scale": 300.0}, seed=7),
        Case("d80", {"B": 1, "H": 2, "Hkv": 2, "d": 80, "keys": [50]}, seed=8),
        Case(
            "int8",
            {"B": 2, "H": 8, "Hkv": 2, "d": 128, "keys": [150, 33], "dtype": "int8", "query_dtype": "bfloat16"},
            12,
        ),
        Case("int8_groups_of_3", {"B": 1, "H": 9, "Hkv": 3, "d": 64, "keys": [201], "ragged": True, **INT8}, 13),
        Case("int8_weights", {"B": 2, "H": 4, "Hkv": 4, "d": 128, "keys": [99, 0], "law": None, **INT8}, 14),
        Case("int8_special", {"B": 1, "H": 2, "Hkv": 1, "d": 80, "keys": [40], "special": True, **INT8}, 15),
        Case("int8_huge", {"B": 1, "H": 4, "Hkv": 2, "d": 64, "keys": [300], "query_scale": 300.0, **INT8}, 16),
        Case("d96_bf16", {"B": 1, "H": 4, "Hkv": 1, "d": 96, "keys": [70], "dtype": "bfloat16"}, seed=9),
        Case(
            "K16",
            {"B": 1, "H": 2, "Hkv": 1, "d": 64, "keys": [60], "law": {"K": 16, "L": 1, "min_hits": 1}},
            10,
        ),
        Case(
            "ball",
            {"B": 1, "H": 2, "Hkv": 1, "d": 64, "keys": [60], "law": {"K": 12, "L": 60, "ball": 1}},
            11,
        ),
        Case(
            "directed",
            {
                "B": 2,
                "H": 4,
                "Hkv": 2,
                "d": 64,
                "keys": [60, 25],
                "ragged": True,
                "directed": {"K": 6, "L": 9, "P": 4, "min_hits": 2},
            },
            12,
        ),
        Case(
            "directed_bf16",
            {
                "B": 1,
                "H": 3,
                "Hkv": 1,
                "d": 64,
                "keys": [40],
                "dtype": "bfloat16",
                "directed": {"K": 8, "L": 12, "P": 2, "min_hits": 1},
            },
            13,
        ),
        _per_group("per_group", 17, B=2, H=8, Hkv=2, d=128, keys=[700, 33], dtype="bfloat16"),
        _per_group("per_group_of_3", 18, H=9, Hkv=3, keys=[1201], ragged=True),
        _per_group("per_group_of_5", 19, B=2, H=10, Hkv=2, d=80, keys=[0, 77], dtype="bfloat16"),
        _per_group("per_group_of_6", 20, H=12, Hkv=2, keys=[300], ragged=True, **INT8),
        _per_group("per_group_of_7", 21, H=7, Hkv=1, d=96, keys=[900], query_scale=100.0),
        _per_group("per_group_of_8", 22, B=3, H=16, Hkv=2, d=128, keys=[31, 1, 260], dtype="bfloat16", ragged=True),
        _per_group("per_group_of_1", 23, B=2, H=2, Hkv=2, keys=[40, 9]),
        _per_group("linked", 24, B=2, H=8, Hkv=2, d=128, keys=[700, 33], dtype="bfloat16", linked=True),
        _per_group("linked_int8", 25, B=2, H=6, Hkv=2, keys=[0, 300], ragged=True, linked=True, **INT8),
        _per_group("linked_heads", 26, B=2, H=6, Hkv=2, d=80, keys=[77, 5], ragged=True, linked=True, per_group=False),
        Case("linked_law", {"B": 1, "H": 4, "Hkv": 2, "d": 64, "keys": [90], "linked": True}, 27),
    ),
)
