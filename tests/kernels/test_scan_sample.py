"""What a sample of a scan promises: probabilities that are kept, independent inclusions, sums right in the mean.

Means over draws with fixed seeds must be within 4.5 of their own standard errors.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.test_fuzz import COMMON, contenders
from truffle.kernels import registry, scanning
from truffle.kernels.checks import ArgumentError
from truffle.kernels.codes import Codes
from truffle.kernels.contract import Case
from truffle.kernels.philox import philox
from truffle.kernels.scan_comparison import rows

CONTRACT = registry.contract("scan_sample")
NAMES = [name for name in ("reference", "cpu_numba", "cpu_native") if registry.why_not("scan_sample", name) is None]
FAST = next(name for name in ("cpu_native", "cpu_numba", "reference") if name in NAMES)
SIGMAS, N, DRAWS, WANTED = 4.5, 150, 2500, 12.0


def case_of(**sizes) -> Case:
    usual = {"H": 4, "Hkv": 2, "d": 64, "bits": 4, "lengths": [N], "wanted": WANTED, "per_group": True}
    return Case("made", usual | sizes, sizes.pop("seed", 5))


def run(name: str = FAST, case: Case | None = None, threads: int = 1, isa: str = "auto", **changes) -> dict:
    arguments = CONTRACT.arguments(case or case_of()) | changes
    registry.get("scan_sample", name)(**arguments, threads=threads, isa=isa)
    return arguments


def samples(**sizes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the first row: probabilities [N], and by draw whether a key is in, and ln p as it was given, [DRAWS, N]."""
    one = CONTRACT.arguments(case_of(**sizes))
    probability = rows(one)[0].ratio.clamp_max(1.0)
    inside, log_p = torch.zeros(DRAWS, N, dtype=torch.bool), torch.zeros(DRAWS, N, dtype=torch.float64)
    for draw in range(DRAWS):
        registry.get("scan_sample", FAST).function(**one | {"step": torch.tensor([draw], dtype=torch.int32)})
        ids, count = one["ids"][0].long(), int(one["count"][0])
        inside[draw, ids[:count]] = True
        log_p[draw, ids[:count]] = one["log_weight"][0, :count].double()
    return probability, inside, log_p


@pytest.fixture(scope="module", params=[0.0, 3.0], ids=["no floor", "floor"])
def drawn(request):
    return samples(floor=request.param)


def test_philox_gives_the_published_numbers():
    assert [hex(int(word)) for word in philox((0, 0), (0, 0, 0, 0))] == [
        "0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8",
    ]  # fmt: skip
    most = 2**32 - 1
    assert [hex(int(word)) for word in philox((most, most), (most,) * 4)] == [
        "0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd",
    ]  # fmt: skip


def test_every_key_is_in_as_often_as_its_probability_says(drawn):
    p, inside, log_p = drawn
    deviation = (p * (1 - p) / DRAWS).sqrt()
    assert ((inside.double().mean(0) - p).abs() <= SIGMAS * deviation + 1e-3 * p + 2 / DRAWS).all()
    assert (log_p - p.log())[inside].abs().max() < 2e-3


def test_inclusions_are_independent(drawn):
    p, inside, _ = drawn
    counts = inside.sum(1).double()
    variance = (p * (1 - p)).sum()
    assert abs(counts.mean() - p.sum()) < SIGMAS * (variance / DRAWS).sqrt()
    assert abs(counts.var() / variance - 1) < SIGMAS * (2 / DRAWS) ** 0.5
    later = torch.corrcoef(torch.stack([counts[:-1], counts[1:]]))[0, 1]  # one step and the next
    assert abs(later) < SIGMAS * DRAWS**-0.5


@pytest.mark.parametrize("draw", ["poisson", "priority"])
def test_numerator_and_denominator_are_unbiased_whatever_is_proposed(draw):
    _, inside, log_p = samples(floor=6.0, bits=1, draw=draw)
    generator = torch.Generator().manual_seed(8)
    e = (1.5 * torch.randn(N, generator=generator).double()).exp()  # nothing to do with the scan
    values = torch.randn(N, generator=generator).double() + 0.5
    for numbers in (e, e * values):
        estimates = (inside * (-log_p).exp()) @ numbers
        assert abs(estimates.mean() - numbers.sum()) < SIGMAS * estimates.std() / DRAWS**0.5
    if draw == "priority":
        assert (inside.sum(1) == round(WANTED)).all()


@pytest.mark.parametrize("sizes", [{}, {"query_scale": 30.0}, {"equal": True}, {"wanted": 149.5}, {"wanted": 0.25}])
def test_as_many_are_expected_as_are_wanted(sizes):
    for row in rows(CONTRACT.arguments(case_of(**sizes))):
        assert float(row.ratio.clamp_max(1.0).sum()) == pytest.approx(row.drawing.wanted, rel=1e-6)


def test_the_floor_holds_for_every_key():
    ratio = rows(CONTRACT.arguments(case_of(query_scale=60.0, floor=5.0)))[0].ratio
    assert float(ratio.min()) == pytest.approx(5.0 / N)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_a_function_of_seed_step_and_layer(name):
    def ids(**changes) -> list[int]:
        got = run(name, **changes)
        return got["ids"][0, : got["count"][0]].tolist()

    first = ids()
    assert ids() == first
    for change in ({"seed": 1}, {"seed": 1 << 33}, {"layer": 4}, {"step": torch.tensor([77], dtype=torch.int32)}):
        assert ids(**change) != first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [[5000], [300, 0, 1100]])
def test_every_implementation_and_thread_count_draws_the_same(name, lengths):
    case = case_of(lengths=lengths, floor=2.0, seed=9)
    want = run("reference", case)
    for threads in (1, 2, 9):
        got = run(name, case, threads)
        assert got["count"].tolist() == want["count"].tolist()
        for row, count in enumerate(want["count"].tolist()):
            assert got["ids"][row, :count].tolist() == want["ids"][row, :count].tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("draw", ["poisson", "priority"])
def test_a_request_draws_in_a_batch_what_it_draws_alone(name, draw):
    whole = run(name, case_of(lengths=[1100, 0, 90, 300], floor=[3.0, 8.0, 0.0, 20.0], draw=draw))
    R, per_request = whole["wanted"].shape[1], ("q", "codes", "lengths", "wanted", "floor", "step")
    for b in range(4):
        own = {name: whole[name][b : b + 1] for name in per_request}
        rows = {name: whole[name][b * R : (b + 1) * R] for name in ("ids", "count", "log_weight")}
        alone = whole | own | {name: torch.full_like(want, -1) for name, want in rows.items()}
        registry.get("scan_sample", name)(**alone)
        assert torch.equal(alone["count"], rows["count"])
        for row, count in enumerate(rows["count"].tolist()):
            for output in ("ids", "log_weight"):
                assert torch.equal(alone[output][row, :count], rows[output][row, :count])


@pytest.mark.parametrize("name", NAMES)
def test_what_rows_cannot_hold_is_left_out(name):
    whole = run(name, case_of(wanted=100.0))
    kept = int(whole["count"].min()) - 7
    short = CONTRACT.arguments(case_of(wanted=100.0))
    ids, log_weight = (short[key][:, :kept].contiguous() for key in ("ids", "log_weight"))
    registry.get("scan_sample", name).function(**short | {"ids": ids, "log_weight": log_weight})
    assert short["count"].tolist() == [kept] * len(ids)
    assert torch.equal(ids, whole["ids"][:, :kept])


def test_room_is_rarely_exceeded():
    assert scanning.room_for(0) == 32
    spread = 983.0**0.5  # of a sum of independent inclusions, at most
    assert scanning.room_for(983) > 983 + 8 * spread


CHANGES = {
    "no codes": (lambda a: {"codes": []}, r"codes: expected one a request, B = 1, got 0"),
    "other head_dim": (lambda a: {"codes": [Codes.allocate(2, 9, 80, 4)]}, "expected head_dim 64, got 80"),
    "heads": (lambda a: {"codes": [Codes.allocate(3, 9, 64, 4)]}, "divides H = 4, got 3"),
    "rows": (lambda a: {"codes": [Codes.allocate(1, 9, 64, 4)]}, "wanted: expected a row a query head"),
    "too long": (lambda a: {"codes": [replace(a["codes"][0], length=10**6)]}, "a length of 0 to 192"),
    "negative": (lambda a: {"codes": [replace(a["codes"][0], length=-1)]}, "a length of 0 to 192"),
    "bits": (lambda a: {"codes": [replace(a["codes"][0], bits=3)]}, "1, 2 or 4 bits, got 3"),
    "words": (lambda a: {"codes": [replace(a["codes"][0], bits=2)]}, "4 words a token"),
    "dtype": (lambda a: {"codes": [replace(a["codes"][0], words=a["codes"][0].words.long())]}, "words: expected dtype"),
    "scales": (
        lambda a: {"codes": [replace(a["codes"][0], scales=a["codes"][0].scales[:1])]},
        "scales: expected shape",
    ),
    "elsewhere": (lambda a: {"codes": [replace(a["codes"][0], words=a["codes"][0].words.to("meta"))]}, "device"),
    "longer than they are": (lambda a: {"lengths": a["lengths"] + 1}, r"lengths: expected 0 to 150, which codes\[0\]"),
    "shorter than nothing": (lambda a: {"lengths": -a["lengths"]}, r"lengths: expected 0 to 150, .* got -150"),
    "fewer than none": (lambda a: {"wanted": -a["wanted"]}, "wanted: expected numbers of 0"),
    "no number": (lambda a: {"wanted": a["wanted"] * torch.nan}, "wanted: expected numbers of 0"),
    "infinite": (lambda a: {"wanted": a["wanted"] * torch.inf}, "wanted: expected numbers of 0"),
    "more than fit": (lambda a: {"wanted": a["wanted"] * 12}, "ids: expected room for 150 keys"),
    "draw": (lambda a: {"draw": "best"}, "draw: expected poisson or priority, got 'best'"),
    "seed": (lambda a: {"seed": -1}, "seed: expected an integer of 0 to"),
    "layer": (lambda a: {"layer": 2**31}, "layer: expected an integer of 0 to"),
    "scale": (lambda a: {"scale": float("inf")}, "scale: expected a finite number"),
    "negative floor": (lambda a: {"floor": a["floor"] - 1}, "floor: expected numbers of 0"),
    "no floor": (lambda a: {"floor": a["floor"] * torch.nan}, "floor: expected numbers of 0"),
    "infinite floor": (lambda a: {"floor": a["floor"] + torch.inf}, "floor: expected numbers of 0"),
    "high floor": (lambda a: {"floor": a["floor"] + 140}, "ids: expected room for 150 keys"),
    "one floor": (lambda a: {"floor": 1.0}, "floor: expected"),
    "a floor a row": (lambda a: {"floor": a["wanted"][0]}, "expected"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", CHANGES)
def test_refusals(name, what):
    change, expected = CHANGES[what]
    arguments = CONTRACT.arguments(case_of())
    with pytest.raises(ArgumentError, match=expected):
        registry.get("scan_sample", name)(**arguments | change(arguments))


@st.composite
def drawn_cases(draw: st.DrawFn) -> tuple[Case, int]:
    Hkv, G = draw(st.sampled_from((1, 2))), draw(st.sampled_from((1, 2, 3, 4, 5, 6)))
    lengths = draw(st.lists(st.sampled_from((0, 1, 31, 63, 64, 65, 200, 1023, 1024, 1100)), min_size=1, max_size=3))
    sizes = {
        "lengths": lengths,
        "Hkv": Hkv,
        "H": Hkv * G,
        "d": draw(st.sampled_from((2, 18, 32, 34, 64, 80))),
        "bits": draw(st.sampled_from((1, 2, 4))),
        "wanted": draw(st.sampled_from((0.0, 0.3, 5.0, 31.0, 64.0, 1e6))),
        "floor": [draw(st.sampled_from((0.0, 1.0, 40.0))) for _ in lengths],
        "per_group": draw(st.booleans()),
        "draw": draw(st.sampled_from(("poisson", "priority"))),
        "query_scale": draw(st.sampled_from((0.0, 1.0, 5.0, 1e3, 1e20))),
        "key_scale": draw(st.sampled_from((1e-20, 1.0, 1e10, 1e20))),
        "equal": draw(st.booleans()),
    }
    return Case("drawn", sizes, draw(st.integers(0, 2**22))), draw(st.sampled_from((1, 2, 7)))


def check_drawn(case: Case, threads: int) -> None:
    want = run("reference", case)
    for name, isa in contenders("scan_sample"):
        problem = CONTRACT.compare(run(name, case, threads, isa), want)
        assert problem is None, f"{name} on {isa}: {problem}"


@given(drawn_cases())
@settings(max_examples=40, **COMMON)
def test_drawn_shapes_and_contents(drawn_case):
    check_drawn(*drawn_case)


@pytest.mark.slow
@given(drawn_cases())
@settings(max_examples=600, **COMMON)
def test_more_drawn_shapes_and_contents(drawn_case):
    check_drawn(*drawn_case)
