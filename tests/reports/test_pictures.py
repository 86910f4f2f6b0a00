"""Pictures that can be read: words stay inside the picture and off one another, and every row has its own height."""

from itertools import combinations

import pytest

from truffle.reports.pictures import ACROSS, _drawing
from truffle.reports.tasks import Line, TaskTable, task_map

KINDS = ["single_1", "single_2", "single_3", "multikey_1", "multikey_2", "multikey_3", "multivalue", "multiquery"]
TASKS = (*(f"niah_{kind}" for kind in KINDS), "vt", "cwe", "fwe")
TITLE = "smollm2, 4,096 tokens, setup A, 30 prompts a task, tasks_4k_a_90_probing_3_hits_0_7_16_17.json"


@pytest.fixture
def drawing():
    """Two tables of tasks, of two and of twelve methods, drawn."""
    label = "lsh (13, 195) min_hits 3 cross_polytope ball 1, exact layers 0, 7, 16, 17"
    tables = [TaskTable(TITLE, TASKS, (Line(label, 0.0507, (50.0,) * 11, None),) * count) for count in (2, 12)]
    drawn = _drawing([task_map(table) for table in tables], ACROSS["tasks"])
    drawn.draw_without_rendering()
    return drawn


def boxes(words) -> list:
    return [word.get_window_extent() for word in words if word.get_text()]


def test_tables_of_tasks_stand_one_below_the_other_at_their_own_height(drawing):
    short, long = (frame.get_window_extent() for frame in drawing.axes)
    assert short.y0 > long.y1
    assert long.height > 4 * short.height


def test_words_of_a_task_map_keep_inside_and_apart(drawing):
    for frame in drawing.axes:
        below, beside = frame.get_xticklabels(), frame.get_yticklabels()
        assert [word.get_text() for word in below][-4:] == ["multiquery", "vt", "cwe", "fwe"]
        for box in boxes([*below, *beside, *frame.texts, frame._left_title]):
            assert box.x0 >= 0
            assert box.x1 <= drawing.bbox.x1
        for words in (frame.texts, beside):
            assert not any(one.overlaps(other) for one, other in combinations(boxes(words), 2))
