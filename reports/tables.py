"""The trials that matter as a table for the terminal."""

from rich.table import Table
from rich.text import Text

from .answer import verdict
from .front import highlights, roles
from .numbers import figure, percent
from .record import Study, parse

STYLES = {"chosen": "bold", "pruned": "dim", "failed": "red"}


def trials_table(study: Study | dict) -> Table:
    """Front, default, paper points and dense, the fastest first, then what failed and why.

    `study` is a Study or the record of study.json; raises RecordError when the record is wrong.
    """
    study = study if isinstance(study, Study) else parse(study)
    table = Table(title=Text(verdict(study)), title_justify="left", box=None, pad_edge=False)
    table.add_column("trial", no_wrap=True, max_width=26)
    table.add_column("role", no_wrap=True)
    for name in ("tokens/s", "KL", "density"):
        table.add_column(name, justify="right")
    table.add_column("status", overflow="fold")
    kinds, shown = roles(study), highlights(study)
    told = {t.number for t in shown}
    for trial in shown + [t for t in study.trials if t.status == "failed" and t.number not in told]:
        role = kinds[trial.number]
        status = (trial.throughput_kind or "complete") if trial.status == "complete" else trial.status
        status += f": {trial.why_not}" if trial.why_not else ""
        style = STYLES.get(trial.status) or (STYLES["chosen"] if "chosen" in role else "")
        if trial.status == "complete" and not trial.feasible:
            style = "dim"
        cells = (trial.name, ", ".join(role), figure(trial.tokens_per_s), figure(trial.kl))
        cells += (percent(trial.density), status)
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table
