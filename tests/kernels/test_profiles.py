"""Every card's file against arithmetic, every name against every card, and the user's own folder."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest

from truffle.kernels import profiles

CARDS = {path.stem: profiles.read(path) for path in sorted(profiles.FOLDER.glob("*.json"))}


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "truffle/profiles"
    folder.mkdir(parents=True)
    return folder


def test_the_promised_cards_are_there():
    promised = {"rtx-3090", "rtx-4090", "rtx-5090", "l20", "l40s", "a10", "t4", "a100-40gb", "a100-80gb"}
    assert promised | {"h100-sxm", "h100-pcie", "h200"} <= set(profiles.known())


@pytest.mark.parametrize("card", [c for c in CARDS.values() if c.tensor_cores], ids=lambda c: c.id)
def test_peak_arithmetic_is_tensor_cores_times_rate_times_boost(card):
    cores = card.tensor_cores
    peak = cores.count * cores.flops_per_clock * cores.boost_hz
    assert peak == pytest.approx(card.bf16_flops_per_s.value, rel=0.01)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_link_is_lanes_times_rate_after_coding(card):
    transfers_per_s = {3: 8e9, 4: 16e9, 5: 32e9}[card.link.gen]
    bytes_per_s = transfers_per_s * 128 / 130 / 8 * card.link.width
    assert card.link_bandwidth_bytes_per_s.value == pytest.approx(bytes_per_s, rel=1e-6)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_units_are_bytes_seconds_and_flops(card):
    assert 14 * 2**30 <= card.memory_bytes.value <= 192 * 2**30
    assert 3e11 <= card.memory_bandwidth_bytes_per_s.value <= 8e12
    assert 5e13 <= card.bf16_flops_per_s.value <= 3e15
    assert 1e-7 < card.kernel_latency_s.value <= card.link_latency_s.value < 1e-4
    assert card.scan_efficiency.value < card.product_efficiency.value < 1
    assert (card.matmul_dtype == "fp16") == (card.compute_capability < (8, 0))


def test_figures_that_are_often_copied_wrongly():
    assert profiles.load("4090").bf16_flops_per_s.value == 165.2e12  # neither 82.6 (shaders) nor 330 (FP16 sums)
    assert profiles.load("a100-40gb").memory_bandwidth_bytes_per_s.value == 1555e9
    assert profiles.load("l20").bf16_flops_per_s.value == 119.5e12


def test_no_two_cards_answer_to_one_name():
    for one, other in itertools.permutations(CARDS.values(), 2):
        clashes = [name for name in (one.id, one.name, *one.aliases) if other.answers_to(name)]
        assert not clashes, (one.id, other.id)


@pytest.mark.parametrize("name", ["4090", "RTX4090", "rtx 4090", "RTX_4090", "NVIDIA GeForce RTX 4090", "rtx-4090"])
def test_load_by_any_spelling(name):
    assert profiles.load(name).id == "rtx-4090"


@pytest.mark.parametrize("name", ["a40", "", "409", "a100"])
def test_an_unknown_card_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(profiles.ProfileError, match=r"gpu: expected one of a10, a100-40gb.*t4, got"):
        profiles.load(name)


@pytest.mark.parametrize(
    ("gpu_name", "card"),
    [
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA L20", "l20"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10", "a10"),
        ("Tesla T4", "t4"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
    ],
)
def test_a_detected_card_matches_its_profile_only(gpu_name, card):
    assert [c.id for c in CARDS.values() if c.is_card(gpu_name)] == [card]
    assert profiles.matching(gpu_name).id == card


@pytest.mark.parametrize(
    "gpu_name",
    [
        *("NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU"),
        *("NVIDIA A10G", "NVIDIA L40", "NVIDIA L2", "NVIDIA H200 NVL", "NVIDIA H100 NVL", "Tesla T40"),
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
    ],
)
def test_a_different_card_with_a_similar_name_matches_nothing(gpu_name):
    assert profiles.matching(gpu_name) is None


def test_the_users_folder_is_read_first(user_folder):
    corrected = json.loads((profiles.FOLDER / "rtx-4090.json").read_text())
    corrected["memory_bytes"] = {"value": 48 * 2**30, "kind": "measured", "source": "a modified card"}
    (user_folder / "rtx-4090.json").write_text(json.dumps(corrected))
    shutil.copy(user_folder / "rtx-4090.json", user_folder / "my-card.json")
    own = user_folder / "my-card.json"
    own.write_text(json.dumps(corrected | {"id": "my-card", "name": "Mine", "aliases": ["home"]}))
    assert profiles.load("4090").memory_bytes.value == 48 * 2**30
    assert profiles.load("home").id == "my-card"
    assert len(profiles.known()) == len(CARDS) + 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"memory": 3}, "rtx-4090.json: memory: Extra inputs"),
        ({"id": "other"}, "rtx-4090.json: id: expected 'rtx-4090'"),
        ({"memory_bytes": {"value": 1, "kind": "guessed", "source": "x"}}, "memory_bytes.kind"),
        ({"memory_bytes": {"value": 1, "kind": "assumed", "source": ""}}, "memory_bytes.source"),
        ({"link_efficiency": {"value": 1.2, "kind": "assumed", "source": "x"}}, "link_efficiency.value"),
        ({"nvml_names": ["GeForce ("]}, r"rtx-4090.json: nvml_names: .*regular expressions, got 'GeForce \('"),
        ({"tensor_cores": {"count": -5, "flops_per_clock": 1, "boost_hz": 1}}, "tensor_cores.count: .*greater than 0"),
        ({"memory_bytes": {"value": 1e300, "kind": "assumed", "source": "x"}}, r"memory_bytes: .*got 1e\+300"),
        ({"memory_bytes": {"value": 24, "kind": "assumed", "source": "x"}}, "memory_bytes: .*got 24"),
        ({"link_latency_s": {"value": 13, "kind": "assumed", "source": "x"}}, "link_latency_s: .*got 13"),
        ({"aliases": ["5090"]}, "rtx-4090.json: aliases, .*got '5090' of rtx-5090"),
        ({"name": "H 200"}, "rtx-4090.json: aliases, id and name: .*got 'H 200' of h200"),
    ],
)
def test_a_wrong_file_is_an_error_naming_file_and_key(user_folder, change, complaint):
    content = json.loads((profiles.FOLDER / "rtx-4090.json").read_text()) | change
    (user_folder / "rtx-4090.json").write_text(json.dumps(content))
    with pytest.raises(profiles.ProfileError, match=complaint):
        profiles.load("4090")


def test_a_users_file_may_correct_one_figure_of_a_known_card(user_folder):
    own = {"memory_efficiency": {"value": 0.91, "kind": "measured", "source": "mine"}}
    (user_folder / "rtx-4090.json").write_text(json.dumps(own))
    card, shipped = profiles.load("4090"), CARDS["rtx-4090"]
    assert (card.memory_efficiency.value, card.memory_efficiency.source) == (0.91, "mine")
    assert card.model_copy(update={"memory_efficiency": shipped.memory_efficiency}) == shipped
    assert profiles.known().count("rtx-4090") == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("[]", "an object, got list"), ("{", "expected JSON"), ("[" * 100_000, "expected JSON")],
    ids=["list", "torn", "deep"],
)
def test_a_users_file_that_is_no_object_is_named(user_folder, text, complaint):
    (user_folder / "rtx-4090.json").write_text(text)
    with pytest.raises(profiles.ProfileError, match=rf"rtx-4090\.json: .*{complaint}"):
        profiles.load("4090")


def test_a_profile_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        CARDS["l20"].memory_bytes.value = 1.0
