"""Writes a tuned config down as another program takes it: `python -m autotune export tuned.json --to STACK`."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, NamedTuple

from truffle.autotune import stack
from truffle.autotune.export_facts import facts_of, summary
from truffle.autotune.stack import value_of
from truffle.model.tuned import TunedConfig

FACT = re.compile(r"\{([A-Za-z_0-9]+(?:\.[A-Za-z_0-9]+)*)\}")


class Export(NamedTuple):
    """What to hand on, and what its user must know."""

    text: str
    notes: tuple[str, ...]


def export(tuned: TunedConfig, to: str) -> Export:
    """A tuned config for a stack.

    Raises:
        ValueError: there is no such stack, or it lacks the method or a setting, by name.
    """
    facts, target = facts_of(tuned), stack.load(to)
    way = target.way(to, facts)
    plugin = (f"needs: {target.plugin}",) if target.plugin else ()
    notes = plugin + tuple(_said(note, facts) for note in way.notes)
    if way.body is not None:
        return Export(json.dumps(_filled(way.body, facts), indent=1, allow_nan=False) + "\n", notes)
    lines = [f"# {line}" for line in (summary(tuned), target.about, *notes)]
    if way.assign:
        lines += [f"export {name}={shlex.quote(value)}" for name, value in value_of(facts, way.assign).items()]
    lines += [_line(line, facts) for line in way.lines or ()]
    return Export("\n".join(lines) + "\n", notes)


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
