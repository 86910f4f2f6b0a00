"""Which tuned file is taken for a machine and a model, what is said of it, and what is left out."""

from __future__ import annotations

import pytest

from tests.model.tuned_files import made
from truffle.kernels import hardware, isa, isa_flags, profiles
from truffle.kernels.hardware import Cpu, Gpu, HardwareProfile
from truffle.model import tuned
from truffle.model.shapes import SHAPES
from truffle.model.tuned import NoTunedConfig, TunedFileError, resolve

MODEL = SHAPES["llama-3.1-8b"]
AVX512 = tuple(sorted(isa_flags.FLAGS["avx512"]))


def machine(card: str | None = "NVIDIA GeForce RTX 4090", **cpu) -> HardwareProfile:
    about = {"model": "A CPU", "isa": AVX512, "logical_cpus": 16, "physical_cores": 16}
    about |= {"usable_cpus": 16, "usable_cores": 16} | cpu
    gpus = (Gpu(name=card, memory_bytes=24 << 30),) if card else ()
    return HardwareProfile(cpu=Cpu(**about), gpus=gpus)


def put(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    tuned.save(made(**changes), folder / "tuned.json")
    return folder / "tuned.json"


def workload(context: int) -> tuned.Workload:
    return tuned.Workload(context=context, new_tokens=128)


def test_what_was_asked_for_exactly(tmp_path):
    file = put(tmp_path)
    for place in (file, tmp_path, str(tmp_path)):
        config, reason, warnings = resolve(place, MODEL, machine(), 98_304, 2)
        assert config == made().config
        assert reason == f"exact: {file}, tuned for 98304 tokens, batch 2"
        assert warnings == ()


def test_the_nearest_of_a_folder_within_what_each_allows(tmp_path):
    put(tmp_path / "short", workload=workload(32_768))
    put(tmp_path / "long", workload=workload(98_304))
    found = resolve(tmp_path, MODEL, machine(), 50_000, 2)
    assert found.reason.startswith(f"nearest: {tmp_path / 'short' / 'tuned.json'}, tuned for 32768 tokens, batch 2")
    assert found.reason.endswith("asked for 50000, batch 2")
    assert "long" in resolve(tmp_path, MODEL, machine(), 65_000, 2).reason
    assert resolve(tmp_path, MODEL, machine(), 50_000, 3).warnings == ()


@pytest.mark.parametrize(
    ("context", "batch", "message"),
    [
        (40_000, 2, "context 98304 is more than 2x away from 40000"),
        (200_000, 2, "context 98304 is more than 2x away from 200000"),
        (98_304, 5, "batch 2 is more than 2x away from 5"),
    ],
)
def test_what_is_farther_than_a_file_allows_is_refused(tmp_path, context, batch, message):
    with pytest.raises(NoTunedConfig, match=message):
        resolve(put(tmp_path), MODEL, machine(), context, batch)


def test_a_file_says_how_far_it_reaches(tmp_path):
    put(tmp_path, match=tuned.Match(context_ratio=4.0))
    assert resolve(tmp_path, MODEL, machine(), 30_000, 2).reason.startswith("nearest")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": "98304"}, "context: expected a whole number of tokens, at least 1, got '98304'"),
        ({"context": 98_304.5}, "context: expected a whole number of tokens"),
        ({"batch": True}, "batch: expected a whole number of requests, at least 1, got True"),
        ({"batch": 0}, "batch: expected a whole number of requests, at least 1, got 0"),
        ({"model": "llama-3.1-8b"}, "model: expected a ModelShape, got 'llama-3.1-8b'"),
        ({"hardware": None}, "hardware: expected a HardwareProfile, such as detect"),
        ({"folder_or_file": "x" * 5000}, "File name too long"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, changes, message):
    asked = {"folder_or_file": put(tmp_path), "model": MODEL, "hardware": machine(), "context": 98_304, "batch": 2}
    with pytest.raises(ValueError, match=message):
        resolve(**asked | changes)


def test_a_file_cannot_keep_another_card_or_model_from_being_told(tmp_path):
    file = put(tmp_path, match=tuned.Match(equal=()))
    assert resolve(file, MODEL, machine(), 98_304, 2).reason.startswith("exact")
    found = resolve(file, MODEL, machine("NVIDIA H200"), 98_304, 2)
    assert found.reason.startswith("compatible")
    assert found.warnings[0].startswith("other card: ")


def test_another_card_is_warned_of_by_both_names(tmp_path):
    found = resolve(put(tmp_path), MODEL, machine("NVIDIA H200"), 98_304, 2)
    assert found.config == made().config
    assert found.reason.startswith("compatible: ")
    assert found.reason.endswith("; stale: other card")
    assert found.warnings == (
        "other card: tuned for NVIDIA GeForce RTX 4090 (rtx-4090), here is NVIDIA H200 (h200); "
        "its throughput is not this machine's",
    )


def test_a_card_without_a_profile_goes_by_its_own_name(tmp_path):
    (warning,) = resolve(put(tmp_path), MODEL, machine("Someone's Card"), 98_304, 2).warnings
    assert "here is Someone's Card;" in warning


def test_a_file_for_the_cpu_alone(tmp_path):
    alone = made().hardware.model_copy(update={"profile": None, "gpu": None, "link": None})
    put(tmp_path, hardware=alone, config=made().config.model_copy(update={"implementations": {}}))
    assert resolve(tmp_path, MODEL, machine(None), 98_304, 2).reason.startswith("exact")
    assert (
        "tuned for no GPU, here is NVIDIA H200 (h200)"
        in resolve(tmp_path, MODEL, machine("NVIDIA H200"), 98_304, 2).warnings[0]
    )


def test_what_cannot_run_here_is_left_to_auto_and_said_so(tmp_path):
    here = machine(None, isa=("avx2", "fma"), usable_cpus=4)
    config, _, warnings = resolve(put(tmp_path), MODEL, here, 98_304, 2)
    assert (config.execution.isa, config.execution.threads) == ("auto", 4)
    assert config.implementations == {"retrieve": "cpu_native"}
    assert config.parameters == made().config.parameters
    assert [warning.partition(":")[0] for warning in warnings] == ["other card", "other ISA", "threads", "hash_codes"]
    assert "here is no GPU" in warnings[0]
    assert "auto instead of avx512: the processor lacks avx512bw, " in warnings[1]


def test_an_implementation_of_another_version_is_left_to_auto(tmp_path):
    unknown = made().config.model_copy(update={"implementations": {"retrieve": "cpu_future", "future": "cpu_native"}})
    found = resolve(put(tmp_path, config=unknown), MODEL, machine(), 98_304, 2)
    assert found.config.implementations == {}
    assert found.warnings[0] == "retrieve: auto instead of cpu_future: this truffle has no such implementation"


def test_another_model_cpu_version_and_memory_are_named(tmp_path):
    limit = made().hardware.model_copy(update={"vram_limit_bytes": 12 << 30})
    equal = ("model.shape", "hardware.profile", "hardware.vram_limit_bytes")
    newer = made().generator.model_copy(update={"version": "7.0.1"})
    put(tmp_path, hardware=limit, match=tuned.Match(equal=equal), generator=newer)
    found = resolve(tmp_path, SHAPES["smollm2"], machine(model="Another CPU"), 98_304, 2)
    assert [warning.partition(":")[0] for warning in found.warnings] == [
        "other model", "other memory", "other version", "other CPU",
    ]  # fmt: skip
    assert "tuned for llama-3.1-8b with layers 32, this one has 30 and " in found.warnings[0]
    assert "held to 12.0 GiB, here are 24.0 GiB" in found.warnings[1]
    assert "written by truffle 7.0.1, this is truffle 0." in found.warnings[2]


def test_a_file_for_this_machine_is_taken_before_a_nearer_one_for_another(tmp_path):
    other = made().hardware.model_copy(update={"profile": "h200", "gpu": tuned.Gpu(name="NVIDIA H200")})
    put(tmp_path / "other", hardware=other)
    put(tmp_path / "own", workload=workload(65_536))
    assert resolve(tmp_path, MODEL, machine(), 98_304, 2).reason.startswith(f"nearest: {tmp_path / 'own'}")


def test_files_that_cannot_be_read_are_named_and_left_out(tmp_path):
    put(tmp_path / "tuned" / "good")
    (tmp_path / "tuned" / "bad").mkdir()
    (tmp_path / "tuned" / "bad" / "tuned.json").write_text("{}")
    put(tmp_path / "elsewhere")
    (tmp_path / "tuned" / "link").symlink_to(tmp_path / "elsewhere")
    found = resolve(tmp_path / "tuned", MODEL, machine(), 98_304, 2)
    assert "good" in found.reason
    assert [("bad" in w, "link" in w) for w in found.warnings] == [(True, False), (False, True)]
    assert "leads out of the folder" in found.warnings[1]


def test_nothing_to_take(tmp_path):
    with pytest.raises(NoTunedConfig, match=r"no tuned.json in it"):
        resolve(tmp_path, MODEL, machine(), 98_304, 2)
    with pytest.raises(TunedFileError, match="nowhere"):
        resolve(tmp_path / "nowhere", MODEL, machine(), 98_304, 2)
    with pytest.raises(ValueError, match="context: expected a whole number of tokens, at least 1, got 0"):
        resolve(put(tmp_path), MODEL, machine(), 0, 2)
    with pytest.raises(ValueError, match="batch: expected a whole number of requests, at least 1, got -1"):
        resolve(put(tmp_path), MODEL, machine(), 98_304, -1)


def test_flags_of_instruction_sets_are_what_the_native_kernels_ask_for():
    flags = hardware.detect().cpu.isa
    assert tuple(isa_flags.FLAGS) == isa.ISAS
    for name in ("scalar", "avx2", "avx512", "avx512_bf16"):  # for tiles a process needs permission besides
        assert (isa_flags.why_not(name, flags) is None) == (isa.why_not(name) is None)
    assert isa_flags.why_not("auto", ()) is None
    assert isa_flags.why_not("sse9", flags) == "there is no such instruction set"


def test_every_card_with_a_profile_is_told_by_what_nvml_calls_it():
    assert profiles.matching("NVIDIA GeForce RTX 4090").id == "rtx-4090"
    assert profiles.matching("NVIDIA H200").id == "h200"
