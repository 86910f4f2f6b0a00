"""What stands in the prompts: answers where they belong and nowhere else."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tests.bench.tasks.tokenizers import by_bytes
from truffle.bench.tasks import filler, niah, words
from truffle.bench.tasks.common_words import COMMON
from truffle.bench.tasks.frequent_words import DOTS, SMALLEST, frequencies
from truffle.bench.tasks.registry import TASKS
from truffle.bench.tasks.sample import make

NEEDLE = re.compile(r"The secret \w+ for (\S+) is: (\S+)\.")


def sample(name: str, index: int = 0, context: int = 12_000):
    return make(TASKS[name], by_bytes, context, 0, index)


def drafted(name: str, index: int = 0, context: int = 12_000) -> tuple[str, str]:
    """Context, without a worked example, and question."""
    prompt = sample(name, index, context).prompt.rsplit("\n\n\n", 1)[-1]
    return prompt[: prompt.rindex("\n\nQuestion:")], prompt[prompt.rindex("\n\nQuestion:") :]


@pytest.mark.parametrize("name", niah.VARIANTS)
def test_each_answer_stands_once_behind_a_name_that_is_asked_for(name):
    variant = niah.VARIANTS[name]
    for index in range(5):
        context, question = drafted(name, index)
        needles, answers = NEEDLE.findall(context), sample(name, index).answers
        asked = {key for key, _ in needles if key in question}
        assert len(asked) == variant.queries
        assert sorted(value for key, value in needles if key in asked) == sorted(answers)
        assert len(answers) == variant.queries * variant.values
        assert all(context.count(answer) == 1 and answer not in question for answer in answers)
        assert all(key in question for key in asked)


@pytest.mark.parametrize("name", niah.VARIANTS)
def test_rivals_have_other_names_and_other_values(name):
    variant = niah.VARIANTS[name]
    needles = NEEDLE.findall(drafted(name)[0])
    keys, values = Counter(key for key, _ in needles), [value for _, value in needles]
    assert set(keys.values()) == {variant.values}
    assert len(set(values)) == len(values)
    assert len(keys) > 50 if variant.haystack == "needles" else len(keys) == variant.keys


@pytest.mark.parametrize("name", ["niah_single_1", "niah_single_2", "niah_multikey_2"])
def test_needles_lie_at_all_depths(name):
    depths = []
    for index in range(60):
        made = sample(name, index)
        depths.append(made.prompt.index(made.answers[0]) / len(made.prompt))
    quarters = Counter(int(4 * depth) for depth in depths)
    assert min(depths) < 0.1
    assert max(depths) > 0.9
    assert all(quarters[quarter] >= 5 for quarter in range(4))  # of 15; P(fewer) < 0.1%


def test_the_chain_hands_the_value_asked_for_from_each_answer_to_the_next():
    for index in range(5):
        context, question = drafted("vt", index)
        links = dict(re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", context))
        first, *others = sample("vt", index).answers
        assert list(links) == [first, *others]
        assert links[first] in question
        assert [links[name] for name in others] == [first, *others][:-1]
        assert all(re.fullmatch("[A-Z]{5}", name) for name in links)
        assert not any(name in question for name in links)


def test_tracking_shows_a_chain_of_other_names_solved():
    prompt = sample("vt").prompt
    example, rest = prompt.split("\n\n\n")
    links = dict(re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", example))
    assert example.endswith("VAR " + ", VAR ".join(links))
    assert len(links) == 5
    assert not any(re.search(rf"\b{name}\b", rest) for name in links)


@pytest.mark.parametrize(("context", "often", "seldom"), [(12_000, 30, 3), (4000, 6, 1)])
def test_ten_words_are_common_and_all_others_equally_rare(context, often, seldom):
    text, question = drafted("cwe", context=context)
    entries = re.findall(r"(\d+)\. (\w+)", text)
    assert [int(number) for number, _ in entries] == list(range(1, len(entries) + 1))
    counts, answers = Counter(word for _, word in entries), sample("cwe", context=context).answers
    assert sorted(word for word, found in counts.items() if found == often) == sorted(answers)
    assert {found for word, found in counts.items() if word not in answers} == {seldom}
    assert len(set(answers)) == COMMON
    assert not any(answer in question for answer in answers)


def test_common_words_shows_a_list_of_other_words_solved():
    example, rest = sample("cwe").prompt.split("\n\n\n")
    listed, solved = example.split("\n\nQuestion:")
    counts = Counter(re.findall(r"\d+\. (\w+)", listed))
    assert [counts[word] for word in re.findall(r"\d+\. (\w+)", solved)] == [10] * COMMON
    assert not {*counts} & {*re.findall(r"\d+\. (\w+)", rest)}


@pytest.mark.parametrize("context", [3000, 12_000])
def test_frequent_words_follow_zipf_and_the_three_asked_for_tie_with_none(context):
    for index in range(3):
        text, question = drafted("fwe", index, context)
        counts = Counter(text.split("\n\n")[1].split())
        ranked = [word for word, _ in counts.most_common()]
        assert ranked[0] == DOTS
        assert ranked[1:4] == list(sample("fwe", index, context).answers)
        highest = sorted(counts.values(), reverse=True)[:5]
        assert len(set(highest)) == 5
        assert all(abs(found - highest[0] / rank**2) <= 1.25 for rank, found in enumerate(highest, 1))
        assert not any(word in question for word in ranked[1:])


def test_no_number_of_words_gives_frequencies_that_tie():
    for total in range(SMALLEST, 3000):
        assert len(set(frequencies(total, 5))) == 5
    assert sum(frequencies(10**6, 10**3)) == pytest.approx(10**6, rel=0.01)


def test_no_word_contains_another_and_fillers_hold_nothing_that_is_hidden():
    assert len(set(words.PLAIN)) == len(words.PLAIN)
    assert not [(a, b) for a in words.PLAIN for b in words.PLAIN if a != b and a in b]
    coded = words.coded(random.Random(0), 2000, "cvcvcv")
    assert len(set(coded)) == 2000
    assert not [(word, plain) for word in coded for plain in words.PLAIN if word in plain or plain in word]
    text = " ".join([*filler.essay(random.Random(0), 2000), *filler.noise(1)])
    assert not re.search(r"[\d{}|-]|  |secret|VAR", text)


def test_essays_begin_alike_and_hardly_repeat_themselves():
    long, short = filler.essay(random.Random(0), 2000), filler.essay(random.Random(0), 10)
    assert long[:10] == short
    assert len(set(long)) > 1900


def test_names_that_run_out_are_refused():
    with pytest.raises(ValueError, match="context: expected one that needs at most"):
        words.names(random.Random(0), 10**6)
