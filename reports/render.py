"""A study folder into report.html, report.md, trials.csv and the Pareto front as SVG and PNG."""

import csv
import json
import re
from dataclasses import asdict, fields
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import answer, maps, numbers, plots, static
from .front import highlights, pareto_front, roles
from .record import Study, Trial, load, read_json

TEMPLATES = Path(__file__).parent / "templates"


def render(folder: Path) -> list[Path]:
    """Writes the reports of folder/study.json (and tuned.json, if there) beside it.

    Returns the paths written. Raises RecordError, with nothing written, when a record is missing or wrong.
    """
    folder = Path(folder)
    study = load(folder)
    tuned = read_json(folder / "tuned.json") if (folder / "tuned.json").exists() else None
    pages = {folder / "report.html": html(study, tuned), folder / "report.md": markdown(study)}
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return [*pages, write_csv(study, folder / "trials.csv"), *static.write_pareto(study, folder)]


def html(study: Study, tuned: dict | None = None) -> str:
    """One self-contained page; all text from the record is escaped."""
    from plotly.offline import get_plotlyjs

    figures = {"pareto": plots.pareto(study), "steps": plots.step_times(study)}
    figures |= {f"map-{i}": figure for i, figure in enumerate(maps.k_l_maps(study))}
    environment = _environment(autoescape=True)
    return environment.get_template("report.html").render(
        **_common(study),
        figures={name: figure for name, figure in figures.items() if figure},
        tuned=None if tuned is None else json.dumps(tuned, indent=2, ensure_ascii=False),
        plotly=Markup(get_plotlyjs()),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
    )


def markdown(study: Study) -> str:
    """A short page for a pull request; text from the record cannot become Markdown or markup."""
    environment = _environment(autoescape=False, finalize=escape_markdown)
    return environment.get_template("report.md").render(**_common(study), fenced=fenced)


def write_csv(study: Study, path: Path) -> Path:
    """Every trial, every field, as recorded; missing values are empty."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Trial)])
        writer.writeheader()
        writer.writerows(asdict(trial) for trial in study.trials)
    return path


def _environment(**options) -> Environment:
    layout = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, **layout, **options)


def _common(study: Study) -> dict:
    return {
        "study": study,
        "answer": answer,
        "n": numbers,
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
