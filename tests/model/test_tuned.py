"""tuned.json: round trip, its JSON Schema, and what is refused, by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.tuned_files import made
from truffle.model import tuned
from truffle.model.tuned import TunedConfig, TunedFileError
from truffle.model.tuned_file import MOST_BYTES
from truffle.model.tuned_schema import SCHEMA_FILE, json_schema

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config() -> TunedConfig:
    return made()


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
        ("schema_version", 2, "schema_version: expected 1, got 2, which takes a newer truffle"),
        ("schema_version", 0, "schema_version: expected 1, got 0$"),
        ("schema_version", True, "schema_version: expected 1, got True"),
        ("surprise", 1, "surprise: Extra inputs"),
        ("config.parameters.K", 17, "K: Input should be less than or equal to 16"),
        ("config.method", "nope", "expected one of dense, streaming, lsh, scan, oracle_topk"),
        ("study.trials", "many", "study.trials: "),
        ("hardware.kind", "guessed", "hardware.kind: "),
        ("study.trials", "24", "study.trials: expected 24, got '24'"),
        ("config.parameters.K", "9", "config.parameters.K: expected 9, got '9'"),
        ("config.parameters.centred", 1, "config.parameters.centred: expected True, got 1"),
        ("config.parameters", ["K", 9], "config"),
        ("config", "lsh", "config: "),
        ("config.execution.isa", "../../avx512", "config.execution.isa: "),
        ("config.implementations", {"retrieve": "../cpu_native"}, "config.implementations.retrieve: "),
        ("hardware.cpu", {"model": "a\x1b[2Jb"}, "hardware.cpu.model: "),
        ("hardware.cpu", {"logical_cpus": 10**400}, "hardware.cpu.logical_cpus: "),
        ("workload.context", 10**400, "workload.context: "),
        ("config.execution.batch_size", 10**400, "config.execution.batch_size: "),
        ("study.seconds", 10**400, "study.seconds: "),
        ("model.id", "gpt\u202e", "model.id: "),
        ("generator.name", "a\u2028b", "generator.name: "),
        ("config.parameters.dense_layers", [0] * 2000, "dense_layers: .* at most 1024 "),
        ("config.implementations", {f"op_{i}": "auto" for i in range(65)}, "implementations: .* at most 64 "),
        ("match.equal", ["hardware.colour"], "match.equal.0: "),
        ("model.id", "x" * 2000, "model.id: .* at most 1000 characters, .* [.][.][.]$"),
        ("a\nb" * 500, 1, "a b"),
    ],
)
def test_what_is_wrong_is_refused_by_name(config, tmp_path, path, value, message):
    file = tmp_path / "tuned.json"
    data = json.loads(config.model_dump_json())
    change(data, path, value)
    file.write_text(json.dumps(data))
    with pytest.raises(TunedFileError, match=message.replace("(", r"\(")):
        tuned.load(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[]", "schema_version: expected 1, got None"),
        ("null", "schema_version: expected 1, got None"),
        ('{"schema_version": NaN}', "NaN is not a JSON number"),
        ('{"schema_version": -Infinity}', "-Infinity is not a JSON number"),
        ("{" * 100_000, "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ('{"schema_version": 1, "schema_version": 1}', "schema_version: is there more than once"),
        ('{"schema_version": ' + "1" * 5000 + "}", "digits"),
        ("\udcff", "utf-8"),
        (" " * (MOST_BYTES + 1), f"expected at most {MOST_BYTES} bytes"),
    ],
)
def test_hostile_files_are_refused_in_one_short_line(tmp_path, content, message):
    file = tmp_path / "tuned.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TunedFileError, match=message) as refusal:
        tuned.load(file)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_not_finite_are_refused(config, tmp_path, number):
    file = tmp_path / "tuned.json"
    file.write_text(config.model_dump_json().replace('"seconds":300.0', f'"seconds":{number}'))
    with pytest.raises(TunedFileError, match=r"finite|not a JSON number"):
        tuned.load(file)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(TunedFileError, match="expected a file"):
            tuned.load(path)
    with pytest.raises(TunedFileError, match="nowhere"):
        tuned.load(tmp_path / "nowhere.json")


def test_many_keys_twice_take_no_long_search(tmp_path):
    file = tmp_path / "tuned.json"
    file.write_text("{" + "".join(f'"{i}":0,' for i in range(200_000)) + '"last":0,"last":0}')
    with pytest.raises(TunedFileError, match="last: is there more than once"):
        tuned.load(file)


def test_files_from_before_still_load():
    for path in (ROOT / "reports" / "results").rglob("tuned.json"):
        assert tuned.load(path).schema_version == 1


def test_the_json_schema_is_the_models_own():
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema(), (
        "run python -m truffle.model.tuned_schema"
    )
    assert json_schema()["$schema"].endswith("2020-12/schema")
    assert json_schema()["$id"] == "urn:truffle-attention:tuned:1"


def test_a_validator_of_json_schemas_agrees(config):
    jsonschema = pytest.importorskip("jsonschema", reason="the JSON Schema is read by jsonschema where it is installed")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    data = json.loads(config.model_dump_json())
    assert list(validator.iter_errors(data)) == []
    for path, value in [
        ("config.parameters.K", 17),
        ("config.parameters.budget", 1),
        ("surprise", 1),
        ("model.id", "a\nb"),
    ]:
        wrong = json.loads(config.model_dump_json())
        change(wrong, path, value)
        assert list(validator.iter_errors(wrong)), path


def test_reading_and_resolving_import_no_torch(config, tmp_path):
    tuned.save(config, tmp_path / "tuned.json")
    script = f"""
import sys
from truffle.kernels import hardware
from truffle.model import tuned
from truffle.model.shapes import SHAPES
found = tuned.resolve({str(tmp_path)!r}, SHAPES["llama-3.1-8b"], hardware.detect(), context=98304, batch=2)
print(found.config.parameters.K, *{{"torch", "triton", "numba", "transformers"}}.intersection(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["9"]
