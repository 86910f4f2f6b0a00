"""A study folder, and records given beside it, into report.html, report.md, tables and pictures."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import answer, measured, numbers, static
from .absent import absent
from .comparison import Comparison
from .failures import failures
from .figures import figures, group
from .front import highlights, pareto_front, roles
from .measured import Measured
from .pictures import write_pictures
from .raw_samples import raw_samples
from .record import RecordError, Study, Trial, load, read_json
from .runs_as import runs_as
from .spreadsheet import write_rows
from .tasks import task_map, task_tables

TEMPLATES = Path(__file__).parent / "templates"


def render(folder: Path, records: Iterable[Path] = ()) -> list[Path]:
    """Writes the reports of folder/study.json (and tuned.json, if there) beside it.

    Args:
        folder: also where everything is written.
        records: files of `python -m truffle.bench ... --json`, for the sections that a study has no data for.

    Returns the paths written. Raises RecordError, with nothing written, when a record is missing or wrong.
    """
    folder = Path(folder)
    study, beside = load(folder), measured.load(records)
    tuned = read_json(folder / "tuned.json") if (folder / "tuned.json").exists() else None
    pages = {folder / "report.html": html(study, tuned, beside), folder / "report.md": markdown(study, beside)}
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    tables = write_rows(folder / "trials", [asdict(t) for t in study.trials], (f.name for f in fields(Trial)))
    tables += write_rows(folder / "records", beside.rows) if beside.rows else []
    samples = raw_samples(folder, study)
    tables += write_rows(folder / "samples", samples) if samples else []
    return [*pages, *tables, *static.write_pareto(study, folder), *write_pictures(_drawn(study, beside), folder)]


def draw(records: Iterable[Path], folder: Path) -> list[Path]:
    """Writes SVG and PNG of what files of records hold by themselves into `folder`, and returns the paths.

    Raises RecordError when a record is missing or wrong, or nothing in them can be drawn.
    """
    drawn = _drawn(Study(()), measured.load(records))
    if not drawn:
        raise RecordError("expected records of rivals, scaling, decode or accuracy with several methods, got none")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return write_pictures(drawn, Path(folder))


def _drawn(study: Study, beside: Measured) -> dict[str, dict]:
    return figures(study, beside) | {f"tasks-{i}": task_map(t) for i, t in enumerate(task_tables(study, beside))}


def html(study: Study, tuned: dict | None = None, beside: Measured = Measured()) -> str:  # noqa: B008
    """One self-contained page; all text from the record is escaped."""
    from plotly.offline import get_plotlyjs

    return (
        _environment(autoescape=True)
        .get_template("report.html")
        .render(
            **_common(study, beside),
            tuned=None if tuned is None else json.dumps(tuned, indent=2, ensure_ascii=False),
            plotly=Markup(get_plotlyjs()),
            style=_own("report.css"),
            script=_own("table.js") + _own("report.js"),
        )
    )


def markdown(study: Study, beside: Measured = Measured()) -> str:  # noqa: B008
    """A short page for a pull request; text from the record cannot become Markdown or markup."""
    return _markdown().get_template("report.md").render(**_common(study, beside), fenced=fenced)


def compared(comparison: Comparison) -> tuple[str, str]:
    """A comparison as Markdown and as a page."""
    given = {"c": comparison, "n": numbers}
    page = _environment(autoescape=True).get_template("compare.html")
    text = _markdown().get_template("compare.md").render(**given)
    return text, page.render(**given, style=_own("report.css"), script=_own("table.js"))


def _own(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _markdown() -> Environment:
    return _environment(autoescape=False, finalize=escape_markdown)


def _environment(**options) -> Environment:
    layout = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, **layout, **options)


def _common(study: Study, beside: Measured) -> dict:
    drawn, tables = figures(study, beside), task_tables(study, beside)
    groups = {group(name) for name in drawn} | ({"tasks"} if tables else set())
    return {
        "study": study,
        "figures": drawn,
        "groups": groups,
        "tables": tables,
        "absent": absent(study, groups),
        "failures": failures(study),
        "sources": beside.sources,
        "answer": answer,
        "n": numbers,
        "runs_as": runs_as,
        "roles": roles(study),
        "highlights": highlights(study),
        "front": pareto_front(study.trials),
        "unplaced": [t for t in study.trials if t.status == "complete" and not t.plotted],
    }


def escape_markdown(value):
    """Text that Markdown shows as it is, on one line; Markup passes through."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = re.sub(r"([\\`*_\[\]|~#!@])", r"\\\1", re.sub("[ \n]+", " ", value))
    # An address would be turned into a link by itself; the zero-width joiner keeps it text.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#8203;//")


def fenced(text: str | None) -> Markup:
    """A code block that its own content cannot close."""
    text = text or numbers.DASH
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{fence}\n{text}\n{fence}")
