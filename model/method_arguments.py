"""Command-line flags for methods' parameters: one for every field that a method has."""

from __future__ import annotations

import argparse
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from truffle.model.config import METHODS

_NOT_AS_THEY_ARE = ("probing", "centred")  # these have flags of their own
_HELP = {
    "K": "bits a hash table",
    "L": "hash tables",
    "min_hits": "tables a key must share with the query to be sampled",
    "sink": "first tokens, always attended exactly",
    "window": "most recent tokens, always attended exactly",
    "dense_layers": "layers that attend everything, such as 0,16",
    "seal_tokens": "tokens that leave the window before they are indexed together",
    "seed": "seed of what is random in a method",
}


def add_parameter_arguments(parser: argparse._ActionsContainer) -> None:
    """Add a flag a parameter; what one says is read and checked by the method's own schema."""
    for name, (field, methods) in _fields().items():
        parser.add_argument(_flag(name), metavar=_metavar(name, field), help=_help(name, field, methods))


def given_parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parameters that were given, as text, but for lists of layers.

    Raises:
        ValueError: layers that are no numbers.
    """
    found = {name: getattr(arguments, name) for name in _fields()}
    given = {name: value for name, value in found.items() if value is not None}
    if "dense_layers" in given:
        given["dense_layers"] = _layers(given["dense_layers"])
    return given


def _fields() -> dict[str, tuple[FieldInfo, list[str]]]:
    """Every parameter, and the methods that have it."""
    found: dict[str, tuple[FieldInfo, list[str]]] = {}
    for method, kind in METHODS.items():
        for name, field in kind.model_fields.items():
            if name not in _NOT_AS_THEY_ARE:
                found.setdefault(name, (field, []))[1].append(method)
    return found


def _metavar(name: str, field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return "|".join(map(str, choices)) or name.upper()


def _help(name: str, field: FieldInfo, methods: list[str]) -> str:
    defaults = {method: _shown(METHODS[method].model_fields[name].default) for method in methods}
    apart = len(set(defaults.values())) > 1
    default = ", ".join(f"{method} {own}" for method, own in defaults.items()) if apart else defaults[methods[0]]
    where = "" if len(methods) > len(METHODS) // 2 else f"{', '.join(methods)}: "
    return f"{where}{field.description or _HELP[name]} ({default})"


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(f"dense_layers: expected layer numbers such as 0,16, got {text!r}") from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
