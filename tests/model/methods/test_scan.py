"""Sampling by a scan of quantised keys: the layer, its reference, and what both promise."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from tests.model.methods.views import SIGMAS, D, deviations_off, exact, generator, made_view
from tests.model.test_generate import decoder, prompts
from tests.model.tiny import SHAPE
from truffle.bench.vram import static_bytes
from truffle.kernels.codes import unpacked
from truffle.kernels.registry import Unusable
from truffle.model.config import DecodeConfig, Execution, ScanParameters, one_line
from truffle.model.generate import DensityMeter, generate
from truffle.model.llama import Decoder
from truffle.model.methods.choosing.scan import Scanned
from truffle.model.methods.dense import DenseLayer
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.selecting import SelectingLayer
from truffle.model.operations import Operations

HEADS, KV_HEADS, SINK, WINDOW, SEAL = 6, 2, 4, 8, 16
SHARED = {"sink": SINK, "window": WINDOW, "dense_layers": (0,), "seal_tokens": SEAL}
SAMPLES = [ScanParameters(budget=0.2, per=per, bits=bits, **SHARED) for per in ("group", "head") for bits in (1, 2, 4)]
OPS = Operations(DecodeConfig(parameters=ScanParameters(), execution=Execution(store_format="float32")), "cpu")


def named(p: ScanParameters) -> str:
    return f"{p.per}-{p.bits}"


def layer_of(p: ScanParameters, layer: int = 2) -> SampledLayer:
    return SampledLayer(p.sink, p.window, p.seal_tokens, torch.float32, ScanSelector(p, layer, D, OPS), OPS)


def filled(layer, *lengths: int):
    found = [torch.randn(2, KV_HEADS, n, D, generator=generator(n)) for n in lengths]
    layer.prefill([keys for keys, _ in found], [values for _, values in found])
    return layer


def token(batch: int, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q = torch.randn(batch, HEADS, D, generator=draws)
    return q, *torch.randn(2, batch, KV_HEADS, D, generator=draws)


@pytest.mark.parametrize("p", SAMPLES, ids=named)
def test_sums_are_unbiased(p):
    """Over 400 seeds, each of which has its rotation: what the layer adds up of the stored keys is right in the mean.
    A mean is off by more than 4.5 of its standard errors in one of 1,400 runs."""
    n, q, new = 120, 2 * torch.randn(1, HEADS, D, generator=generator(5)), torch.zeros(2, 1, KV_HEADS, D)
    keys, values = torch.randn(2, KV_HEADS, n, D, generator=generator(n))
    stored = slice(SINK, n - WINDOW)
    weights = (q[0].view(KV_HEADS, -1, D) @ keys[:, stored].mT * D**-0.5).exp().double()
    numerators, denominators = [], []
    for seed in range(400):
        layer = filled(layer_of(p.model_copy(update={"seed": seed})), n)
        exchange = layer.exchanges([range(1)], HEADS)[0]
        layer.count_token()
        exchange.whole(q, *new)
        denominators.append(exchange.lse[0].double().exp())
        numerators.append(denominators[-1][:, None] * exchange.out[0].double())
    assert float(deviations_off(torch.stack(denominators), weights.sum(-1).flatten()).max()) < SIGMAS
    numerator = (weights @ values[:, stored].double()).flatten(0, 1)
    assert float(deviations_off(torch.stack(numerators), numerator).max()) < SIGMAS


@pytest.mark.parametrize("p", SAMPLES, ids=named)
def test_the_reference_draws_what_the_layer_draws(p):
    """Batches, open segments, seals between steps and requests that leave included."""
    layers = layer_of(p), SelectingLayer(SINK, WINDOW, p.seed, 2, lambda: Scanned(p, 2, D, OPS))
    fast, reference = (filled(layer, 170, 5, 29) for layer in layers)
    draws, batch = generator(), 3
    for step in range(40):
        q, *new = token(batch, draws)
        torch.testing.assert_close(reference.decode(q, *new), fast.decode(q, *new), atol=1e-4, rtol=1e-4)
        for figure in ("attended", "cached"):
            assert torch.equal(getattr(reference.usage(), figure), getattr(fast.usage(), figure))
        assert torch.equal(reference.rows(), fast.rows())
        if step == 30:
            fast.keep([2, 0])
            reference.keep([2, 0])
            batch = 2


@pytest.mark.parametrize("p", SAMPLES[2::3], ids=named)
def test_a_request_draws_in_a_batch_what_it_draws_alone(p):
    lengths = (90, 5, 170, 40)
    together, alone = filled(layer_of(p), *lengths), [filled(layer_of(p), n) for n in lengths]
    draws = generator()
    for _ in range(40):
        q, *new = token(len(lengths), draws)
        want = [layer.decode(*(x[row : row + 1] for x in (q, *new))) for row, layer in enumerate(alone)]
        assert torch.equal(together.decode(q, *new), torch.cat(want))


@pytest.mark.parametrize("p", SAMPLES[2::3], ids=named)
def test_a_request_chooses_in_a_batch_the_keys_that_it_chooses_alone(p):
    """Also as a prompt joins, so that places and what is stored change."""
    question = torch.randn(5, HEADS, D, generator=generator())
    cached = torch.tensor([500, 7, 90, 500, 12], dtype=torch.int32)

    def chosen(selector: ScanSelector, requests: range) -> list[tuple[list[int], list[float]]]:
        own = slice(requests.start, requests.stop)
        count = torch.empty(len(requests) * HEADS, dtype=torch.int32)
        find, found = selector.choose(question[own].contiguous(), requests, count, 500, lambda: cached[own])
        find()
        uses = found.count.tolist()
        assert count.tolist() == [use for use in uses for _ in range(len(count) // len(uses))]
        assert found.log_weight is not None
        pairs = zip(found.ids, found.log_weight, uses, strict=True)
        return [(ids[:use].tolist(), log_p[:use].tolist()) for ids, log_p, use in pairs]

    selector = ScanSelector(p, 2, D, OPS)
    stored = {0: 430, 2: 70, 3: 300, 4: 5}  # of request 1 nothing
    for request, n in stored.items():
        selector.add(request, torch.randn(KV_HEADS, n, D, generator=generator(n)))()
        together = chosen(selector, range(request + 1))
        rows = len(together) // (request + 1)
        for place in (place for place in stored if place <= request):
            assert chosen(selector, range(place, place + 1)) == together[place * rows : (place + 1) * rows]
    assert together[rows : 2 * rows] == [([], [])] * rows
    assert all(ids for ids, _ in together[:rows] + together[2 * rows : 4 * rows])


def test_equal_requests_of_a_batch_draw_the_same():
    layer = filled(layer_of(SAMPLES[2]), 170, 170)
    q, *new = token(1, generator())
    out = layer.decode(*(x.expand(2, *x.shape[1:]).contiguous() for x in (q, *new)))
    assert torch.equal(out[0], out[1])


def test_a_batch_in_halves_draws_what_it_draws_whole():
    p, batch = SAMPLES[2], prompts(90, 5, 60, 31)
    found = []
    for lanes in (1, 2):
        config = DecodeConfig(parameters=p, execution=Execution(batch_size=4, micro_batches=lanes))
        model = Decoder(decoder(p).shape, decoder(p).weights, config)
        model.prefill(batch)
        steps = torch.randint(0, 101, (30, 4), generator=generator())
        found.append(torch.stack([model.step(tokens) for tokens in steps]))
    torch.testing.assert_close(*found, atol=2e-4, rtol=1e-4)


def test_steps_draw_anew():
    layer, draws = filled(layer_of(SAMPLES[2]), 170), generator()
    q, *new = token(1, draws)
    rows = []
    for _ in range(2):
        layer.decode(q, *new)
        rows.append(layer.usage().attended)
    assert not torch.equal(rows[1], rows[0] + 1), "one key more is open"


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("sizes", [(1,) * 70, (64, 1, 63, 128), (65, 3, 70, 16, 16), (200, 56)], ids=str)
def test_keys_that_come_in_parts_have_the_codes_of_keys_at_once(bits, sizes):
    p = ScanParameters(bits=bits, centred=False)
    keys = torch.randn(KV_HEADS, sum(sizes), D, generator=generator())
    found = []
    for parts in (sizes, (sum(sizes),)):
        selector = ScanSelector(p, 0, D, OPS)
        for part in keys.split(parts, dim=1):
            selector.add(0, part)()
        found.append(selector.codes[0])
    grown, whole = found
    assert grown.length == whole.length == sum(sizes)
    codes, scales = ([unpacked(c.words, D, bits)[:, : c.length] for c in found], [c.scales.flatten(1) for c in found])
    assert torch.equal(*codes)
    assert torch.equal(*(part[:, : whole.length] for part in scales))


@pytest.mark.parametrize("per", ["group", "head"])
@pytest.mark.parametrize("budget", [1.0, 100_000])
def test_who_wants_every_key_attends_exactly(per, budget):
    p = ScanParameters(budget=budget, per=per, **SHARED)
    fast, dense, draws = filled(layer_of(p), 120, 3), filled(DenseLayer(OPS), 120, 3), generator()
    for _ in range(40):
        q, *new = token(2, draws)
        torch.testing.assert_close(fast.decode(q, *new), dense.decode(q, *new), atol=1e-5, rtol=1e-4)


def test_long_generation_goes_on_and_keeps_its_density():
    p = ScanParameters(budget=0.1, **SHARED)
    model, meter = decoder(p), DensityMeter()
    model.observer = meter
    produced = list(generate(model, prompts(100, 30), 320))
    assert len(produced) == 320
    for layer in model.caches[1:]:
        assert [store.length for store in layer.stores] == [codes.length for codes in layer.selector.codes.values()]
        assert min(store.length for store in layer.stores) > 300
    assert 0.1 < meter.density < 0.2, "the budget, and up to 16 open keys of 70 to 400"


@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0])
def test_a_sample_is_as_large_as_its_budget(floor):
    """The proposal's and the uniform keys overlap, so that the mean is between the larger part and the budget, but for
    five deviations of a sum of independent inclusions."""
    p = ScanParameters(budget=60, per="head", floor=floor, **SHARED)
    counts = []
    for seed in range(60):
        layer = filled(layer_of(p.model_copy(update={"seed": seed})), 600)
        layer.decode(*token(1, generator(seed)))
        counts.append(layer.usage().attended.double() - 1)  # one is open
    mean, off = float(torch.cat(counts).mean()), 5 * math.sqrt(60 / (60 * HEADS))
    assert max(1 - floor, floor) * 60 - off < mean < 60 + off


def test_room_is_made_for_the_budget_as_the_operation_adds_it_up():
    """In float32 the two parts of 1% of 3,550 keys come to more than 35.5, and to an id more of room."""
    layer = filled(layer_of(ScanParameters(budget=0.01, **SHARED)), 3550 + SINK + WINDOW)
    assert layer.decode(*token(1, generator(0))).isfinite().all()


def test_estimated_variances_are_those_observed():
    """Over 600 seeds: the mean of the estimates is within 15% of the observed mean square, of the output within 25%."""
    view = made_view(300, beta=0.7, seed=2)
    _, denominator, out = exact(view)
    claimed, observed = [], []
    for seed in range(600):
        scanned = Scanned(ScanParameters(budget=60, seal_tokens=1, seed=seed), 0, D, OPS)
        scanned.add(view.keys)
        chosen = scanned.select(view, generator())
        errors, found = scanned.errors(view, chosen), view.estimate(chosen)[1]
        attended = view.attend(chosen)
        claimed.append((float(errors.denominator * found) ** 2, float(errors.output * attended.norm()) ** 2))
        observed.append((float(found - denominator) ** 2, float((attended - out).square().sum())))
    ratios = torch.tensor(claimed).mean(0) / torch.tensor(observed).mean(0)
    assert float(ratios[0]) == pytest.approx(1.0, abs=0.15)
    assert float(ratios[1]) == pytest.approx(1.0, abs=0.25)


def test_what_a_twin_seals_is_its_own():
    one, draws = filled(layer_of(SAMPLES[2]), 120), generator()
    other = one.twin()
    for _ in range(SEAL + 1):
        one.decode(*token(1, draws))
    assert one.selector.codes[0].length == other.selector.codes[0].length + SEAL


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"bits": 3}, "bits: Input should be 1, 2 or 4, got 3"),
        ({"budget": 1.5}, "budget: expected a count such as 128, or a fraction from 0.0 to 1.0, got 1.5"),
        ({"floor": 1.1}, "floor: "),
        ({"per": "layer"}, "per: Input should be 'group' or 'head', got 'layer'"),
        ({"K": 8}, "K: "),
    ],
)
def test_values_out_of_range_are_refused(parameters, line):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig.model_validate({"method": "scan", "parameters": parameters})
    assert one_line(caught.value).startswith(line)


@pytest.mark.parametrize("op", ["retrieve", "build_tables", "direct_probes", "retrieve_attend"])
def test_a_scan_calls_no_operation_of_tables(op):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(parameters=ScanParameters(), implementations={op: "auto"})
    assert one_line(caught.value) == f"implementations: expected none of {op}, which scan does not call"


@pytest.mark.parametrize("method", ["lsh", "dense", "quest"])
def test_others_call_no_operation_of_the_scan(method):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(method=method, implementations={"scan_sample": "auto"})
    assert one_line(caught.value) == f"implementations: expected none of scan_sample, which {method} does not call"


def test_a_scan_on_a_gpu_attends_there():
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(parameters=ScanParameters(), implementations={"sparse_attend": "gpu_triton"})
    assert "expected both of scan_sample and sparse_attend on a GPU" in one_line(caught.value)
    both = {"scan_sample": "gpu_triton", "sparse_attend": "gpu_triton"}
    config = DecodeConfig(parameters=ScanParameters(), implementations=both)
    assert config.resident
    if not torch.cuda.is_available():
        with pytest.raises(Unusable, match="gpu_triton is not usable"):
            Operations(config, "cpu")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"method": "lsh"}, "gather: expected auto, as lsh samples no rows by a scan, got link"),
        ({"method": "dense"}, "gather: expected auto, as dense samples no rows by a scan, got link"),
        ({"method": "scan", "execution": {"codes": "host"}}, "gather: expected auto with codes of the host, got link"),
        (
            {"method": "scan", "implementations": {"sparse_attend": "cpu_native"}},
            "gather: expected auto with sparse_attend=cpu_native, got link",
        ),
        (
            {"method": "scan", "parameters": {"epsilon": 0.1, "delta": 0.1}},
            "gather: expected auto with epsilon, which compares all keys, got link",
        ),
    ],
)
def test_only_the_device_of_a_scan_gathers_over_the_link(config, line):
    config = config | {"execution": config.get("execution", {}) | {"gather": "link"}}
    with pytest.raises(ValidationError) as caught:
        DecodeConfig.model_validate(config)
    assert one_line(caught.value) == line


def test_rows_read_over_the_link_take_no_memory_of_the_device():
    linked = DecodeConfig(parameters=ScanParameters(), execution=Execution(gather="link"))
    apart = DecodeConfig(parameters=ScanParameters())
    both = {"scan_sample": "gpu_triton", "sparse_attend": "gpu_triton"}
    resident = DecodeConfig(parameters=ScanParameters(), implementations=both)
    assert linked.resident
    sizes = [static_bytes(SHAPE, config, 4096) for config in (linked, apart, resident)]
    assert sizes[0] <= sizes[1] < sizes[2]


def test_tables_do_without_the_operations_of_the_scan():
    assert not hasattr(Operations(DecodeConfig(method="lsh"), "cpu"), "scan_sample")
