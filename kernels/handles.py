"""What stores, segments and codes must be before a kernel reads them; each is looked at once."""

from __future__ import annotations

import torch

from truffle.kernels.checks import ArgumentError, TensorSpec, expect, match_tensors
from truffle.kernels.codes import BITS, Codes, words_of
from truffle.kernels.planes import MAX_BITS
from truffle.kernels.store import SEGMENT_TOKENS, Segment, Store, row_width

CPU = torch.device("cpu")
MOST_ROWS = 2**31 - 1  # what a 32-bit id can name
_SEGMENT = {"offsets": TensorSpec("Hkv L C", ("int32",)), "ids": TensorSpec("Hkv L n", ("uint16",))}
_CODES = {"words": TensorSpec("Hkv blocks W 64", ("int32",)), "scales": TensorSpec("Hkv blocks 64", ("bfloat16",))}
_STORE = {"rows": TensorSpec("Hkv capacity width", ("bfloat16", "float32", "int8"))}


def expect_whole_segment(segment: Segment, name: str, device: torch.device = CPU) -> None:
    """Raise ArgumentError unless the tables are on `device`, of the right types and sizes, and each spans its n ids.

    Offsets between the ends, and the ids, are checked by the kernels as they are read.
    """
    if segment.__dict__.get("_whole") == device:
        return
    sizes = _matched(segment, _SEGMENT, name, device)
    expect(sizes["L"] > 0, name, "one table at least", 0)
    K, n = (sizes["C"] - 1).bit_length() - 1, sizes["n"]
    expect(1 <= K <= MAX_BITS and sizes["C"] == (1 << K) + 1, name, "2^K + 1 offsets a table", sizes["C"])
    expect(n <= SEGMENT_TOKENS, name, f"at most {SEGMENT_TOKENS} ids a table", n)
    expect(0 <= segment.start <= MOST_ROWS - n, name, "a start whose rows fit 32 bits", segment.start)
    first, last = segment.offsets[..., 0], segment.offsets[..., -1]
    ends = [int(end) for end in (*first.aminmax(), *last.aminmax())]
    expect(ends == [0, 0, n, n], name, f"ascending offsets from 0 to {n}", f"{ends[:2]} to {ends[2:]}")
    segment.__dict__["_whole"] = device


def expect_whole_store(store: Store, name: str, device: torch.device = CPU) -> None:
    """Raise ArgumentError unless the rows are on `device`, of the right type and width, and hold `length` tokens."""
    if store.__dict__.get("_whole") == device:
        return
    sizes, d = _matched(store, _STORE, name, device), store.head_dim
    expect(d > 0 and d % 2 == 0, name, "an even head_dim", d)
    width = row_width(d, store.rows.dtype)
    expect(sizes["width"] == width, name, f"rows of {width} elements for head_dim {d}", sizes["width"])
    expect(0 <= store.length <= sizes["capacity"], name, f"a length of 0 to {sizes['capacity']}", store.length)
    store.__dict__["_whole"] = device


def expect_whole_codes(codes: Codes, name: str, device: torch.device = CPU) -> None:
    """Raise ArgumentError unless the words are on `device`, of the right type and number, and hold `length` tokens."""
    if codes.__dict__.get("_whole") == device:
        return
    sizes, d = _matched(codes, _CODES, name, device), codes.head_dim
    expect(codes.bits in BITS, name, "1, 2 or 4 bits", codes.bits)
    expect(d > 0, name, "a head_dim of at least 1", d)
    wanted = words_of(d, codes.bits)
    expect(sizes["W"] == wanted, name, f"{wanted} words a token for head_dim {d}, {codes.bits} bits", sizes["W"])
    most = min(codes.capacity, MOST_ROWS)
    expect(0 <= codes.length <= most, name, f"a length of 0 to {most}", codes.length)
    codes.__dict__["_whole"] = device


def _matched(
    held: Segment | Store | Codes, specs: dict[str, TensorSpec], name: str, device: torch.device
) -> dict[str, int]:
    tensors = {field: getattr(held, field, None) for field in specs}
    try:
        sizes = match_tensors(specs, tensors)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None
    for field, tensor in tensors.items():
        assert isinstance(tensor, torch.Tensor)
        expect(tensor.device == device, name, f"{field} on {'the CPU' if device == CPU else device}", tensor.device)
    expect(sizes["Hkv"] > 0, name, "one key/value head at least", 0)
    return sizes
