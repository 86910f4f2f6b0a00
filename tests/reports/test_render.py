"""The written reports: complete, answer first, self-contained, and deaf to what a label tries to say."""

import csv
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from truffle.reports.__main__ import main
from truffle.reports.record import RecordError, parse
from truffle.reports.render import html, markdown, render

HOSTILE = (
    "</script><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)> | **b** `c` $\\frac{ \x1b[31m"
)

ALWAYS = {"report.html", "report.md", "trials.csv", "trials.parquet", "pareto.svg", "pareto.png"}


class Page(HTMLParser):
    """Elements, attributes and text of a page, its scripts apart."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.words, self._inside = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        (self.scripts if self._inside == "script" else self.words).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_render_writes_every_file(record, folder_of):
    folder = folder_of(record)
    paths = render(folder)
    assert {p.name for p in paths} == {*ALWAYS, "steps.svg", "steps.png", "map.svg", "map.png"}
    assert all(p.parent == folder and p.stat().st_size > 500 for p in paths)
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert "Made-up figures" in (folder / "report.md").read_text(encoding="utf-8")


def test_page_asks_for_nothing_from_elsewhere(record):
    text = html(parse(record))
    page = Page(text)
    assert not [value for name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    own = re.sub(r'<script id="plotly">.*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?://|//cdn|@import|url\(", own)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'")
    assert text.count('<script id="plotly">') == 1


def test_every_trial_is_in_page_and_csv(record, folder_of):
    folder = folder_of(record)
    render(folder)
    rows = re.findall(r'<td class="trial" data-value="(\d+)">', (folder / "report.html").read_text(encoding="utf-8"))
    numbers = [t["number"] for t in record["trials"]]
    assert [int(row) for row in rows] == numbers
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [int(row["number"]) for row in table] == numbers
    assert float(table[2]["kl"]) == record["trials"][2]["kl"]
    assert table[6]["kl"] == ""


def test_failures_show_their_reasons(record):
    page, text = Page(html(parse(record))), markdown(parse(record))
    for trial in record["trials"]:
        if trial["status"] != "complete":
            assert (trial["reason"] or "no reason recorded") in page.text
            assert re.search(
                rf"\| {trial['number']} \| .* \| {trial['status']} \| {re.escape(trial['reason'] or '–')} \|", text
            )


@pytest.mark.parametrize("form", [markdown, lambda study: Page(html(study)).text], ids=["markdown", "page"])
def test_only_finished_trials_of_the_search_use_the_budget(record, form):
    assert "24 trials, 9 min 0 s; used 16 and 8 min 32 s" in form(parse(record))
    record["trials"][2]["status"] = "failed"
    assert "24 trials, 9 min 0 s; used 15 and" in form(parse(record))
    record["trials"][0]["status"] = "pruned"  # a baseline
    assert "24 trials, 9 min 0 s; used 15 and" in form(parse(record))


def first_lines(record) -> tuple[str, str]:
    """The first line of the page and of the Markdown."""
    heading = re.search(r"<body>\s*<main>\s*<header>\s*<h1>(.*?)</h1>", html(parse(record)), re.DOTALL)
    return unescape(heading[1]), markdown(parse(record)).splitlines()[0].removeprefix("# ")


def test_answer_comes_first(record):
    assert first_lines(record) == ("Use lsh (12, 45) ball 1",) * 2


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (None, "Change nothing: keep dense attention (KV on the CPU)"),
        (1, "Keep dense attention (KV on the CPU)"),
        (2, "Keep the default: lsh (10, 150)"),
    ],
)
def test_first_line_says_when_nothing_is_to_change(record, trial, expected):
    record["answer"]["trial"] = trial
    assert first_lines(record) == (expected, expected)


def test_study_without_a_complete_trial(fruitless, folder_of):
    assert {p.name for p in render(folder_of(fruitless))} == ALWAYS
    assert first_lines(fruitless) == ("No answer: no trial completed",) * 2
    page = Page(html(parse(fruitless)))
    assert "no room" in page.text
    assert "nothing to draw" in page.text
    assert "None" not in page.text.replace("None recorded", "")


def test_study_without_trials_renders(fruitless, folder_of):
    assert {p.name for p in render(folder_of(fruitless | {"trials": []}))} == ALWAYS


def test_every_optional_field_may_be_null(record, folder_of):
    keep = ("number", "status", "method", "origin")
    for trial in record["trials"]:
        trial.update({key: None for key in trial if key not in keep})
    assert {p.name for p in render(folder_of(record))} == ALWAYS
    assert "None" not in Page(html(parse(record))).text


def test_non_finite_figures_are_missing_ones(record, folder_of):
    record["trials"][2] |= {"kl": float("nan"), "tokens_per_s_high": float("inf")}
    render(folder := folder_of(record))
    assert "NaN" not in Page((folder / "report.html").read_text(encoding="utf-8")).scripts[0]


def hostile(record) -> dict:
    for trial in record["trials"]:
        trial |= {"label": HOSTILE, "reason": HOSTILE, "throughput_kind": HOSTILE}
    record["answer"] |= {"headline": HOSTILE, "detail": [HOSTILE], "fastest_exact": HOSTILE}
    record["command"] = "```\n" + HOSTILE
    record["environment"] = {HOSTILE: HOSTILE, "nested": {"a": [HOSTILE]}}
    record["gpu"]["name"] = record["limit"]["source"] = record["baselines"][0]["name"] = HOSTILE
    return record


def test_hostile_text_stays_text_in_the_page(record):
    plain, page = Page(html(parse(record))), Page(html(parse(hostile(record)), {"key": HOSTILE}))
    assert set(page.tags) <= set(plain.tags) | {"small", "pre", "details", "summary"}
    assert page.tags.count("script") == plain.tags.count("script")
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<img src=https://evil.example/x onerror=alert(2)>" in page.text
    assert "\x1b" not in page.text
    drawn = json.loads(page.scripts[0])
    for trace in drawn["pareto"]["data"]:
        for text in trace.get("text", []) + trace.get("hovertext", []):
            assert set(re.findall(r"<[^>]*>", text)) <= {"<b>", "</b>", "<br>"}


def test_hostile_text_stays_text_in_markdown(record, folder_of):
    text = markdown(parse(hostile(record)))
    body, command = text.split("## Reproduce")
    assert "<" not in body
    assert "https://" not in body
    assert not re.search(r"(?<!\\)[`*]", body.replace("**", ""))
    assert re.fullmatch(r"\s*````\n```\n.*\n````\s*", command, re.DOTALL)
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10, 7, 5, 12}
    assert len(render(folder_of(record))) == 10


def test_tuned_file_is_shown(record, folder_of):
    folder = folder_of(record)
    (folder / "tuned.json").write_text('{"schema_version": 1, "config": {"method": "lsh"}}', encoding="utf-8")
    render(folder)
    assert '"method": "lsh"' in Page((folder / "report.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "expected an object"),
        ("{}", "schema_version must be 1, got None"),
        ('{"schema_version": 2}', "schema_version must be 1, got 2"),
        ('{"schema_version": 1, "trials": 3}', "study.trials must be a list of objects, got 3"),
        ('{"schema_version": 1, "trials": [{"number": 0}]}', r"study.trials\[0\].status must be text, got None"),
        (
            '{"schema_version": 1, "trials": [{"number": 0, "status": "complete", "kl": "low"}]}',
            r"study.trials\[0\].kl must be a number or null, got 'low'",
        ),
        ('{"schema_version": 1, "gpu": "4090"}', "study.gpu must be an object or null, got '4090'"),
        ('{"schema_version": 1, "limit": {"max_kl": true}}', "study.limit.max_kl must be a number or null"),
    ],
)
def test_broken_record_is_named(folder_of, text, message):
    folder = folder_of(text)
    with pytest.raises(RecordError, match=message):
        render(folder)
    assert [p.name for p in folder.iterdir()] == ["study.json"]


def test_command_line(record, folder_of, capsys):
    assert main(["render", str(folder_of(record))]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_command_line_without_a_study(tmp_path, capsys):
    assert main(["render", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "nowhere" in said.err
    assert "No such file" in said.err
