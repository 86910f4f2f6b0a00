"""Codes with the model, rows with the host: the same samples and logits, and seals that move nothing."""

from __future__ import annotations

import argparse
import math
import weakref

import pytest
import torch
from pydantic import ValidationError

from tests.model.methods.test_scan import HEADS, KV_HEADS, SHARED, D, filled, token
from tests.model.methods.views import generator
from tests.model.test_pipeline import WEIGHTS, decode_life, executed
from tests.model.test_resident import OneDevice
from tests.model.tiny import SHAPE
from truffle.kernels import registry
from truffle.model.arguments import add_decode_arguments, decode_config
from truffle.model.config import DecodeConfig, Execution, LshParameters, ScanParameters, one_line
from truffle.model.llama import Decoder
from truffle.model.methods import exchange, scanned
from truffle.model.methods.layers import layer_caches
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.scanned import ScannedLayer
from truffle.model.operations import DEVICE_OPS, Operations

SAMPLES = [ScanParameters(budget=0.3, per=per, bits=bits, **SHARED) for per, bits in (("group", 4), ("head", 1))]


def config(p: ScanParameters, codes: str, **execution) -> DecodeConfig:
    return executed(DecodeConfig(parameters=p), codes=codes, **execution)


def layer_of(p: ScanParameters, codes: str) -> SampledLayer:
    shape, settings = SHAPE.model_copy(update={"head_dim": D}), config(p, codes)
    return layer_caches(shape, settings, Operations(settings, "cpu"))[2]


@pytest.mark.parametrize("p", SAMPLES, ids=lambda p: p.per)
def test_the_device_draws_what_the_host_draws(p):
    """Through seals, a prompt that is too short to seal, and requests that leave and join; all accounts included."""
    layers = [filled(layer_of(p, codes), 170, 5, 29) for codes in ("device", "host")]
    assert [type(layer) for layer in layers] == [ScannedLayer, SampledLayer]
    draws, batch = generator(), 3
    for step in range(60):
        q, *new = token(batch, draws)
        got, want = (layer.decode(q, *new) for layer in layers)
        assert torch.equal(got, want)
        usages = [layer.usage() for layer in layers]
        assert all(torch.equal(*pair) for pair in zip(*(vars(usage).values() for usage in usages), strict=True))
        assert torch.equal(*(layer.rows() for layer in layers))
        if step == 30:
            joining = torch.randn(2, KV_HEADS, 61, D, generator=draws)
            for layer in layers:
                layer.keep([2, 0])
                layer.admit([joining[0]], [joining[1]])
    assert min(store.length for store in layers[0].stores) > 0


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("p", SAMPLES, ids=lambda p: p.per)
def test_logits_are_those_of_codes_on_the_host(p, micro_batches):
    got, want = (
        decode_life(Decoder(SHAPE, WEIGHTS, config(p, codes, micro_batches=micro_batches)), 3, 20)
        for codes in ("device", "host")
    )
    assert all(torch.equal(*pair) for pair in zip(got, want, strict=True))


def test_a_step_is_what_it_was_until_codes_move():
    """They have room for a thousand tokens more than their first: what was captured holds through seals."""
    layer, draws, found = filled(layer_of(SAMPLES[0], "device"), 9, 31), generator(), []

    def state() -> tuple[list, ...]:
        places = [codes.words.data_ptr() for codes in layer.selector.codes.values()]
        return [store.length for store in layer.stores], places, list(layer._exchanges)

    for _ in range(1200):
        before = state()
        layer.decode(*token(2, draws))
        found.append(tuple(old != new for old, new in zip(before, state(), strict=True)))
    sealed, moved, renewed = zip(*found[1:], strict=True)  # the first step makes its exchanges
    assert moved == renewed
    assert (sum(sealed), sum(moved)) == (148, 3), "room for the second request's first seal, and for either's last"
    assert [store.length for store in layer.stores] == [layer.selector.codes[request].length for request in range(2)]


@torch.inference_mode()
def test_a_step_neither_copies_between_devices_nor_asks_for_a_number(monkeypatch):
    """What a capture would refuse. The kernels are left out; the step before has put in place what stays."""
    monkeypatch.setattr(registry, "_has_cuda", lambda: True)
    pytest.importorskip("triton")
    for module in (exchange, scanned):
        monkeypatch.setattr(module, "shared", _shared_without_memory)
    named = dict.fromkeys(DEVICE_OPS, "gpu_triton")
    settings = DecodeConfig(parameters=SAMPLES[0], implementations=named)
    ops, called = Operations(settings, "cuda"), []
    assert ops.scans_beside
    ops.codes_team["device"] = torch.device("meta")
    ops.courier.carry = lambda source, target: None
    for op in ops.names:
        monkeypatch.setattr(ops, op, lambda *args, op=op, **kwargs: called.append(op))
    ops.repeated = lambda op, *args, **kwargs: lambda: called.append(op)
    layer = layer_caches(SHAPE, settings, ops)[2]
    prompts = [torch.empty(2, n, 16, device="meta") for n in (50, 40)]
    layer.prefill(prompts, prompts)
    (one,) = layer.exchanges([range(2)], 6)
    q, new = torch.empty(2, 6, 16, device="meta"), torch.empty(2, 2, 16, device="meta")
    called.clear()
    with OneDevice() as watch:
        one.ask(q)
        one.attend_exactly(new, new)
        assert one.merge().shape == q.shape
    assert watch.seen is not None
    assert called == ["scan_sample", "dense_attend", "merge_states"]


def _shared_without_memory(shape, dtype, device):
    return tuple(torch.empty(shape, dtype=dtype, device=device) for _ in range(2))


def test_codes_that_have_moved_are_gone():
    """Though a pipeline still holds the exchange."""
    layer, draws = filled(layer_of(SAMPLES[0], "device"), 170), generator()
    layer.decode(*token(1, draws))
    (held,), before = layer._exchanges, weakref.ref(layer.selector.codes[0].words)
    while layer._exchanges[0] is held:
        layer.decode(*token(1, draws))
    assert before() is None


@pytest.mark.parametrize(("per", "lists"), [("group", KV_HEADS), ("head", HEADS)])
def test_what_is_told_is_the_query_and_room_for_the_sample(per, lists):
    """Room for 500 of 1,124 keys and eight deviations of their number; a number, an id and a weight have four bytes."""
    p = ScanParameters(budget=500, per=per, **SHARED)
    layer = filled(layer_of(p, "device"), 112, 5)
    (exchange,) = layer.exchanges([range(2)], HEADS)
    room = 500 + math.ceil(8 * 500**0.5) + 32
    assert exchange.bytes_to_host == 2 * HEADS * D * 4 + 2 * lists * (8 * room + 4)
    assert filled(layer_of(p, "device"), 5).exchanges([range(1)], HEADS)[0].bytes_to_host == HEADS * D * 4


def test_what_a_twin_seals_is_its_own():
    one, draws = filled(layer_of(SAMPLES[0], "device"), 170), generator()
    other = one.twin()
    before = other.selector.codes[0].words.clone()
    for _ in range(40):
        one.decode(*token(1, draws))
    assert one.selector.codes[0].length > other.selector.codes[0].length
    assert torch.equal(other.selector.codes[0].words, before)


def test_a_flag_says_where_codes_are():
    parser = argparse.ArgumentParser()
    add_decode_arguments(parser)
    for given, want in (([], "auto"), (["--codes", "host"], "host")):
        config = decode_config(parser.parse_args(["--method", "scan", *given]))
        assert config.execution.codes == want
    with pytest.raises(ValueError, match="codes: expected auto, as dense keeps none, got device"):
        decode_config(parser.parse_args(["--method", "dense", "--codes", "device"]))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"parameters": LshParameters(), "execution": {"codes": "device"}},
         "codes: expected auto, as lsh keeps none, got device"),
        ({"implementations": {"scan_sample": "gpu_triton"}, "execution": {"codes": "host"}},
         "codes: expected auto or device with scan_sample=gpu_triton, got host"),
        ({"implementations": {"scan_sample": "cpu_native"}, "execution": {"codes": "device"}},
         "codes: expected auto or host with scan_sample=cpu_native, got device"),
        ({"execution": {"codes": "gpu"}}, "codes: Input should be 'auto', 'host' or 'device', got 'gpu'"),
    ],
)  # fmt: skip
def test_where_codes_cannot_be(given, line):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig.model_validate({"parameters": ScanParameters()} | given)
    assert one_line(caught.value).removeprefix("execution.") == line


@pytest.mark.parametrize(
    ("device", "given", "there"),
    [
        ("cuda", {}, True),
        ("cpu", {}, False),
        ("cpu", {"execution": Execution(codes="device")}, True),
        ("cuda", {"execution": Execution(codes="host")}, False),
        ("cuda", {"implementations": {"scan_sample": "cpu_native"}}, False),
        ("cuda", {"implementations": {"scan_sample": "gpu_cupy"}}, True),
        ("cuda", {"implementations": {"scan_sample": "gpu_cupy", "sparse_attend": "gpu_triton"}}, False),
        ("cuda", {"parameters": LshParameters()}, False),
    ],
)
def test_where_codes_are(device, given, there):
    """Beside rows on the host: what resides on the GPU has rows there too."""
    assert DecodeConfig(**{"parameters": ScanParameters()} | given).scans_beside(device) == there
