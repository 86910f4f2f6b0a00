"""What a calibration times of kernels, the work it says they do, and whose file it is."""

from __future__ import annotations

import pytest
import torch

from truffle.bench import device_layer, host_file, host_work, kernel_rates
from truffle.bench.arguments import arguments_of
from truffle.bench.bandwidth import HostCalibration, HostRates
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.bench.spread import Spread
from truffle.kernels import hardware, isa, registry
from truffle.kernels.checks import ArgumentError
from truffle.model.config import LshParameters, Probing, ScanParameters
from truffle.model.shapes import SHAPES

LLAMA = SHAPES["llama-3.1-8b"]


@pytest.fixture(scope="module")
def times() -> tuple[kernel_rates.KernelTime, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_rates, "CONTEXTS", (512, 2048))
        patch.setattr(kernel_rates, "layers_beyond_cache", lambda size: 1)
        patch.setattr(kernel_rates, "ROUNDS", 2)
        patch.setattr(kernel_rates, "SHAPE", kernel_rates.SHAPE.model_copy(update={"hidden": 256, "intermediate": 256}))
        return kernel_rates.measure([1, 2], 0.0)


def test_every_kernel_is_timed_at_every_thread_count(times):
    widest = isa.resolve("auto")
    ops = {"retrieve", "sparse_attend", "retrieve_attend", "attend_lists", "scan_sample", "dense_attend", "linear",
           "direct_probes", "layer_dense", "layer_lsh", "layer_scan"}  # fmt: skip
    for threads in (1, 2):
        assert {one.op for one in times if (one.threads, one.isa) == (threads, widest)} == ops
    assert {one.store_format for one in times if one.op == "sparse_attend"} == {"bfloat16", "int8"}
    assert {one.isa for one in times} == {level for level in isa.ISAS if isa.why_not(level) is None}
    assert {one.threads for one in times if one.isa != widest} == {2}
    spun = {(one.op, one.threads) for one in times if one.wait_policy == "spin"}
    assert spun == {(op, 2) for op in ops if not op.startswith(("layer", "linear", "direct"))}
    assert all(0 < one.seconds.p20 <= one.seconds.p50 <= one.seconds.p80 for one in times)


def test_a_call_of_a_larger_batch_is_said_to_do_more(times):
    work = [one.work for one in times if one.op == "retrieve" and one.threads == 1 and one.work["wide_counters"] == 0]
    assert max(one["probes"] for one in work) == 4 * 32 * 150
    assert all(one["entries"] > 0 for one in work)


@pytest.mark.parametrize(
    "p", [LshParameters(K=8, L=40), LshParameters(K=10, L=30, probing=Probing(kind="ball", amount=1))]
)
def test_work_is_what_the_kernels_are_given_to_do(p):
    shape = LLAMA.model_copy(update={"heads": 8, "kv_heads": 2})
    data = LayerData(Sizes(8192, 8, 2, 128, 8, 40)).with_tables(p.K, p.L, p.min_hits, 2, p.probing)
    found = arguments_of("retrieve", data)
    registry.get("retrieve", "cpu_native")(**found)
    codes = found["query_codes"].to(torch.int64)
    (segment,) = data.segments
    sizes = segment.offsets.diff(dim=-1).repeat_interleave(4, 0)
    entries = sum(int(sizes.gather(2, one).sum()) for one in codes)
    work = host_work.retrieve(shape, p, 8192, 2)
    assert work["probes"] == codes.numel()
    assert work["entries"] == pytest.approx(entries, rel=0.15)
    rows = host_work.attend(shape, p, 8192, 2, "bfloat16")["bytes"] / 512
    assert rows == pytest.approx(int(found["count"].sum()), rel=0.25)


def test_work_of_a_scan_by_hand():
    scan = ScanParameters(budget=0.01)
    assert host_work.scan(LLAMA, scan, 1000, 3) == {"bytes": 3 * 8 * 1000 * 66, "scores": 3 * 32 * 1000}
    shared = host_work.attend_lists(LLAMA, scan, 1000, 3, "bfloat16")
    assert shared == pytest.approx({"bytes": 3 * 8 * 9 * 512, "products": 3 * 32 * 9 * 512})
    own = host_work.attend_lists(LLAMA, scan.model_copy(update={"per": "head"}), 1000, 1, "int8")
    assert own == pytest.approx({"bytes": 32 * 9 * 272, "products": 32 * 9 * 272})


def test_the_small_kernels_of_a_layer_run_again_and_again():
    multiply, multiplied = device_layer.multiplying("cpu", [(64, 32)] * 4), []
    layer = device_layer.small_kernels("cpu", lambda which: (multiply(which), multiplied.append(which))[1])
    for _ in range(3):
        layer()
    assert multiplied == 3 * list(range(len(device_layer.PRODUCTS)))


ONE = Spread(p20=1.0, p50=1.0, p80=1.0, repeats=2)
RATES = HostRates(threads=1, **{name: ONE for name in HostRates.model_fields if name != "threads"})


def calibration(**cpu) -> HostCalibration:
    here = hardware.detect().cpu.model_copy(update=cpu)
    return HostCalibration(
        created="2026-11-23",
        cpu=here,
        memory_limit_bytes=1,
        buffer_bytes=1,
        rates=(RATES,),
        device=None,
        measured_on={},
    )


def test_a_calibration_is_kept_in_the_cache_folder_and_told_from_another_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert host_file.default_path() == tmp_path / "truffle/host.json"
    assert host_file.of_this_machine() is None
    calibration().save(host_file.default_path())
    assert host_file.of_this_machine() == calibration()
    calibration(model="Atom", usable_cpus=1).save(host_file.default_path())
    assert host_file.of_this_machine() is None
    with pytest.raises(ArgumentError, match=r"host: expected a calibration of this machine, got .*it is Atom, 1 CPUs"):
        host_file.of_this_machine(host_file.default_path())


def test_other_instructions_are_another_machine():
    here = hardware.detect().cpu
    assert host_file.difference(calibration(), here) is None
    assert host_file.difference(calibration(isa=(*here.isa, "sve")), here) == "its instructions differ by sve"
