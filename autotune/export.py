"""Writes a tuned config down as another program takes it: `python -m autotune export tuned.json --to STACK`."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, NamedTuple

from truffle.autotune import stack
from truffle.autotune.export_facts import facts_of, summary, summary_of
from truffle.autotune.stack import value_of
from truffle.kernels.checks import ArgumentError, expect
from truffle.model.tuned import TunedConfig

FACT = re.compile(r"\{([A-Za-z_0-9]+(?:\.[A-Za-z_0-9]+)*)\}")


class Export(NamedTuple):
    """What to hand on, and what its user must know."""

    text: str
    notes: tuple[str, ...]


def export(tuned: TunedConfig, to: str, point: int = 0) -> Export:
    """A tuned config for a stack.

    Args:
        point: 0 for the file's config, from 1 on for a point of its front.

    Raises:
        ValueError: there is no such stack or point, or the stack lacks the method or settings, by name; then also
            which points of the front it has everything for.
    """
    tuned, target = at_point(tuned, point), stack.load(to)
    facts = facts_of(tuned)
    try:
        way = target.way(to, facts)
    except ArgumentError as error:
        raise ArgumentError(f"{error}{_others(tuned, target, to)}") from None
    plugin = (f"needs: {target.plugin}",) if target.plugin else ()
    notes = plugin + tuple(_said(note, facts) for note in way.notes)
    if way.body is not None:
        return Export(json.dumps(_filled(way.body, facts), indent=1, allow_nan=False) + "\n", notes)
    lines = [f"# {line}" for line in (summary(tuned), target.about, *notes)]
    if way.assign:
        lines += [f"export {name}={shlex.quote(value)}" for name, value in value_of(facts, way.assign).items()]
    lines += [_line(line, facts) for line in way.lines or ()]
    return Export("\n".join(lines) + "\n", notes)


def at_point(tuned: TunedConfig, point: int) -> TunedConfig:
    """The file as if a point of its front were its config."""
    expect(0 <= point <= len(tuned.front), "point", f"0 to {len(tuned.front)}", point)
    if point == 0:
        return tuned
    chosen = tuned.front[point - 1]
    figures = {"accuracy": chosen.accuracy, "throughput": chosen.throughput}
    return tuned.model_copy(update={"config": chosen.config, "evidence": tuned.evidence.model_copy(update=figures)})


def _others(tuned: TunedConfig, target: stack.Stack, to: str) -> str:
    """What else of the file the stack could take."""
    fit = [
        f"--point {number} ({summary_of(chosen.config)})"
        for number, chosen in enumerate(tuned.front, 1)
        if _fits(target, to, at_point(tuned, number))
    ]
    return f"; of the file's front it takes {' and '.join(fit)}" if fit else ""


def _fits(target: stack.Stack, to: str, tuned: TunedConfig) -> bool:
    try:
        target.way(to, facts_of(tuned))
    except ArgumentError:
        return False
    return True


def _filled(template: Any, facts: dict[str, Any]) -> Any:
    """A JSON body with its facts, each of its own type."""
    if isinstance(template, dict):
        return {name: _filled(value, facts) for name, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, facts) for value in template]
    whole = FACT.fullmatch(template) if isinstance(template, str) else None
    return value_of(facts, whole[1]) if whole else template


def _line(template: str, facts: dict[str, Any]) -> str:
    """A command line with its facts, each one word to a shell; objects are JSON."""

    def word(found: re.Match[str]) -> str:
        value = value_of(facts, found[1])
        text = json.dumps(value, separators=(",", ":"), allow_nan=False) if isinstance(value, dict) else str(value)
        return shlex.quote(text)

    return FACT.sub(word, template)


def _said(template: str, facts: dict[str, Any]) -> str:
    return FACT.sub(lambda found: str(value_of(facts, found[1])), template)
