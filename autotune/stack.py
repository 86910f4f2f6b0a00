"""What another program takes of a tuned config, read from a file: `stacks/NAME.json`.

    {"about": ..., "plugin": what it needs beside itself or null,
     "ways": {METHOD or "*": {"takes": [...], "notes": [...], and one of "lines", "json" and "assign"}}}

`takes` says of facts what the program can do with; all else is refused by name. Facts come from `export_facts`; in
what is written, `{fact}` stands for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from truffle.kernels.checks import ArgumentError, expect
from truffle.model.schema import Frozen, one_line

FOLDER = Path(__file__).parent / "stacks"
ANY = "*"


class Condition(Frozen):
    """What one fact must be: one of some values, within bounds, or equal to another fact."""

    fact: str
    among: tuple[Any, ...] | None = Field(default=None, alias="in")
    least: int | None = None
    most: int | None = None
    equals: str | None = None
    because: str | None = None


class Way(Frozen):
    """How a method is written down: command lines, a JSON body, or assignments from a fact that holds pairs."""

    takes: tuple[Condition, ...] = ()
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] | None = None
    body: dict[str, Any] | None = Field(default=None, alias="json")
    assign: str | None = None


class Stack(Frozen):
    """One program that tuned configs are exported to."""

    about: str
    plugin: str | None
    ways: dict[str, Way]

    def way(self, name: str, facts: dict[str, Any]) -> Way:
        """How this stack, called `name`, takes the config behind the facts.

        Raises:
            ValueError: the method or some of its settings are nothing that it has; all of them are named.
        """
        method = facts["method"]
        way = self.ways.get(method) or self.ways.get(ANY)
        expect(way is not None, f"{name}: method", f"one of {', '.join(self.ways)}", method)
        assert way is not None
        refused = [reason for condition in way.takes if (reason := _refusal(condition, facts))]
        if refused:
            raise ArgumentError(f"{name}: {'; '.join(refused)}")
        return way


def names() -> tuple[str, ...]:
    """All stacks there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def load(name: str) -> Stack:
    """The stack of this name.

    Raises:
        ValueError: there is none, or its file is broken.
    """
    expect(name in names(), "to", f"one of {', '.join(names())}", name)
    try:
        return Stack.model_validate_json((FOLDER / f"{name}.json").read_bytes())
    except ValidationError as error:
        raise ValueError(f"{name}.json: {one_line(error)}") from error


def value_of(facts: dict[str, Any], path: str) -> Any:
    """The fact at a dotted path."""
    found: Any = facts
    for part in path.split("."):
        found = found[part]
    return found


def _refusal(condition: Condition, facts: dict[str, Any]) -> str | None:
    found = value_of(facts, condition.fact)
    wanted = ""
    if condition.among is not None and found not in condition.among:
        wanted = " or ".join(str(value) for value in condition.among)
    if condition.least is not None and found < condition.least:
        wanted = f"at least {condition.least}"
    if condition.most is not None and found > condition.most:
        wanted = f"at most {condition.most}"
    if condition.equals and found != value_of(facts, condition.equals):
        wanted = str(value_of(facts, condition.equals))
    because = f" ({condition.because})" if condition.because else ""
    return f"{condition.fact}: expected {wanted}{because}, got {found}" if wanted else None
