"""Exports: the files that were agreed on, what each stack refuses by name, and that a shell reads them as meant."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from truffle.autotune import stack
from truffle.autotune.cli import main
from truffle.autotune.export import export
from truffle.autotune.export_facts import one_hit_tables
from truffle.model import tuned
from truffle.model.config import DecodeConfig
from truffle.model.shapes import SHAPES

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "exports"
TUNED = tuned.load(FOLDER / "tuned.json")
GOLDEN = {path.stem: path for path in FOLDER.iterdir() if path.stem != "tuned"}
LSH = TUNED.config.parameters.model_dump()


def with_config(**changes: Any) -> tuned.TunedConfig:
    """The tuned file with another config."""
    return TUNED.model_copy(update={"config": DecodeConfig.model_validate(changes)})


def with_lsh(**changes: Any) -> tuned.TunedConfig:
    execution = TUNED.config.execution.model_dump()
    return with_config(method="lsh", parameters=LSH | changes, execution=execution)


def with_execution(**changes: Any) -> tuned.TunedConfig:
    return with_config(method="lsh", parameters=LSH, execution=changes)


def test_every_stack_has_a_golden_file():
    assert {*GOLDEN} == {*stack.names()}
    assert len(GOLDEN) == 6


@pytest.mark.parametrize("to", stack.names())
def test_an_export_is_as_agreed(to):
    assert export(TUNED, to).text == GOLDEN[to].read_text(encoding="utf-8")


@pytest.mark.parametrize("to", sorted({*stack.names()} - {"magicpig"}))
def test_min_hits_travels(to):
    texts = {hits: export(with_lsh(min_hits=hits), to).text for hits in (1, 2, 3)}
    assert len({*texts.values()}) == 3
    for hits, text in texts.items():
        lines = text.lower().splitlines()
        assert any(f"min_hits{mark}{hits}" in line for line in lines for mark in ('": ', '":', "="))


def test_magicpig_says_its_min_hits_and_takes_no_other():
    assert "# min_hits 2 is compiled in" in export(TUNED, "magicpig").text
    for hits in (1, 3):
        with pytest.raises(ValueError, match=f"magicpig: parameters.min_hits: expected 2 .*, got {hits}"):
            export(with_lsh(min_hits=hits), "magicpig")


def front_of(*changes: dict[str, Any]) -> tuned.TunedConfig:
    """The tuned file with a config that MagicPIG lacks, and points as the file's own is but for these."""
    accuracy, throughput = TUNED.evidence.accuracy, TUNED.evidence.throughput
    front = [
        tuned.FrontPoint(config=with_lsh(**change).config, accuracy=accuracy, throughput=throughput)
        for change in changes
    ]
    config = with_lsh(window=88, dense_layers=(0,)).config
    return TUNED.model_copy(update={"config": config, "front": tuple(front)})


def test_all_that_a_stack_lacks_is_named_and_what_else_it_would_take():
    with pytest.raises(ValueError, match=r"^magicpig: ") as caught:
        export(front_of({"window": 32}, {"K": 9, "L": 120}, {"K": 8, "L": 75}), "magicpig")
    said = str(caught.value)
    assert "parameters.window: expected 64 (bench.py leaves it as it is), got 88; derived.dense_layers: " in said
    assert said.endswith(
        "of the file's front it takes --point 2 (lsh K=9 L=120 min_hits=2) and --point 3 (lsh K=8 L=75 min_hits=2)"
    )
    with pytest.raises(ValueError, match=r"got \[0\]$"):
        export(front_of({"window": 32}), "magicpig")


def test_a_point_of_the_front_is_exported_as_if_it_were_the_config():
    text = export(front_of({"window": 32}, {}), "magicpig", 2).text
    assert text == GOLDEN["magicpig"].read_text(encoding="utf-8")


@pytest.mark.parametrize("point", [-1, 2])
def test_a_point_that_the_file_has_not_is_refused(point):
    with pytest.raises(ValueError, match=f"point: expected 0 to 1, got {point}"):
        export(front_of({}), "magicpig", point)


CROSS = {"family": "cross_polytope", "coordinates": 16}
BALL, DIRECTED = {"kind": "ball", "amount": 1}, {"kind": "directed", "amount": 8}
SCAN = with_config(method="scan", parameters={"budget": 0.01})


@pytest.mark.parametrize(
    ("to", "file", "message"),
    [
        ("magicpig", SCAN, "method: expected one of lsh, got scan"),
        ("magicpig", with_lsh(**CROSS), "parameters.family: expected simhash, got cross_polytope"),
        ("magicpig", with_lsh(probing=BALL), "parameters.probing.kind: expected none, got ball"),
        ("magicpig", with_lsh(probing=DIRECTED), "parameters.probing.kind: expected none, got directed"),
        ("magicpig", with_lsh(centred=False), "parameters.centred: expected True, got False"),
        ("magicpig", with_lsh(sink=8), "parameters.sink: expected 4 .*, got 8"),
        ("magicpig", with_lsh(dense_layers=[0, 1]), r"derived.dense_layers: expected \[0, 16\] .*, got \[0, 1\]"),
        ("magicpig", with_lsh(K=12), "parameters.K: expected at most 11 .*float16.*, got 12"),
        ("magicpig", with_lsh(L=4000), "derived.table_entries: expected at most 2147483647 .*, got 6303744000"),
        ("magicpig", with_execution(store_format="int8"), "execution.store_format: expected bfloat16, got int8"),
        ("magicpig", with_execution(micro_batches=2), "execution.micro_batches: expected 1, got 2"),
        (
            "magicpig",
            TUNED.model_copy(update={"model": TUNED.model.model_copy(update={"shape": SHAPES["llama-3.2-1b"]})}),
            "model.shape.head_dim: expected 128 .*, got 64",
        ),
        ("sparse-attention-hub", SCAN, "method: expected one of lsh, streaming, got scan"),
        ("sparse-attention-hub", with_lsh(**CROSS), "parameters.family: expected simhash or simple_lsh, got cross_"),
        ("sparse-attention-hub", with_lsh(probing=DIRECTED), "parameters.probing.kind: expected none, got directed"),
        ("sparse-attention-hub", with_lsh(sink=0), "parameters.sink: expected at least 1, got 0"),
        ("vllm", with_config(method="quest"), "method: expected one of lsh, scan, streaming, got quest"),
        ("vllm", with_config(method="dense"), "method: expected one of lsh, scan, streaming, got dense"),
        ("sglang", with_config(method="oracle_topk"), "method: expected one of lsh, scan, streaming, got oracle_topk"),
    ],
)
def test_what_a_stack_lacks_is_refused_by_name(to, file, message):
    with pytest.raises(ValueError, match=f"^{to}: {message}"):
        export(file, to)


@pytest.mark.parametrize("method", ["dense", "streaming", "lsh", "scan", "quest", "vattention"])
def test_transformers_and_a_shell_take_every_method(method):
    file = with_config(method=method)
    assert DecodeConfig.model_validate(json.loads(export(file, "transformers").text)["truffle"]) == file.config
    assert f"TRUFFLE_METHOD={method}\n" in export(file, "shell").text


@pytest.mark.parametrize("method", ["lsh", "scan", "streaming"])
@pytest.mark.parametrize("to", ["vllm", "sglang"])
def test_what_needs_a_plugin_says_so(to, method):
    found = export(with_config(method=method), to)
    assert "no plugin for it yet" in found.notes[0]
    assert f"# {found.notes[0]}" in found.text


def test_streaming_is_sink_and_window_alone_for_the_hub():
    body = json.loads(export(with_config(method="streaming"), "sparse-attention-hub").text)
    assert [masker["type"] for masker in body["masker_configs"]] == ["SinkMaskerConfig", "LocalMaskerConfig"]


@pytest.mark.parametrize("K", [1, 4, 10, 16])
@pytest.mark.parametrize("density", [1e-6, 0.0386, 0.5, 0.99, 1.0])
def test_tables_of_one_hit_sample_the_same_share_at_right_angles(K, density):
    def share(tables: int) -> float:
        return -math.expm1(tables * math.log1p(-(2.0**-K)))

    L = one_hit_tables(K, density)
    aim = min(density, 1 - 2.0**-K)
    assert L >= 1
    assert L == 1 or abs(share(L) - aim) <= min(abs(share(L - 1) - aim), abs(share(L + 1) - aim)) * 1.01


def test_without_a_measured_density_the_hubs_share_is_the_tables_own_by_chance():
    bare = TUNED.model_copy(update={"evidence": TUNED.evidence.model_copy(update={"accuracy": {}})})
    one_hit = bare.model_copy(update={"config": with_lsh(min_hits=1).config})
    found = json.loads(export(one_hit, "sparse-attention-hub").text)
    assert found["masker_configs"][2]["lsh_l"] == LSH["L"]
    assert found["truffle"]["approximate"] is True
    assert "none was measured" in export(bare, "sparse-attention-hub").notes[0]


def run_shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run with stubs of the programs that an export calls, each of which prints its arguments as JSON."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    for program in ("numactl", "python", "vllm"):
        stub = stubs / program
        stub.write_text(
            f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.getcwd(), {program!r}, *sys.argv[1:]]))\n"
        )
        stub.chmod(0o755)
    around = {"PATH": f"{stubs}:/usr/bin:/bin"} | variables
    return subprocess.run(["sh", "-u"], input=script, cwd=folder, env=around, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path):
    """The lines of MagicPIG v0.2 that the export changes."""
    for name in ("library/lsh", "library/sparse_attention", "examples"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "library/lsh/lsh.h").write_text("#define LSH_THREADS 64\n")
    (tmp_path / "library/sparse_attention/sparse_attention.h").write_text("#define ATTENTION_THREADS 64\n")
    (tmp_path / "library/sparse_attention/sparse_attention.cc").write_text("#pragma omp parallel for num_threads(64)\n")
    return tmp_path


def test_magicpigs_command_sets_threads_builds_and_runs(checkout):
    run = run_shell(export(TUNED, "magicpig").text, checkout, MODEL="a folder; rm -rf x")
    assert run.returncode == 0, run.stderr
    calls = [json.loads(line) for line in run.stdout.splitlines()]
    assert [Path(call[0]).name for call in calls] == ["sparse_attention", "lsh", "examples"]
    assert calls[2][1:] == [
        *("numactl", "-C", "+0-14", "-l", "python", "bench.py", "--model", "a folder; rm -rf x"),
        *("--B", "2", "--P", "98304", "--M", "98496", "--G", "128", "--K", "9", "--L", "120"),
    ]
    assert (checkout / "library/lsh/lsh.h").read_text() == "#define LSH_THREADS 15\n"
    header = checkout / "library/sparse_attention/sparse_attention.h"
    assert header.read_text() == "#define ATTENTION_THREADS 15\n"
    assert "num_threads(ATTENTION_THREADS)" in header.with_suffix(".cc").read_text()


@pytest.mark.parametrize("to", ["magicpig", "vllm", "sglang"])
def test_a_command_without_a_model_stops(checkout, to):
    run = run_shell(export(TUNED, to).text, checkout)
    assert run.returncode != 0
    assert "MODEL" in run.stderr


@pytest.mark.parametrize(("to", "flag"), [("vllm", "--additional-config"), ("sglang", "--json-model-override-args")])
def test_a_shell_passes_the_config_on_whole(tmp_path, to, flag):
    run = run_shell(export(TUNED, to).text, tmp_path, MODEL="m")
    assert run.returncode == 0, run.stderr
    words = json.loads(run.stdout)
    assert DecodeConfig.model_validate(json.loads(words[words.index(flag) + 1])["truffle"]) == TUNED.config


def test_a_shell_reads_its_variables_back(tmp_path):
    script = export(TUNED, "shell").text + "env\n"
    found = dict(line.split("=", 1) for line in run_shell(script, tmp_path).stdout.splitlines())
    assert found["TRUFFLE_MIN_HITS"] == "2"
    assert found["TRUFFLE_DENSE_LAYERS"] == "0,16"
    assert found["TRUFFLE_IMPL_HASH_CODES"] == "gpu_triton"
    assert found["TRUFFLE_CENTRED"] == "1"


def test_names_out_of_a_file_are_no_commands(tmp_path):
    nasty = TUNED.model.model_copy(update={"id": "$(touch hit) `touch hit`; touch hit '"})
    for to in ("shell", "vllm"):
        run = run_shell(export(TUNED.model_copy(update={"model": nasty}), to).text, tmp_path, MODEL="m")
        assert run.returncode == 0, run.stderr
    assert not (tmp_path / "hit").exists()


def test_the_command_prints_the_export_and_notes_beside_it(capsys):
    assert main(["export", str(FOLDER / "tuned.json"), "--to", "vllm"]) == 0
    printed = capsys.readouterr()
    assert printed.out == GOLDEN["vllm"].read_text(encoding="utf-8")
    assert printed.err.startswith("note: needs: vLLM has no such attention")


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    tuned.save(SCAN, tmp_path / "tuned.json")
    assert main(["export", str(tmp_path / "tuned.json"), "--to", "magicpig"]) == 2
    assert capsys.readouterr().err == "error: magicpig: method: expected one of lsh, got scan\n"
    assert main(["export", str(tmp_path / "nowhere.json"), "--to", "vllm"]) == 2


def test_exporting_imports_no_torch():
    script = f"""
import sys
from truffle.autotune.cli import main
main(["export", {str(FOLDER / "tuned.json")!r}, "--to", "shell"])
print(*{{"torch", "triton", "numba", "transformers"}}.intersection(sys.modules), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert run.returncode == 0, run.stderr
    assert run.stderr.strip() == ""
