"""retrieve_attend: retrieve and sparse_attend in one operation, without ids between them."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.collision import CollisionLaw
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.retrieve import contract as retrieval
from truffle.kernels.sparse_attend import contract as attention
from truffle.kernels.store import Store


def arguments(case: Case) -> Arguments:
    """Rows and tables drawn apart: what is found need not be near the query for the two to be the same operation."""
    s = case.sizes
    found = retrieval.arguments(case)
    B, H, Hkv, d = s["B"], s["H"], s["Hkv"], s["d"]
    generator = torch.Generator().manual_seed(case.seed + 1)
    dtype = getattr(torch, s.get("dtype", "float32"))
    center = torch.randn(B, Hkv, d, generator=generator)
    stores = []
    for lengths in s["segments"]:
        keys, values = torch.randn(2, Hkv, sum(lengths), d, generator=generator)
        if s.get("special"):
            values[:, 0] = torch.inf
        stores.append(Store.allocate(Hkv, sum(lengths) + 2, d, dtype).appended(keys, values))
    return {
        "q": torch.randn(B, H, d, generator=generator).to(attention.query_dtype(case)),
        "tables": found["tables"],
        "query_codes": found["query_codes"],
        "stores": stores,
        "center": center,
        "law": CollisionLaw(s["K"], s["L"], s.get("min_hits", 2), s.get("ball", 0)),
        "out": torch.full((B, H, d), torch.nan),
        "lse": torch.full((B, H), torch.nan),
        "count": found["count"],
        "min_hits": found["min_hits"],
        "scale": d**-0.5,
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    lengths = [sum(segment.length for segment in segments) for segments in arguments["tables"]]
    retrieval.check(arguments, {**sizes, "capacity": max(lengths, default=0)})
    attention.check(
        {**arguments, "log_weight": None, "count": torch.zeros(1)},
        {**sizes, "lists": sizes["B"] * sizes["H"], "capacity": 0},
    )
    for request, (segments, store) in enumerate(zip(arguments["tables"], arguments["stores"], strict=True)):
        for segment in segments:
            end = segment.start + segment.length
            expect(end <= store.length, f"tables[{request}]", f"rows of its store, below {store.length}", end)
            heads = segment.offsets.shape[0]
            expect(heads == sizes["Hkv"], f"tables[{request}]", f"{sizes['Hkv']} key/value heads as in center", heads)


def compare(got: Arguments, want: Arguments) -> str | None:
    if not torch.equal(got["count"], want["count"]):
        return f"count differs: {got['count'].tolist()} against {want['count'].tolist()}"
    special = ~torch.isfinite(want["out"]).all(-1)
    if not torch.equal(special, ~torch.isfinite(got["out"]).all(-1)):
        return "out is not finite for other heads than those that sampled such a value"
    plain = [{**part, "out": part["out"][~special], "lse": part["lse"][~special]} for part in (got, want)]
    return attention.compare(*plain)


def bytes_moved(arguments: Arguments) -> int:
    """What retrieve reads and sparse_attend's rows, once a query head."""
    store = arguments["stores"][0]
    row_bytes = store.rows.shape[2] * store.rows.element_size()
    return retrieval.bytes_moved(arguments) + int(arguments["count"].sum()) * (row_bytes - 4)


_SHARED = {"distinct": 2, "query_distinct": 2}  # few codes: the heads of a group find nearly the same keys

CONTRACT = OpContract(
    name="retrieve_attend",
    formula="""retrieve, then sparse_attend over what it found with the inclusion given by `law`; count[b*H + h] says
    how many keys that were. (MagicPIG, arXiv 2410.16179, section 4.2 and Eq. 9 to 11.)
    """,
    tensors={
        "q": TensorSpec("B H d", ("float32", "bfloat16")),
        "query_codes": TensorSpec("B H L P", ("uint16",)),
        "center": TensorSpec("B Hkv d", ("float32",)),
        "out": TensorSpec("B H d", ("float32",), output=True),
        "lse": TensorSpec("B H", ("float32",), output=True),
        "count": TensorSpec("B*H", ("int32",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one_key", {"B": 1, "H": 1, "Hkv": 1, "d": 64, "K": 1, "L": 2, "segments": [[1]]}),
        Case("usual", {"B": 1, "H": 8, "Hkv": 2, "d": 128, "K": 5, "L": 30, "segments": [[1000]]}, 1),
        Case("groups_of_3", {"B": 2, "H": 9, "Hkv": 3, "d": 64, "K": 4, "L": 11, "segments": [[333], [65]]}, 2),
        Case("groups_of_7", {"B": 1, "H": 14, "Hkv": 2, "d": 32, "K": 3, "L": 8, "segments": [[90]], **_SHARED}, 3),
        Case("segments", {"B": 1, "H": 4, "Hkv": 2, "d": 96, "K": 4, "L": 9, "segments": [[100, 1, 77]]}, 4),
        Case("shared_bf16", {"B": 1, "H": 4, "Hkv": 1, "d": 128, "K": 6, "L": 5, "segments": [[700]],
                             "dtype": "bfloat16", **_SHARED}, 5),
        Case("shared_int8", {"B": 1, "H": 6, "Hkv": 2, "d": 80, "K": 6, "L": 5, "segments": [[500]],
                             **attention.INT8, **_SHARED}, 13),
        Case("infinite_value", {"B": 1, "H": 4, "Hkv": 1, "d": 64, "K": 5, "L": 3, "segments": [[400]],
                                "special": True, **_SHARED}, 6),
        Case("no_index", {"B": 2, "H": 2, "Hkv": 1, "d": 64, "K": 8, "L": 3, "segments": [[], [40]]}, 7),
        Case("min_hits_1", {"B": 1, "H": 2, "Hkv": 1, "d": 80, "K": 6, "L": 5, "segments": [[500]], "min_hits": 1}, 8),
        Case("min_hits_3", {"B": 1, "H": 2, "Hkv": 1, "d": 64, "K": 3, "L": 12, "segments": [[400]], "min_hits": 3}, 9),
        Case("ball", {"B": 1, "H": 3, "Hkv": 1, "d": 64, "K": 7, "L": 8, "segments": [[600]], "ball": 1}, 10),
        Case("K16", {"B": 1, "H": 2, "Hkv": 1, "d": 64, "K": 16, "L": 4, "segments": [[300]], "query_distinct": 4}, 11),
        Case("large", {"B": 1, "H": 4, "Hkv": 1, "d": 16, "K": 2, "L": 4, "segments": [[65536, 900]]}, 12),
    ),
)  # fmt: skip
