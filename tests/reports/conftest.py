"""Studies and further records for the report tests: made-up figures, and ways to bend them."""

import copy
import json
from pathlib import Path

import pytest

RECORD = json.loads((Path(__file__).parent / "study.json").read_text(encoding="utf-8"))
FAILED = {"number": 0, "status": "failed", "label": "lsh (10, 150)", "origin": "default", "reason": "no room"}


@pytest.fixture
def record() -> dict:
    """A complete study with made-up figures; a fresh copy for each test."""
    return copy.deepcopy(RECORD)


@pytest.fixture
def fruitless() -> dict:
    """A study in which nothing completed, with null for every section."""
    sections = dict.fromkeys(("gpu", "host", "workload", "accuracy_model", "limit", "answer", "budget", "command"))
    return {"schema_version": 1, **sections, "baselines": [], "trials": [FAILED]}


@pytest.fixture
def folder_of(tmp_path):
    """Writes a record (or any text) as study.json into a fresh folder and returns the folder."""

    def write(record) -> Path:
        text = record if isinstance(record, str) else json.dumps(record)
        (tmp_path / "study.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


LSH = json.dumps({"K": 10, "L": 150, "min_hits": 2, "probing": {"kind": "none", "amount": 0}})
METHODS = {"dense": "{}", "lsh": LSH, "quest": "{}", "oracle_topk": "{}"}


def _step(op: str, threads: int, batch: int, host_us: float, **rest) -> dict:
    layer_us = 150.0 + batch * host_us
    step = {"op": op, "workload": "llama-3.1-8b@96k", "context": 98304, "method": "lsh", "parameters": LSH}
    step |= {"threads": threads, "batch": batch, "micro_batches": 1, "store_format": "bfloat16", "wait_policy": "park"}
    step |= {"median_us": 400.0 + 30 * layer_us, "sparse_layers": 30, "dense_layers": 2, "layer_us": layer_us}
    step |= {"layer_host_us": batch * host_us, "layer_weights_us": 100.0, "layer_gpu_before_us": 130.0}
    step |= {"layer_arrival_us": 15.0, "layer_launch_us": 0.0}
    rate = 1e6 * batch / step["median_us"]
    return step | {"tokens_per_s": rate, "tokens_per_s_low": 0.9 * rate, "tokens_per_s_high": 1.1 * rate} | rest


def _text(method: str, asked: float | None, density: float, kl: float) -> dict:
    shared = {"op": "accuracy_text_summary", "text": "all", "model": "smollm2", "context": 4096, "steps": 32}
    own = {"samples": 6, "method": method, "parameters": METHODS[method], "asked_density": asked, "density": density}
    return shared | own | {"kl": kl, "kl_low": 0.8 * kl, "kl_high": 1.2 * kl, "rows": 2 * density, "output_error": 0.1}


def _score(method: str, task: str, score: float) -> dict:
    shared = {"op": "accuracy_task_summary", "model": "smollm2", "context": 4096, "setup": "A", "samples": 30}
    difference = score - 90.0
    own = {"method": method, "parameters": METHODS[method], "task": task, "score": score, "difference": difference}
    return shared | own | {"difference_low": difference - 2, "difference_high": difference + 2, "density": 0.05}


FURTHER = {
    "environment": {"cpu": {"model": "made up", "usable_cpus": 16}, "gpus": [{"name": "made up too"}]},
    "command": "python -m truffle.bench scaling --json further.json",
    "records": [
        *(_step("scaling", threads, 1, 4000 / threads) for threads in (1, 2, 4, 16)),
        *(_step("scaling", 16, batch, 250) for batch in (2, 4)),
        _step("decode", 16, 1, 250),
        {"op": "retrieve+sparse_attend", "context": 98304, "K": 10, "L": 150, "min_hits": 2, "batch": 1,
         "dtype": "bfloat16", "bytes_moved": 4_000_000, "peak_bytes_per_s": 40e9},
        _text("lsh", None, 0.021, 0.02), _text("quest", 0.02, 0.02, 0.1), _text("oracle_topk", 0.02, 0.02, 0.01),
        *(_score(method, task, score) for method, score in (("dense", 90.0), ("lsh", 60.0), ("quest", 30.0))
          for task in ("niah_single_1", "vt", "all")),
        *({"op": "rivals", "contender": name, "batch": 1, "median_us": us, "exact": name.startswith("exact"),
           "method": "lsh", "parameters": LSH, "dense_layers": layers, "reason": None if us else "needs more <b>room"}
          for name, us, layers in (("truffle int8, filled", 1.5e4, 16), ("magicpig_v02 kernels", 4e4, None),
                                   ("exact: streamed", 9e4, None), ("exact: device", 0, None))),
        {"op": "accuracy_task", "method": "lsh", "task": "vt", "sample": 0, "score": 50.0},
    ],
}  # fmt: skip


@pytest.fixture
def further() -> dict:
    """A file of measurements with something for every section; a fresh copy for each test."""
    return copy.deepcopy(FURTHER)


@pytest.fixture
def file_of(tmp_path):
    """Writes records (or any text) as further.json and returns the path."""

    def write(content) -> Path:
        path = tmp_path / "further.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write
