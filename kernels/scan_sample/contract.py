"""scan_sample: keys drawn independently, each as likely as a scan of a few bits a coordinate makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from truffle.kernels import registry, scanning
from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.codes import Codes
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.handles import MOST_ROWS, expect_whole_codes
from truffle.kernels.rotation import rotation
from truffle.kernels.scan_comparison import compare

DRAWS = ("poisson", "priority")


def arguments(case: Case) -> Arguments:
    s = case.sizes
    B, H, Hkv, d = len(s["lengths"]), s["H"], s["Hkv"], s["d"]
    generator = torch.Generator().manual_seed(case.seed)
    q = torch.randn(B, H, d, generator=generator) * s.get("query_scale", 2.0)
    if s.get("special"):
        q[0, 0], q[0, 1, 0], q[0, 2] = 0.0, torch.nan, 1e20
    codes = [_codes(s, n, generator) for n in s["lengths"]]
    R = Hkv if s.get("per_group") else H
    wanted = torch.as_tensor(s["wanted"], dtype=torch.float32).expand(B, R).contiguous()
    floor = torch.as_tensor(s.get("floor", 0.0), dtype=torch.float32).expand(B).contiguous()
    capacity = min(max(*s["lengths"], 1), scanning.room_for(float(wanted.max()) + float(floor.max())))
    return {
        "q": q,
        "codes": codes,
        "lengths": torch.tensor([n - s.get("unused", 0) for n in s["lengths"]], dtype=torch.int32),
        "wanted": wanted,
        "floor": floor,
        "step": torch.arange(B, dtype=torch.int32) * 7 + case.seed,
        "ids": torch.full((B * R, capacity), -1, dtype=torch.int32),
        "count": torch.full((B * R,), -1, dtype=torch.int32),
        "log_weight": torch.full((B * R, capacity), torch.nan),
        "scale": d**-0.5,
        "seed": (case.seed << 40) + 12345,
        "layer": case.seed % 5,
        "draw": s.get("draw", "poisson"),
    }


def _codes(s: Mapping[str, Any], n: int, generator: torch.Generator) -> Codes:
    Hkv, d = s["Hkv"], s["d"]
    keys = torch.randn(Hkv, n, d, generator=generator) * s.get("key_scale", 1.0)
    if s.get("special") and n > 4:
        keys[:, 1], keys[:, 2], keys[:, 3] = 0.0, torch.nan, 100.0
    if s.get("equal") and n:
        keys = keys[:, :1].expand(-1, n, -1).contiguous()
    codes = Codes.allocate(Hkv, n + s.get("spare", 3), d, s["bits"])
    codes.words.fill_(-1)
    codes.scales.fill_(torch.nan)
    codes = codes.longer(n)
    turn = torch.from_numpy(rotation(d, 0, 0).copy())
    quantize = registry.get("quantize_keys", "reference")
    quantize(keys, torch.zeros(Hkv, d), turn, codes.words, codes.scales, start=0, bits=s["bits"])
    return codes


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    codes, H, R, draw = arguments["codes"], sizes["H"], sizes["R"], arguments["draw"]
    expect(len(codes) == sizes["B"], "codes", f"one a request, B = {sizes['B']}", len(codes))
    expect(draw in DRAWS, "draw", " or ".join(DRAWS), repr(draw))
    for name, most in (("seed", 2**63 - 1), ("layer", 2**31 - 1)):
        found = arguments[name]
        expect(isinstance(found, int) and 0 <= found <= most, name, f"an integer of 0 to {most}", repr(found))
    expect(math.isfinite(arguments["scale"]), "scale", "a finite number", arguments["scale"])
    for request, held in enumerate(codes):
        name = f"codes[{request}]"
        expect_whole_codes(held, name, arguments["q"].device)
        expect(held.head_dim == sizes["d"], name, f"head_dim {sizes['d']}", held.head_dim)
        expect(held.bits == codes[0].bits, name, f"{codes[0].bits} bits as in codes[0]", held.bits)
        Hkv = held.words.shape[0]
        expect(H % Hkv == 0, name, f"a key/value head count that divides H = {H}", Hkv)
        expect(R in (H, Hkv), "wanted", f"a row a query head, R = {H}, or a key/value head, R = {Hkv}", R)
    if arguments["wanted"].device.type == "cpu":  # to look elsewhere would be to wait
        _check_numbers(arguments, sizes["capacity"])


def _check_numbers(arguments: Arguments, capacity: int) -> None:
    wanted, floor, lengths = arguments["wanted"], arguments["floor"], arguments["lengths"].tolist()
    for request, (held, n) in enumerate(zip(arguments["codes"], lengths, strict=True)):
        expect(0 <= n <= held.length, "lengths", f"0 to {held.length}, which codes[{request}] have", n)
    for name, numbers in (("wanted", wanted), ("floor", floor)):
        low, high = (float(end) for end in numbers.aminmax()) if numbers.numel() else (0.0, 0.0)
        expect(low >= 0 and high <= MOST_ROWS, name, f"numbers of 0 to {MOST_ROWS}", (low, high))
    most = (wanted.double() + floor.double()[:, None]).amax(1).tolist()
    rooms = [min(n, scanning.room_for(keys)) for n, keys in zip(lengths, most, strict=True)]
    room = max(rooms, default=0)
    expect(capacity >= room, "ids", f"room for {room} keys", capacity)


def bytes_moved(arguments: Arguments) -> int:
    """Codes and scales, once a key/value head as their group shares a scan, and ids and weights of the sample."""
    read = 0
    for codes, n in zip(arguments["codes"], arguments["lengths"].tolist(), strict=True):
        Hkv, _, words, _ = codes.words.shape
        read += Hkv * n * (4 * words + 2)
    return read + 8 * int(arguments["count"].sum())


def _case(name: str, seed: int, lengths: list[int], wanted: Any, **sizes: Any) -> Case:
    return Case(name, {"H": 4, "Hkv": 2, "d": 64, "bits": 4, "lengths": lengths, "wanted": wanted} | sizes, seed)


CONTRACT = OpContract(
    name="scan_sample",
    formula="""est_h,i = scale * (qhat_h . level_i) * scales_i
    W_r,i = sum_h in r e_h,i / sum_j e_h,j;  e_h,i = exp(max(est_h,i - max_j est_h,j, -40))
    p_i = max(min(1, c W_r,i), min(1, floor[b] / n)), with c such that sum_i min(1, c W_r,i) = wanted[b, r]
    i is in the sample where p_i = 1 or x_i < floor(2^31 p_i);  log_weight = ln p_i

    over the first n = lengths[b] tokens of codes[b], which may name more: on a GPU they can become more between two
    replays of a captured call.

    Poisson sampling by a proposal that a scan of quantised keys estimates; the sample's weights are exact whatever the
    estimates are worth (Horvitz-Thompson), as inclusions are independent of everything but p. A row r of a request is a
    query head (R = H), or a key/value head and its group (R = Hkv), whose heads then share one sample. Keys that a row
    wants `n` or more of are all taken, with p = 1; `wanted` of 0 leaves the floor, a uniform sample of floor[b] keys in
    the mean. ids[b*R + r, :count] ascend and name tokens of the codes; the rest of a row is undefined. Rows are made
    for the whole sample with probability 1 - 1e-12 (room_for); what they cannot hold is left out. `q` is rotated as
    the keys were: q @ rotation.

    qhat_h,j = (a/127) rint(q_h,j * (127/a)), a = max_j |q_h,j|, in float32: every implementation multiplies the same
    whole numbers. A query of zeros, or with NaN or an element above 1e15, has qhat = 0: keys are then drawn uniformly.

    x_i is the upper 31 bits of word i / 16 % 4 of Philox-4x32-10 with the key (seed mod 2^32, seed / 2^32) and the
    counter (i / 64 * 16 + i % 16, r, step[b], layer), quotients rounded down: 16 neighbours in a block of 64 are the
    same word of neighbouring counters. `step` tells the calls of a request and layer apart. b is no part of it: a
    request draws in any batch, and in any place there, what it draws alone. Requests whose steps are equal thus share
    random numbers: their samples are correlated, and those of equal prompts equal; each by itself is as the formula has
    it.

    c, and so every p_i < 1, is right within a relative 1e-3 where float32 can tell the scores (sums are in any order).
    Newton's c' = (wanted - #{c W >= 1}) / sum_{c W < 1} W from c = 0 climbs to it and arrives in a few steps.

    `draw` "priority" (Duffield, Lund, Thorup 2007) has a fixed size as a check: with k = rint(wanted), g the heads of a
    row, W' = max(W, floor[b] g / (n k)), u = (x + 0.5) / 2^31 and t the (k+1)-th largest W'/u, keys with W'/u > t are
    taken, with p = min(1, W'/t).
    """,
    tensors={
        "q": TensorSpec("B H d", ("float32",)),
        "lengths": TensorSpec("B", ("int32",)),
        "wanted": TensorSpec("B R", ("float32",)),
        "floor": TensorSpec("B", ("float32",)),
        "step": TensorSpec("B", ("int32",)),
        "ids": TensorSpec("B*R capacity", ("int32",), output=True),
        "count": TensorSpec("B*R", ("int32",), output=True),
        "log_weight": TensorSpec("B*R capacity", ("float32",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        _case("one_key", 0, [1], 0.5, H=1, Hkv=1),
        _case("per_head", 1, [2133, 700], 40.0, H=8, d=128, floor=4.0),
        _case("per_group", 2, [4133, 700], 60.0, H=8, d=128, floor=6.0, per_group=True),
        _case("groups_of_3", 3, [333, 65, 31], 20.0, H=9, Hkv=3, bits=2, per_group=True),
        _case("groups_of_6", 4, [500], 9.5, H=12, per_group=True),
        _case("groups_of_7", 5, [200], 30.0, H=7, Hkv=1, bits=1, per_group=True),
        _case("one_bit", 6, [1000], 50.0, Hkv=4, d=128, bits=1, floor=5.0),
        _case("d80", 7, [257], 12.0, H=2, Hkv=1, d=80),
        _case("d80_two_bits", 8, [129], 12.0, H=2, Hkv=1, d=80, bits=2),
        _case("d80_one_bit", 9, [64], 12.0, H=2, d=80, bits=1),
        _case("d96", 10, [300], 12.0, Hkv=1, d=96, per_group=True),
        _case("d96_one_bit", 11, [127], 12.0, H=3, Hkv=1, d=96, bits=1),
        _case("d18", 12, [90], 7.0, H=2, d=18, bits=2),
        _case("empty", 13, [0, 17], 5.0, H=2, Hkv=1, spare=0),
        _case("few_keys", 14, [31, 3], 31.0, H=2, floor=2.0),
        _case("nearly_all", 15, [600], 599.5, H=2),
        _case("nothing_wanted", 16, [300], 0.0),
        _case("floor_only", 17, [300], 0.0, floor=30.0),
        _case("all_equal", 18, [900], 45.0, equal=True),
        _case("one_dominates", 19, [900], 45.0, query_scale=90.0),
        _case("huge", 20, [300], 9.0, query_scale=1e4),
        _case("special", 21, [300, 0], 25.0, special=True, floor=3.0),
        _case("overflowing", 22, [70], 9.0, H=2, query_scale=1e14, key_scale=1e13),
        _case("rows_differ", 23, [400, 90], [[3.0, 300.0], [0.0, 90.0]], per_group=True),
        _case("floors_differ", 27, [400, 90, 0, 400, 33], 12.0, floor=[0.0, 45.0, 3.0, 390.5, 33.0]),
        _case("unused", 27, [1300, 2500], 40.0, per_group=True, floor=3.0, unused=1100),
        _case("long_and_shorter", 28, [131_100, 131_000], 200.0, H=1, Hkv=1, d=18, bits=1),
        _case("long", 26, [140_000, 5], 300.0, H=1, Hkv=1, d=18, bits=1, floor=9.0),
        _case("priority", 24, [1000, 40], 50.0, floor=5.0, draw="priority", per_group=True),
        _case("priority_floors", 28, [300, 300, 40], 20.0, floor=[0.0, 90.0, 5.0], draw="priority"),
        _case("priority_none", 25, [70, 0], 0.0, H=2, draw="priority"),
    ),
)
