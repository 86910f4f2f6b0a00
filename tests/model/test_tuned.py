"""tuned.json: round trip, and what is refused, by name."""

from __future__ import annotations

import json

import pytest

from truffle.model import tuned
from truffle.model.config import DecodeConfig, LshParameters
from truffle.model.shapes import SHAPES
from truffle.model.tuned import Figure, TunedConfig, TunedFileError


@pytest.fixture
def config() -> TunedConfig:
    figure = Figure(value=9.5, ci95=(9.0, 10.0), kind="estimated", measured_on="rtx-4090")
    return TunedConfig(
        created="2026-01-01T00:00:00+00:00",
        generator=tuned.Generator(name="truffle", version="0.1.0"),
        hardware=tuned.Hardware(profile="rtx-4090", gpu={"name": "x"}, cpu={"model": "y"}, link=None, kind="estimated"),
        model=tuned.Model(id="llama-3.1-8b", architecture="llama", shape=SHAPES["llama-3.1-8b"]),
        workload=tuned.Workload(context=98_304, new_tokens=128),
        config=DecodeConfig(parameters=LshParameters(K=9, L=120), implementations={"retrieve": "cpu_native"}),
        evidence=tuned.Evidence(accuracy={"kl": figure}, throughput={"tokens_per_s": figure}, baselines={}),
        study=tuned.Study(trials=24, failed=0, seconds=300.0, stop_reason="trials", complete=True),
    )


def test_round_trip(config, tmp_path):
    path = tmp_path / "tuned.json"
    tuned.save(config, path)
    assert tuned.load(path) == config
    data = json.loads(path.read_text())
    assert data["schema_version"] == 1
    assert list(data["config"]) == ["method", "parameters", "execution", "implementations"]
    assert data["config"]["method"] == "lsh"
    assert "method" not in data["config"]["parameters"]
    assert list(tmp_path.iterdir()) == [path], "no temporary file stays"


def change(data: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        data = data[name]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", 2, "schema_version: expected 1, got 2"),
        ("surprise", 1, "surprise: Extra inputs"),
        ("config.parameters.K", 17, "K: Input should be less than or equal to 16"),
        ("config.method", "nope", "expected one of dense, streaming, lsh, scan, oracle_topk"),
        ("study.trials", "many", "study.trials: "),
        ("hardware.kind", "guessed", "hardware.kind: "),
    ],
)
def test_what_is_wrong_is_refused_by_name(config, tmp_path, path, value, message):
    file = tmp_path / "tuned.json"
    data = json.loads(config.model_dump_json())
    change(data, path, value)
    file.write_text(json.dumps(data))
    with pytest.raises(TunedFileError, match=message.replace("(", r"\(")):
        tuned.load(file)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"schema_version": NaN}', "{" * 100_000, "\udcff"])
def test_hostile_files_are_refused(tmp_path, content):
    file = tmp_path / "tuned.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TunedFileError):
        tuned.load(file)
    with pytest.raises(TunedFileError, match="nowhere"):
        tuned.load(tmp_path / "nowhere.json")
