"""Arguments moved to another device: what holds tensors, and what is held in several places."""

from truffle.kernels import registry
from truffle.kernels.moving import Mover, moved


def test_stores_and_tables_move_once_and_stay_shared():
    retrieve, attend = (registry.contract(op) for op in ("retrieve", "sparse_attend"))
    tables = retrieve.arguments(retrieve.cases[3])
    stores = attend.arguments(attend.cases[0])
    shared = {"tables": tables["tables"] * 2, "stores": stores["stores"] * 2, "scale": 0.5, "q": stores["q"]}
    move = Mover("meta")
    there, again = move(shared), move(shared)
    assert there["scale"] == 0.5
    assert there["q"].device.type == there["stores"][0].rows.device.type == "meta"
    assert all(segment.ids.device.type == segment.offsets.device.type == "meta" for segment in there["tables"][0])
    assert there["stores"][0] is there["stores"][1] is again["stores"][0]
    assert there["tables"][0][0] is there["tables"][1][0]
    assert there["tables"][0][1].start == shared["tables"][0][1].start


def test_what_is_there_already_is_not_copied():
    contract = registry.contract("sparse_attend")
    arguments = contract.arguments(contract.cases[1])
    there = moved(arguments, "cpu")
    assert all(there[name] is arguments[name] for name in arguments if name != "stores")
    assert there["stores"][0] is arguments["stores"][0]
