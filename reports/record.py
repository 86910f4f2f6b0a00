"""study.json as frozen records: everything a report shows is read, cleaned and checked here."""

import json
import math
import unicodedata
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

SCHEMA_VERSION = 1
UNPRINTED = ("Cc", "Cf", "Cs")  # control, formatting and surrogate characters
Text = str | None
Flag = bool | None
if TYPE_CHECKING:
    Number = Any  # a checker cannot see that the trials of a figure have been sifted for their numbers
else:
    Number = float | int | None


class RecordError(ValueError):
    """A record that cannot be reported; the message names the file, the key and what was expected."""


@dataclass(frozen=True)
class Trial:
    """One row of the study; the field names are the record's own, and null is None throughout."""

    number: int
    status: str
    reason: Text = None
    origin: Text = None
    label: Text = None
    method: Text = None
    K: Number = None
    L: Number = None
    min_hits: Number = None
    family: Text = None
    probing: Text = None
    sink: Number = None
    window: Number = None
    dense_layers: Text = None
    seed: Number = None
    batch_size: Number = None
    threads: Number = None
    isa: Text = None
    pinning: Text = None
    wait_policy: Text = None
    micro_batches: Number = None
    store_format: Text = None
    attend_with: Text = None
    parameters: Text = None
    repeat_of: Number = None
    repeats: Number = None
    screen_error: Number = None
    kl: Number = None
    kl_low: Number = None
    kl_high: Number = None
    top1: Number = None
    perplexity_ratio: Number = None
    output_error: Number = None
    density: Number = None
    rows: Number = None
    scores: Text = None
    tokens_per_s: Number = None
    tokens_per_s_low: Number = None
    tokens_per_s_high: Number = None
    throughput_kind: Text = None
    step_ms: Number = None
    sampled_fraction: Number = None
    ms_weights: Number = None
    ms_hash: Number = None
    ms_link: Number = None
    ms_cpu_retrieve: Number = None
    ms_cpu_attend: Number = None
    ms_gpu_attend: Number = None
    ms_launch: Number = None
    ms_gpu_retrieve: Number = None
    ms_gpu_sample: Number = None
    ms_hidden: Number = None
    gpu_memory_bytes: Number = None
    host_memory_bytes: Number = None
    index_bytes: Number = None
    feasible: Flag = None
    infeasible_because: Text = None
    confirmed: Flag = None
    gain: Number = None
    gain_low: Number = None
    gain_high: Number = None
    behind: Number = None
    seconds: Number = None
    config: Text = None

    @property
    def name(self) -> str:
        return self.label or self.method or f"trial {self.number}"

    @property
    def exact(self) -> bool:
        return self.method == "dense"

    @property
    def own(self) -> dict:
        """The parameters of a method other than lsh; raises RecordError where they are no JSON object."""
        try:
            found = json.loads(self.parameters or "{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RecordError(f"study.trials.parameters must be a JSON object, got {shown(self.parameters)}")
        return found

    @property
    def why_not(self) -> Text:
        """Why the trial has no figures, or why its figures do not qualify."""
        return self.reason or self.infeasible_because

    @property
    def plotted(self) -> bool:
        return self.status == "complete" and self.kl is not None and self.tokens_per_s is not None


@dataclass(frozen=True)
class Study:
    """A whole study. The dictionaries are the record's own sections, empty where it has null."""

    trials: tuple[Trial, ...]
    baselines: tuple[dict, ...] = ()
    created: Text = None
    command: Text = None
    resolved_command: Text = None
    commit: Text = None
    stop_reason: Text = None
    throughput_of: Text = None
    seconds: Number = None
    complete: Flag = None
    environment: dict = field(default_factory=dict)
    gpu: dict = field(default_factory=dict)
    host: dict = field(default_factory=dict)
    workload: dict = field(default_factory=dict)
    accuracy_model: dict = field(default_factory=dict)
    limit: dict = field(default_factory=dict)
    answer: dict = field(default_factory=dict)
    budget: dict = field(default_factory=dict)

    @property
    def chosen(self) -> Trial | None:
        return next((t for t in self.trials if t.number == self.answer.get("trial")), None)

    @property
    def kinds(self) -> set[str]:
        """How the throughput figures came about: "estimated", "measured", both or none."""
        return {t.throughput_kind for t in self.trials if t.tokens_per_s is not None and t.throughput_kind}


def load(folder: Path) -> Study:
    """Reads folder/study.json; raises RecordError when it is absent, broken or of another schema."""
    return parse(read_json(Path(folder) / "study.json"))


def read_json(path: Path) -> dict:
    """The object in a JSON file; raises RecordError naming the file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise RecordError(f"{path}: expected an object, got {shown(record)}")
    return record


def parse(record: dict) -> Study:
    """Checks a study record (schema_version 1) and freezes it; keys it does not know are left out."""
    record = clean(record)
    if record.get("schema_version") != SCHEMA_VERSION:
        got = shown(record.get("schema_version"))
        raise RecordError(f"study.schema_version must be {SCHEMA_VERSION}, got {got}")
    values = {}
    for entry in fields(Study):
        if entry.name not in ("trials", "baselines"):
            values[entry.name] = checked(record.get(entry.name), entry.type, f"study.{entry.name}")
    for section, key in (("limit", "max_kl"), ("answer", "gain_over_dense"), ("answer", "gain_over_default")):
        checked(values[section].get(key), Number, f"study.{section}.{key}")
    trials = tuple(_trial(row, f"study.trials[{i}]") for i, row in enumerate(_rows(record, "trials")))
    return Study(**values, trials=trials, baselines=tuple(_rows(record, "baselines")))


def _rows(record: dict, key: str) -> list[dict]:
    rows = record.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"study.{key} must be a list of objects, got {shown(rows)}")
    return rows


def _trial(row: dict, where: str) -> Trial:
    return Trial(**{f.name: checked(row.get(f.name), f.type, f"{where}.{f.name}") for f in fields(Trial)})


_EXPECTED = {
    int: ("a whole number", int),
    str: ("text", str),
    dict: ("an object or null", dict),
    Number: ("a number or null", int | float | None),
    Text: ("text or null", str | None),
    Flag: ("true, false or null", bool | None),
}


def checked(value, kind, where: str) -> Any:
    expected, accepted = _EXPECTED[kind]
    if kind is dict and value is None:
        return {}
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind != Flag):
        raise RecordError(f"{where} must be {expected}, got {shown(value)}")
    return value


def clean(value) -> Any:
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, str):
        # Terminal escapes, surrogates and text-direction overrides may come in with a label.
        return "".join(" " if c != "\n" and unicodedata.category(c) in UNPRINTED else c for c in value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
