"""dense_attend: exact attention of one query a request over its cached keys."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.contract import Arguments, Case, OpContract, differs

RELATIVE_RMS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def arguments(case: Case) -> Arguments:
    s = case.sizes
    generator = torch.Generator().manual_seed(case.seed)
    dtype = getattr(torch, s.get("dtype", "float32"))
    B, H, Hkv, d, lengths = s["B"], s["H"], s["Hkv"], s["d"], s["lengths"]
    capacity = max(*lengths, 1) + s.get("spare", 0)
    keys, values = torch.randn(2, B, Hkv, capacity, d, generator=generator)
    for b, length in enumerate(lengths):
        keys[b, :, length:] = values[b, :, length:] = torch.nan
    return {
        "q": (torch.randn(B, H, d, generator=generator) * s.get("query_scale", 1.0)).to(dtype),
        "keys": keys.to(dtype),
        "values": values.to(dtype),
        "lengths": torch.tensor(lengths, dtype=torch.int32),
        "out": torch.full((B, H, d), torch.nan),
        "lse": torch.full((B, H), torch.nan),
        "scale": d**-0.5,
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    H, Hkv = sizes["H"], sizes["Hkv"]
    expect(H % Hkv == 0, "keys", f"a key/value head count that divides H = {H}", Hkv)


def bytes_moved(arguments: Arguments) -> int:
    keys = arguments["keys"]
    return 2 * int(arguments["lengths"].sum()) * keys.shape[1] * keys.shape[3] * keys.element_size()


CONTRACT = OpContract(
    name="dense_attend",
    formula="""lse = ln sum_t exp(scale * q.k_t);  out = sum_t exp(scale * q.k_t - lse) v_t,  t < lengths[b]

    Head h reads key/value head h // (H / Hkv). What lies behind lengths[b] is never read into the result.
    A length of 0 gives out = 0 and lse = -inf.
    """,
    tensors={
        "q": TensorSpec("B H d", ("float32", "bfloat16")),
        "keys": TensorSpec("B Hkv T d", ("float32", "bfloat16")),
        "values": TensorSpec("B Hkv T d", ("float32", "bfloat16")),
        "lengths": TensorSpec("B", ("int32",)),
        "out": TensorSpec("B H d", ("float32",), output=True),
        "lse": TensorSpec("B H", ("float32",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=lambda got, want: differs(got, want, ("out", "lse"), RELATIVE_RMS[want["q"].dtype]),
    bytes_moved=bytes_moved,
    cases=(
        Case("one_key", {"B": 1, "H": 1, "Hkv": 1, "d": 64, "lengths": [1]}),
        Case("ragged", {"B": 3, "H": 9, "Hkv": 3, "d": 64, "lengths": [68, 1, 300], "spare": 5}, seed=1),
        Case("bf16", {"B": 2, "H": 8, "Hkv": 2, "d": 128, "lengths": [68, 68], "dtype": "bfloat16"}, seed=2),
        Case("nothing", {"B": 2, "H": 2, "Hkv": 1, "d": 64, "lengths": [0, 9]}, seed=3),
        Case("huge", {"B": 1, "H": 4, "Hkv": 1, "d": 64, "lengths": [90], "query_scale": 300.0}, seed=4),
    ),
)
