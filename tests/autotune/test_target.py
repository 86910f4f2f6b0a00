"""Whose host and whose card: what is said where they are not the ones that are here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.autotune.fakes import rates
from truffle.autotune import target
from truffle.autotune.cli import build_parser
from truffle.autotune.measured_profile import with_measured
from truffle.autotune.options import fingerprint
from truffle.autotune.storage import StudyError, open_study, require_same
from truffle.autotune.worker import _marks_to_share
from truffle.bench import host_file
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.device_bandwidth import DeviceRates, LinkPoint
from truffle.bench.spread import Spread
from truffle.bench.workloads import parse_workload
from truffle.kernels import hardware, profiles
from truffle.kernels.checks import ArgumentError


@pytest.fixture(autouse=True)
def nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(target.bandwidth, "calibrate", lambda seconds: calibration(created="now"))


def calibration(created: str = "2026-11-23T08:00:00", device: DeviceRates | None = None, **cpu) -> HostCalibration:
    return HostCalibration(
        created=created, cpu=hardware.detect().cpu.model_copy(update=cpu), memory_limit_bytes=1 << 36, buffer_bytes=1,
        rates=(rates(2 if created == "now" else 1),), device=device, measured_on={},
    )  # fmt: skip


def device(name: str) -> DeviceRates:
    def spread(value: float) -> Spread:
        return Spread(p20=value, p50=value, p80=value, repeats=2)

    sizes = {1 << 10: 2e-5, 1 << 28: (1 << 28) / 50e9}
    return DeviceRates(
        name=name, memory_copy_bytes_per_s=spread(4e12), launch_latency_s=spread(1e-6),
        product_bytes_per_s=spread(3e12), layer_kernel_latency_s=spread(4e-6), scan_bytes_per_s=spread(2e12),
        link=tuple(LinkPoint(direction=way, size_bytes=size, latency_s=spread(seconds))
                   for way in ("h2d", "d2h") for size, seconds in sizes.items()),
    )  # fmt: skip


def test_a_file_of_this_machine_stands_for_measuring_it(tmp_path):
    calibration().save(tmp_path / "host.json")
    found = target.find_target("4090", tmp_path / "host.json", None, 1.0)
    assert found.host.here
    assert found.host.rates[0].threads == 1
    assert target.find_target("none", tmp_path / "host.json", None, 1.0).host.here


def test_a_file_of_another_machine_is_named_and_makes_an_estimate(tmp_path):
    calibration(model="Atom", usable_cpus=1).save(tmp_path / "host.json")
    found = target.find_target("4090", tmp_path / "host.json", None, 1.0)
    assert not found.host.here
    assert not found.is_here
    (said, *_) = [note for note in found.notes if "host" in note]
    assert "the host is Atom, 1 CPUs, as" in said
    assert "estimated" in said
    with pytest.raises(ArgumentError, match=r"host: expected a card to tune for beside it \(--gpu NAME\)"):
        target.find_target("none", tmp_path / "host.json", None, 1.0)


def test_what_was_kept_is_taken_where_it_is_of_this_machine():
    assert target.find_target("4090", None, None, 1.0).host.rates[0].threads == 2, "measured"
    calibration().save(host_file.default_path())
    assert target.find_target("4090", None, None, 1.0).host.rates[0].threads == 1
    calibration(model="Atom").save(host_file.default_path())
    assert target.find_target("4090", None, None, 1.0).host.rates[0].threads == 2


def test_a_kept_calibration_of_another_machine_is_said_to_be_left_aside():
    assert not [note for note in target.find_target("4090", None, None, 1.0).notes if "left aside" in note]
    calibration(model="Atom", usable_cpus=1).save(host_file.default_path())
    (said,) = [note for note in target.find_target("4090", None, None, 1.0).notes if "left aside" in note]
    here = host_file.described(hardware.detect().cpu)
    assert said.startswith(f"{host_file.default_path()} is left aside, for it is Atom, 1 CPUs, this machine {here};")


def marks(host=None) -> dict:
    arguments = build_parser().parse_args(["tune"])
    found = target.find_target("4090", host, None, 1.0)
    return json.loads(json.dumps(fingerprint(arguments, parse_workload(arguments.workload), found)))


def test_a_study_goes_on_with_the_same_figures_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    calibration().save(one)
    calibration(created="2026-11-24T08:00:00").save(other)
    study = open_study(tmp_path / "study", marks(one), 0)
    require_same(study, marks(other))  # by what they hold, not by their names or age
    faster = calibration().model_copy(update={"rates": (rates(1, 2e9),)})
    faster.save(one)
    with pytest.raises(StudyError, match="the study was made with the host's calibration '"):
        require_same(study, marks(one))
    overlay = profiles.user_folder() / "rtx-4090.json"
    overlay.parent.mkdir(parents=True)
    overlay.write_text('{"memory_efficiency": {"value": 0.8, "kind": "measured", "source": "my own"}}')
    require_same(study, marks(other))  # the figure is as it was
    overlay.write_text('{"memory_efficiency": {"value": 0.91, "kind": "measured", "source": "my own"}}')
    with pytest.raises(StudyError, match="the study was made with the card's profile '"):
        require_same(study, marks(other))


def test_a_calibration_that_no_file_keeps_refuses_nothing(monkeypatch):
    before = marks()
    monkeypatch.setattr(target.bandwidth, "calibrate", lambda seconds: calibration(device=device("NVIDIA L20")))
    assert marks() == before
    calibration().save(host_file.default_path())
    assert {name for name, value in marks().items() if before[name] != value} == {"the host's calibration"}


def test_a_worker_calibrated_by_itself_may_join(tmp_path):
    calibration().save(host_file.default_path())
    study = open_study(tmp_path / "study", marks(), 0)
    calibration().model_copy(update={"rates": (rates(1, 2e9),)}).save(host_file.default_path())
    found = target.find_target("4090", None, None, 1.0)
    require_same(study, _marks_to_share(SimpleNamespace(target=found, fingerprint=marks()), study))


def test_a_card_that_is_not_here_says_how_far_estimates_were_off():
    found = target.find_target("4090", None, None, 1.0)
    assert any("on this card nothing was measured" in note for note in found.notes)


def test_a_calibrated_card_replaces_what_was_assumed_and_no_other():
    h200 = profiles.load("h200")
    there = calibration(device=device("NVIDIA H200"))
    found = with_measured(h200, there)
    shares = found.memory_efficiency, found.product_efficiency, found.link_efficiency
    assert [share.value for share in shares] == pytest.approx([4 / 4.8, 3 / 4.8, 50e9 / 63015384615])
    assert (found.kernel_latency_s.value, found.link_latency_s.value) == (4e-6, 2e-5)
    assert found.memory_efficiency.source == "calibrated on NVIDIA H200, 2026-11-23"
    assert found.bf16_flops_per_s == h200.bf16_flops_per_s
    assert with_measured(profiles.load("4090"), there) == profiles.load("4090")
    assert with_measured(h200, calibration()) == h200


def test_a_latency_among_small_kernels_is_none_of_a_layers():
    old = device("NVIDIA H200")
    old = old.model_copy(update={"kernel_latency_s": old.layer_kernel_latency_s, "layer_kernel_latency_s": None})
    h200 = profiles.load("h200")
    found = with_measured(h200, calibration(device=old))
    assert found.product_efficiency != h200.product_efficiency
    assert (found.kernel_latency_s, found.scan_efficiency) == (h200.kernel_latency_s, h200.scan_efficiency)
