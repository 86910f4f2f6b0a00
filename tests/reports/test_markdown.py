"""The page for a pull request: answer first, every trial near its end."""

import re

from truffle.reports.record import parse
from truffle.reports.render import html, markdown


def test_markdown_lists_every_trial(record):
    record["trials"][21]["reason"] = "killed | by *signal* 9"
    lines = markdown(parse(record)).split("## All trials")[1].splitlines()
    rows = [line for line in lines if re.match(r"\| \d", line)]
    assert [int(row.split(" | ")[0].removeprefix("| ")) for row in rows] == [t["number"] for t in record["trials"]]
    assert rows[2] == "| 2 | lsh (10, 150) | default | 16 | 4 | 39.7 | 0.0310 | 2.10\u00a0% | complete |  |  |"
    assert "| complete | KL 0.0713 is above the limit 0.031 |" in rows[10]
    assert r"| – | – | – | failed | killed \| by \*signal\* 9 |" in rows[21]


def test_markdown_counts_how_the_search_ended(record, fruitless):
    assert "Of the search: 16 completed, 2 pruned, 2 failed." in markdown(parse(record))
    assert "Of the search: 0 completed, 1 failed." in markdown(parse(fruitless))
    assert "Of the search: 0 completed." in markdown(parse(fruitless | {"trials": []}))


def test_markdown_holds_together(record):
    lines = markdown(parse(record)).splitlines()
    assert lines[2].startswith("Made-up figures")
    assert "- KL against dense: **0.0266** (0.0218 to 0.0322 at 95\u00a0%, limit 0.0310, of another model)" in lines
    assert "Settings: method lsh · K 12 · L 45 · min hits 2 · probing ball 1 · sink 4" in "\n".join(lines)
    assert (
        "| lsh (10, 150) | default | 39.7 | 36.9 to 42.1 | 0.0310 | 0.0262 to 0.0364 | 2.10\u00a0% | estimated |  |"
        in lines
    )
    assert "| all on the GPU | no | – | – | – | needs 29.1 GB of 24.0 GB |" in lines
    assert lines[-3:] == ["```", record["command"], "```"]
    assert "pareto.png" in "\n".join(lines)
    assert len(lines) < 120


def test_a_limit_on_the_card_and_how_the_host_waits_are_said(record):
    before = markdown(parse(record))
    assert "held to" not in before
    assert "wait policy" not in before
    record["gpu"]["vram_limit_bytes"] = 20 * 2**30
    record["trials"][17] |= {"wait_policy": "spin", "micro_batches": 2}
    text = markdown(parse(record))
    assert "96k on NVIDIA GeForce RTX 4090 held to 20.0 GiB. Throughput:" in text
    assert "- GPU: NVIDIA GeForce RTX 4090 (profile rtx-4090) held to 20.0 GiB, not in this machine" in text
    assert "wait policy spin" in text
    assert "micro batches 2" in text


def test_dense_answer_states_its_speed_and_the_rival(record):
    record["answer"]["trial"] = None
    text = markdown(parse(record))
    assert "Throughput: **5.10 tokens/s**" in text
    assert "Best sampled: **61.0 tokens/s** (lsh (12, 45) ball 1, KL 0.0266" in text


def test_commit_is_read_from_the_top_of_the_record(record):
    record["commit"] = "abc1234"
    assert "- Commit: abc1234" in markdown(parse(record)).splitlines()
    assert "abc1234" in html(parse(record))


def test_what_a_command_left_open_is_said(record):
    record["resolved_command"] = "python -m autotune --gpu rtx-4090 --threads 16"
    lines = markdown(parse(record)).splitlines()
    assert lines[-3:] == ["```", record["resolved_command"], "```"]
    assert f"<pre>{record['resolved_command']}</pre>" in html(parse(record))
    record["resolved_command"] = record["command"]
    assert html(parse(record)).count(record["command"]) == 1
