"""Two studies beside one another, how sure an answer is, and failures by what they have in common."""

import copy
import json
import re

import pytest

from truffle.reports.__main__ import main
from truffle.reports.comparison import SAME, compare
from truffle.reports.confidence import confidence
from truffle.reports.failures import failures
from truffle.reports.record import parse
from truffle.reports.render import compared


@pytest.fixture
def folders(record, tmp_path):
    """Writes the study and a changed copy of it into two folders."""

    def write(change) -> list:
        second = copy.deepcopy(record)
        change(second)
        for name, study in (("a", record), ("b", second)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "study.json").write_text(json.dumps(study), encoding="utf-8")
        return [tmp_path / "a", tmp_path / "b"]

    return write


def test_a_study_equals_itself(record, folders):
    found = compare(*folders(lambda study: None))
    assert found.asked == ()
    assert found.only == ((), ())
    assert len(found.pairs) == 18
    assert {pair.remark for pair in found.pairs} == {""}
    assert found.verdict == "18 trials in both, none clearly apart"


def test_what_moved_is_told_by_intervals(folders):
    def change(study):
        fast, same, gone, worse = (study["trials"][i] for i in (2, 3, 17, 4))
        fast |= {name: 2 * fast[name] for name in ("tokens_per_s", "tokens_per_s_low", "tokens_per_s_high")}
        same["tokens_per_s"] = same["tokens_per_s_high"]
        worse |= {name: 3 * worse[name] for name in ("kl", "kl_low", "kl_high")}
        gone["batch_size"] = 77
        study["limit"]["max_kl"] = 0.5
        study["answer"]["trial"] = 2

    found = compare(*folders(change))
    remarks = {pair.before.number: pair.remark for pair in found.pairs}
    assert (remarks[2], remarks[3], remarks[4]) == ("faster", "", "errs more")
    assert 17 not in remarks
    assert found.only == (("lsh (12, 45) ball 1, 16 threads",),) * 2
    assert found.asked == (("KL limit", "0.0310", "0.500"),)
    assert found.answers[0] == ("Answer", "Use lsh (12, 45) ball 1", "Keep the default: lsh (10, 150)")
    assert next(pair.speed for pair in found.pairs if pair.before.number == 2) == 2
    assert found.verdict == "17 trials in both: 1 faster, 1 errs more"


def test_a_config_tells_apart_what_has_one_name(folders):
    def change(study):
        study["trials"][2]["config"], study["trials"][3]["config"] = '{"codes":"host"}', '{"codes":"device"}'

    first, second = folders(change)
    assert len(compare(first, second).pairs) == 16
    assert len(compare(second, second).pairs) == 18

    data = json.loads((second / "study.json").read_text(encoding="utf-8"))
    data["trials"][3] |= {name: data["trials"][2].get(name) for name in SAME}
    (second / "study.json").write_text(json.dumps(data), encoding="utf-8")
    assert len(compare(second, second).pairs) == 18


def test_names_of_one_study_alone_are_listed_apart(folders):
    def change(study):
        for i in (17, 4):
            study["trials"][i]["threads"] = 7

    text, page = compared(compare(*folders(change)))
    for written in (text.replace("\\", ""), page):
        assert len(re.findall(r"lsh [^;]*, 16 threads; lsh [^;]*, 16 threads\.", written)) == 1
        assert len(re.findall(r"lsh [^;]*, 7 threads; lsh [^;]*, 7 threads\.", written)) == 1


def test_hostile_names_stay_text(folders):
    def change(study):
        study["trials"][2]["label"] = "<script>alert(1)</script> | `x`"
        study["command"] = "<img src=x>"

    text, page = compared(compare(*folders(change)))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "<" not in text


def test_command_line_compares(folders, tmp_path, capsys):
    both = [str(folder) for folder in folders(lambda study: None)]
    assert main(["compare", *both]) == 0
    assert "18 trials in both" in capsys.readouterr().out
    assert main(["compare", *both, "--out", str(tmp_path / "c")]) == 0
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"compare.md", "compare.html"}
    assert main(["compare", both[0], str(tmp_path / "nowhere")]) == 2


def test_confidence_is_high_only_when_nothing_holds_it_down(record):
    record["accuracy_model"]["proxy"], record["complete"] = False, True
    record["trials"][17] |= {"throughput_kind": "measured", "confirmed": True}
    assert confidence(parse(record))[0] == "High"
    record["trials"][17]["confirmed"] = False
    assert confidence(parse(record)) == ("Fair", "measured once")
    record["complete"] = False
    assert confidence(parse(record)) == ("Low", "the search is not complete; measured once")


def test_an_exact_answer_without_an_interval_is_fair(record):
    record["complete"], record["answer"]["trial"] = True, 1
    record["trials"][1] |= {"throughput_kind": "measured", "tokens_per_s_low": None}
    record["trials"] = record["trials"][:2]
    assert confidence(parse(record)) == ("Fair", "no interval of it is known")


def test_overlapping_intervals_make_it_low(record):
    record["complete"] = True
    record["trials"][1]["tokens_per_s_high"] = record["trials"][17]["tokens_per_s_high"]
    word, why = confidence(parse(record))
    assert word == "Low"
    assert "its interval overlaps that of dense, KV on the CPU" in why


def test_a_gain_that_may_be_none_makes_it_low(record):
    record["complete"] = True
    record["trials"][17] |= {"gain_low": 0.98, "gain_high": 1.2}
    assert confidence(parse(record))[0] == "Low"
    record["trials"][17]["gain_low"] = 1.1
    assert confidence(parse(record))[0] == "Fair"


def test_no_answer_no_confidence(fruitless):
    assert confidence(parse(fruitless)) == ("", "")


def test_reasons_that_differ_in_figures_are_one(record):
    for i, trial in enumerate(record["trials"][5:9]):
        trial |= {"status": "pruned", "reason": f"needs {100 + i}.5 GB of 22.7 GB", "label": f"lsh ({i}, 1)"}
    record["trials"][9] |= {"status": "repeat", "repeat_of": 2}
    found = failures(parse(record))
    assert "repeat" not in {f.status for f in found}
    assert [f.status for f in found] == sorted((f.status for f in found), key=lambda status: status != "failed")
    memory = next(f for f in found if f.reason.startswith("needs 100.5"))
    assert len(memory.trials) >= 4
    assert memory.names.startswith("lsh (0, 1); lsh (1, 1); lsh (2, 1) and ")
