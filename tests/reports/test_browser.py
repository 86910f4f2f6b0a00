"""The page in a real browser: quiet console, no requests, sorting, hover, both themes, a phone's width."""

import html
import json
import re
import shutil
import subprocess

import pytest

from truffle.reports.comparison import compare
from truffle.reports.render import compared, render

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the path"),
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
GROUPS = {"pareto", "steps", "layers", "rivals", "map", "scaling", "methods"}
DARK = ("--blink-settings=preferredColorScheme=0", "--force-dark-mode")

# Runs inside the page and tells the frame around it what it saw; the width of a window has a floor, a frame's has none.
PROBE = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const column = () => [...document.querySelectorAll("td.trial")].map((cell) => Number(cell.dataset.value));
  const sorted = (name) => {
    [...document.querySelectorAll("th button")].find((button) => button.textContent === name)?.click();
    return column();
  };
  if (window.Plotly) Plotly.Fx.hover("pareto", [{ curveNumber: 1, pointNumber: 0 }]);
  parent.postMessage({
    recorded: column(), ascending: sorted("KL"), descending: sorted("KL"), byName: sorted("Status"),
    marks: document.querySelectorAll("#pareto .points path").length,
    figures: [...document.querySelectorAll(".figure")].map((figure) => figure.id),
    drawn: [...document.querySelectorAll(".figure")]
      .filter((figure) => figure.querySelector(".main-svg :is(.point path, .points path, .js-line)")).map((f) => f.id),
    hover: document.querySelector("#pareto .hovertext")?.textContent ?? "",
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: window.innerWidth,
  }, "*");
}, 800));
</script></body>"""
SORTER = """<script>
addEventListener("load", () => {
  const wrong = [];
  for (const table of document.querySelectorAll("table.sortable"))
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button").click();
      const values = [...table.tBodies[0].rows].map((row) => {
        const cell = row.cells[header.cellIndex];
        return cell.dataset.value ?? cell.textContent.trim();
      });
      const known = values.filter((value) => value !== "");
      const rising = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) <= 0 : Number(a) <= Number(b));
      if (!known.every((value, i) => i === 0 || rising(known[i - 1], value))) wrong.push(header.textContent);
    }
  const out = document.createElement("pre"); out.id = "seen"; out.textContent = JSON.stringify(wrong);
  document.body.append(out);
});
</script></body>"""
FRAME = """<body style="margin:0"><iframe src="probed.html" style="border:0;width:{width}px;height:3000px"></iframe>
<script>addEventListener("message", (said) => {{
  const out = document.createElement("pre"); out.id = "seen"; out.textContent = JSON.stringify(said.data);
  document.body.append(out);
}});</script></body>"""


def browse(folder, page: str, *flags: str) -> tuple[str, list[str]]:
    """Loads folder/page; returns standard output and what the page said on its console."""
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, (folder / page).as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, re.findall(r'CONSOLE[^"]*"(.*?)", source', done.stderr)


def probed(folder, width: int) -> tuple[dict, list[str]]:
    """What the probe saw in a frame of that many pixels, and the console."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    (folder / "probed.html").write_text(PROBE.join(page.rsplit("</body>", 1)), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    dom, console = browse(folder, "frame.html", "--window-size=1400,1000", "--dump-dom")
    return json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom)[1])), console


@pytest.mark.parametrize("width", [390, 1280])
def test_page_works(record, further, folder_of, file_of, width):
    folder = folder_of(record)
    render(folder, [file_of(further)])
    seen, console = probed(folder, width)
    assert console == []
    assert seen["requests"] == []
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    assert seen["marks"] == 18
    assert seen["drawn"] == seen["figures"]
    assert {name.split("-")[0] for name in seen["figures"]} == GROUPS
    assert "tokens/s" in seen["hover"]


def test_table_sorts_and_keeps_the_missing_last(record, folder_of):
    folder = folder_of(record)
    render(folder)
    seen, _ = probed(folder, 1280)
    kl = {t["number"]: t["kl"] for t in record["trials"]}
    missing = {number for number, value in kl.items() if value is None}
    assert seen["recorded"] == list(kl)
    for order, sign in ((seen["ascending"], 1), (seen["descending"], -1)):
        known = [sign * kl[number] for number in order[: -len(missing)]]
        assert known == sorted(known)
        assert set(order[-len(missing) :]) == missing
    assert {kl[number] is None for number in seen["byName"][-4:]} == {True}


def test_every_table_sorts_by_any_column(record, further, folder_of, file_of):
    folder = folder_of(record)
    render(folder, [file_of(further)])
    page = (folder / "report.html").read_text(encoding="utf-8")
    (folder / "sorted.html").write_text(SORTER.join(page.rsplit("</body>", 1)), encoding="utf-8")
    dom, console = browse(folder, "sorted.html", "--dump-dom")
    assert console == []
    assert json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom)[1])) == []
    methods = re.findall(r'<tr><td class="trial">([^<]*)</td>', dom)
    assert sorted(methods) == ["dense", "lsh (10, 150)", "quest"]


def test_comparison_is_quiet_and_fits_a_phone(record, folder_of, tmp_path):
    folder = folder_of(record)
    page = compared(compare(folder, folder))[1]
    (folder / "report.html").write_text(page, encoding="utf-8")
    seen, console = probed(folder, 390)
    assert console == []
    assert seen["requests"] == []
    assert seen["overflow"] <= 0


def test_hostile_page_runs_nothing(record, folder_of):
    label = "</script><script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
    for trial in record["trials"]:
        trial |= {"label": label, "reason": label}
    folder = folder_of(record)
    render(folder)
    seen, console = probed(folder, 1280)
    assert console == []
    assert seen["requests"] == []
    assert "<script>" in seen["hover"]


def test_long_words_do_not_widen_a_phone_page(record, folder_of):
    for trial in record["trials"]:
        trial |= {"label": "x" * 300, "reason": "y" * 300}
    record["answer"] |= {"headline": "z" * 300, "detail": ["z" * 300], "fastest_exact": "x" * 300}
    folder = folder_of(record)
    render(folder)
    assert probed(folder, 390)[0]["overflow"] <= 0


def test_study_without_figures_is_quiet(fruitless, folder_of):
    folder = folder_of(fruitless)
    render(folder)
    _, console = browse(folder, "report.html", "--dump-dom")
    assert console == []


@pytest.mark.parametrize(("flags", "bright"), [((), True), (DARK, False)])
def test_both_themes(record, folder_of, flags, bright):
    from matplotlib.image import imread

    folder = folder_of(record)
    render(folder)
    browse(folder, "report.html", "--window-size=1280,1400", f"--screenshot={folder / 'page.png'}", *flags)
    picture = imread(folder / "page.png")[..., :3]
    assert (picture.mean() > 0.8) == bright
    assert (picture.mean() < 0.3) != bright
    assert len({tuple(pixel) for pixel in picture[::7, ::7].reshape(-1, 3)}) > 20
