"""Methods with options of their own: what a list says, what it refuses, and what a table calls them."""

from __future__ import annotations

import pytest

from truffle.bench.__main__ import build_parser
from truffle.bench.comparison import compared
from truffle.bench.method_list import Asked, listed
from truffle.bench.method_names import described, line_names, method_names
from truffle.bench.task_methods import Contender


def test_a_list_divides_at_methods_only():
    assert listed("quest,lsh --K 8 --dense-layers 7,17 , scan --bits 2") == [
        Asked("quest", {}),
        Asked("lsh", {"K": "8", "dense_layers": "7,17"}),
        Asked("scan", {"bits": "2"}),
    ]
    assert listed("lsh --dense-layers '',lsh") == [Asked("lsh", {"dense_layers": ""}), Asked("lsh", {})]
    assert listed("lsh,lsh") == [Asked("lsh", {})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "methods: expected some of dense, .*got ''"),
        ("quest,nearest", "methods: expected some of dense, .*got 'nearest'"),
        ("lsh --k 8", "methods: unrecognized arguments: --k 8"),
        ("lsh --ball 1 --directed 8", "methods: argument --directed: not allowed with argument --ball"),
        ("lsh --threads 2", "methods: unrecognized arguments: --threads 2"),
    ],
)
def test_other_lists_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        listed(text)


def asked(methods: str, *options: str) -> list[Contender]:
    given = ["accuracy", "--methods", methods, "--context", "4096", "--densities", "0.05", *options]
    return compared(build_parser().parse_args(given))


def test_an_options_own_comes_before_what_is_everyones():
    dense, plain, own, quest = asked("lsh,lsh --window 8 --directed 4,quest", "--window", "16", "--ball", "1")
    assert dense.config.method == "dense"
    assert [one.config.parameters.window for one in (plain, own, quest)] == [16, 8, 16]
    assert [one.config.parameters.probing.name for one in (plain, own)] == ["ball 1", "directed 4"]
    assert plain.config.parameters.K == own.config.parameters.K, "the density's, as neither says"
    with pytest.raises(ValueError, match="page_size"):
        asked("lsh --page-size 8")


def test_what_no_density_changes_comes_once():
    found = asked("lsh --K 8 --L 9,lsh --K 8,streaming,quest", "--densities", "0.02,0.05")
    assert [(one.config.method, one.density) for one in found] == [
        ("dense", None),
        ("lsh", None),
        ("lsh", 0.02),
        ("lsh", 0.05),
        ("streaming", None),
        ("quest", 0.02),
        ("quest", 0.05),
    ]
    assert found[1].config.parameters.seal_tokens == found[2].config.parameters.seal_tokens == 64


def test_names_tell_variants_apart_by_what_differs():
    found = asked("lsh --K 8 --L 9,lsh --K 8 --L 9 --no-centring,lsh --K 9 --L 20 --dense-layers '',quest")
    rows = [
        {"method": c.config.method, "parameters": c.config.parameters.model_dump_json()} for c in found
    ]  # as records have them
    names = method_names(rows)
    assert [names[described(row)] for row in rows] == [
        "dense",
        "lsh (8, 9)",
        "lsh (8, 9) centred false",
        "lsh (9, 20) dense_layers none",
        "quest",
    ]
    assert list(method_names(rows[:2]).values()) == ["dense", "lsh (8, 9)"]


def test_a_line_is_called_the_same_at_all_densities():
    found = asked("lsh,lsh --ball 1,lsh --K 8 --L 9,quest", "--densities", "0.02,0.05")
    rows = [
        {"method": c.config.method, "asked_density": c.density, "parameters": c.config.parameters.model_dump_json()}
        for c in found
        if c.config.method != "dense"
    ]
    names = line_names(rows)
    assert [names[described(row)] for row in rows] == [
        *["lsh"] * 2, *["lsh ball 1"] * 2, "lsh (8, 9)", *["quest"] * 2,
    ]  # fmt: skip
    alone = [row for row in rows if row["asked_density"] == 0.02]
    assert line_names(alone) == method_names(alone), "the tables of the only density tell more"
