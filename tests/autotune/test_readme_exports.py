"""The README's section on other programs: every block of it is run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUNED = Path(__file__).parent / "exports" / "tuned.json"
SECTION = re.search(
    r"^## Use the tuned file elsewhere\n(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
)
assert SECTION
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", SECTION[1], re.M | re.S)
RESOLVE, TRANSFORMERS, HUB = (text for kind, text in BLOCKS if kind == "python")
(SHELL,) = (text for kind, text in BLOCKS if kind == "sh")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the tuned file, and MagicPIG's folders beside it."""
    shutil.copy(TUNED, tmp_path)
    for name in ("library/lsh", "library/sparse_attention", "examples"):
        (tmp_path / "MagicPIG" / name).mkdir(parents=True)
    for name in ("lsh/lsh.h", "sparse_attention/sparse_attention.h", "sparse_attention/sparse_attention.cc"):
        (tmp_path / "MagicPIG" / "library" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(to: str, path: Path) -> None:
    golden = next(file for file in TUNED.parent.iterdir() if file.stem == to)
    shutil.copy(golden, path)


def test_every_block_is_run():
    assert [kind for kind, _ in BLOCKS] == ["python", "sh", "python", "python"]


def test_resolving(folder):
    found: dict = {}
    exec(RESOLVE, found)
    assert found["config"].parameters.K == 9
    assert "tuned.json, tuned for 98304 tokens, batch 2" in found["reason"]


def test_the_shells_lines(folder):
    """With stubs of what they start; `python -m autotune` is ours."""
    stubs = folder / "stubs"
    stubs.mkdir()
    log = f'printf "%s " "${{0##*/}}" "$@" >> {folder}/log; echo >> {folder}/log'
    ours = f'[ "$2" = autotune ] && {{ PYTHONPATH={ROOT} exec {sys.executable} "$@"; }}'
    for name, script in {"python": f"{ours}; {log}", "numactl": log, "vllm": log}.items():
        (stubs / name).write_text(f"#!/bin/sh\n{script}\n")
        (stubs / name).chmod(0o755)
    run = subprocess.run(
        ["sh", "-eu"], input=SHELL, cwd=folder, env={"PATH": f"{stubs}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "K=9 L=120 min_hits=2\n"
    called = [line.split() for line in (folder / "log").read_text().splitlines()]
    assert [words[0] for words in called] == ["python", "python", "numactl", "vllm", "python"]
    assert all("meta-llama/Llama-3.1-8B-Instruct" in words for words in called[2:])


def test_transformers(folder):
    transformers = pytest.importorskip("transformers")
    transformers.LlamaConfig(num_hidden_layers=1).save_pretrained("model")
    export("transformers", folder / "transformers.json")
    exec(TRANSFORMERS, {})
    assert json.loads((folder / "model" / "config.json").read_text())["truffle"]["parameters"]["min_hits"] == 2


def test_sparse_attention_hub(folder):
    pytest.importorskip("sparse_attention_hub", reason="sparse_attention_hub is not installed")
    export("sparse-attention-hub", folder / "hub.json")
    found: dict = {}
    exec(HUB, found)
    assert [masker.lsh_l for masker in found["attention"].maskers[2:]] == [20]
