"""Samples of every task fit, repeat, and split."""

from __future__ import annotations

import pytest
import torch

from tests.bench.tasks.tokenizers import TOKENIZERS, by_bytes
from truffle.bench.tasks.opening import opening
from truffle.bench.tasks.registry import GROUPS, TASKS, named
from truffle.bench.tasks.sample import make
from truffle.bench.tasks.scores import string_match_all

CASES = [(task, *TOKENIZERS[name]) for task in TASKS.values() for name in TOKENIZERS]
IDS = [f"{task}-{name}" for task in TASKS for name in TOKENIZERS]


@pytest.mark.parametrize(("task", "encode", "context"), CASES, ids=IDS)
def test_a_sample_fills_its_context_and_no_more(task, encode, context):
    for index in range(3):
        sample = make(task, encode, context, seed=0, index=index)
        used = len(sample.prompt_ids) + sample.tokens_to_generate
        assert 0.95 * context <= used <= context


@pytest.mark.parametrize(("task", "encode", "context"), CASES, ids=IDS)
def test_context_and_question_join_to_the_prompt(task, encode, context):
    sample = make(task, encode, context, seed=0, index=0)
    assert sample.prompt_ids.tolist() == encode(sample.prompt)
    assert sample.prompt_ids.dtype == torch.int64
    at = sample.prompt.rindex("\n\nQuestion:")
    context_alone, kept = encode(sample.prompt[:at]), len(sample.context_ids)
    assert sample.context_ids.tolist() == context_alone[:kept]
    assert len(context_alone) - kept <= 1


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_samples_repeat_and_differ_by_seed_and_index(task):
    def prompt(seed: int, index: int) -> str:
        return make(task, by_bytes, 12_000, seed, index).prompt

    assert prompt(0, 0) == prompt(0, 0)
    assert len({prompt(0, 0), prompt(0, 1), prompt(1, 0)}) == 3


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_perfect_answer_fits_and_scores(task):
    encode, context = TOKENIZERS["smollm2"]
    sample = make(task, encode, context, seed=0, index=0)
    perfect = ", VAR ".join(sample.answers) if task.name == "vt" else ", ".join(sample.answers)
    assert len(encode(f" {perfect}")) <= sample.tokens_to_generate
    assert string_match_all(perfect, sample.answers) == 100


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_context_that_is_too_short_is_refused_with_about_the_least(task):
    with pytest.raises(ValueError, match=rf"expected about .* for {task.name}, got 90") as refused:
        make(task, by_bytes, 90, seed=0, index=0)
    least = int(str(refused.value).split()[3])
    assert len(make(task, by_bytes, least + 20, seed=0, index=0).prompt_ids) <= least


def test_tasks_and_groups_are_found_by_name():
    assert [task.name for task in named("vt, niah,niah_single_1")] == ["vt", *GROUPS["niah"]]
    assert {task.name for task in named("ruler")} == {*TASKS}
    with pytest.raises(ValueError, match=r"tasks: expected some of ruler, .* got 'qa'"):
        named("vt,qa")


def test_scores_count_the_answers_named_in_any_case():
    assert string_match_all("\n It is MISTY-Harbour\x00, and 7 ", ["misty-harbour", "8"]) == 50
    assert string_match_all("misty\nharbour", ["misty\x01harbour", "misty harbour"]) == 0
    assert string_match_all("a\x01b", ["a\nb"]) == 100


def test_openings_have_the_length_asked_for_and_share_no_text():
    for encode, _ in TOKENIZERS.values():
        first, second = (opening(encode, 50, seed=0, index=index) for index in range(2))
        assert len(first) == len(second) == 50
        assert first.tolist() == opening(encode, 80, seed=0, index=0)[:50].tolist()
        assert first.tolist() != second.tolist()
    with pytest.raises(ValueError, match="length: expected at least 1"):
        opening(by_bytes, 0, seed=0, index=0)
