"""The answer in words: what to set, what it gains, at what error, and how each figure came about."""

from .confidence import confidence
from .numbers import DASH, duration, figure, gibibytes, interval, percent, size, times
from .proxy import proxy
from .record import Study, Trial

EXPLAINED = {
    "estimated": "estimated by the cost model, not measured on this card",
    "measured": "measured on this machine",
    "replayed": "replayed from recorded measurements",
}


def verdict(study: Study) -> str:
    """The first line of every report."""
    chosen = study.chosen
    if not any(t.status == "complete" for t in study.trials):
        return "No answer: no trial completed"
    if chosen is None:
        return "Change nothing: keep dense attention" + (_named(study.answer.get("fastest_exact")))
    if chosen.exact:
        return "Keep dense attention" + _named(chosen.label)
    if chosen.origin == "default":
        return f"Keep the default: {chosen.name}"
    return f"Use {chosen.name}"


def _named(how) -> str:
    place = (how or "").removeprefix("dense").removeprefix(", ")
    return f" ({place})" if place else ""


def facts(study: Study) -> list[tuple[str, str, str]]:
    """What, how much, and the small print below it, for the head of a report."""
    chosen, answer, found = study.chosen, study.answer, []
    advised = _advised(study)
    if advised is not None:
        found.append(("Throughput", f"{figure(advised.tokens_per_s)} tokens/s", _throughput_note(study, advised)))
    rival = _fastest(study, exact=False)
    if rival is not None and (chosen is None or chosen.exact):
        note = ", ".join([rival.name, f"KL {figure(rival.kl)}", _throughput_note(study, rival)])
        found.append(("Best sampled", f"{figure(rival.tokens_per_s)} tokens/s", note))
    if chosen is not None and not chosen.exact:
        exact = answer.get("fastest_exact") or "the fastest exact way"
        found.append(("Against exact", times(answer.get("gain_over_dense")), f"the speed of {exact}"))
        if chosen.origin != "default":
            gain = times(answer.get("gain_over_default"))
            known = _at_95(chosen.gain_low, chosen.gain_high)
            note = ", ".join(part for part in ("the speed of the paper's own setting", known) if part)
            found.append(("Against the default", gain, note))
        found.append(("KL against dense", figure(chosen.kl), _kl_note(study, chosen)))
        found.append(("Density", percent(chosen.density), "keys attended outside sink and window"))
    word, why = confidence(study)
    return found + ([("Confidence", word, why)] if word else [])


def _advised(study: Study) -> Trial | None:
    return study.chosen or _fastest(study, exact=True)


def kind(study: Study) -> str | None:
    """How the throughput of what is advised came about, None when there is none."""
    advised = _advised(study)
    return advised.throughput_kind if advised else None


def _fastest(study: Study, exact: bool) -> Trial | None:
    fit = [t for t in study.trials if t.plotted and t.feasible and t.exact == exact]
    return max(fit, key=lambda t: t.tokens_per_s, default=None)


def _throughput_note(study: Study, trial: Trial) -> str:
    known = _at_95(trial.tokens_per_s_low, trial.tokens_per_s_high)
    return ", ".join(part for part in (study.throughput_of, trial.throughput_kind, known) if part)


def headline(study: Study) -> str:
    """The answer's own sentence, and what its tokens a second leave out; empty where it has none."""
    told = str(study.answer.get("headline") or "")
    return f"{told} Tokens/s are of {study.throughput_of}." if told and study.throughput_of else told


def _at_95(low, high) -> str:
    return f"{interval(low, high)} at 95\u00a0%" if interval(low, high) else ""


def _kl_note(study: Study, trial: Trial) -> str:
    limit = study.limit.get("max_kl")
    parts = [_at_95(trial.kl_low, trial.kl_high), "" if limit is None else f"limit {figure(limit)}"]
    parts.append(f"of {proxy(study)}" if proxy(study) else "")
    return ", ".join(part for part in parts if part)


def settings(trial: Trial | None) -> list[tuple[str, str]]:
    """The values to set, in the words of the config; those that the method does not have are left out."""
    if trial is None:
        return []
    names = ("method", "K", "L", "min_hits", "probing", "sink", "window", "dense_layers", "seed", "batch_size")
    names += ("micro_batches", "threads", "isa", "pinning", "wait_policy", "store_format", "attend_with")
    own = trial.own
    pairs = [(name, own.get(name) if getattr(trial, name) is None else getattr(trial, name)) for name in names]
    pairs += [(name, value) for name, value in own.items() if name not in names]
    return [(name.replace("_", " "), figure(value)) for name, value in pairs if value is not None]


def workload(study: Study) -> str:
    name = study.workload.get("id") or study.workload.get("model") or "unnamed workload"
    return f"{name} on {study.gpu.get('name') or 'the CPU alone'}{held(study)}"


def held(study: Study) -> str:
    """What the GPU was held to, empty where all of its memory could be used."""
    limit = study.gpu.get("vram_limit_bytes")
    return "" if limit is None else f" held to {gibibytes(limit)}"


def provenance(study: Study) -> list[tuple[str, str]]:
    """Term and sentence for each source of the figures; a missing part shows as a dash."""
    host, limit, load = study.host, study.limit, study.workload
    return [
        ("Throughput", throughput_source(study)),
        ("Accuracy", accuracy_source(study)),
        ("KL limit", f"{figure(limit.get('max_kl'))}, from {figure(limit.get('source'))}"),
        ("Workload", f"{figure(load.get('model'))}, {figure(load.get('context'))} tokens of context, "
         f"{figure(load.get('new_tokens'))} new tokens"),
        ("GPU", gpu(study)),
        ("Host", f"{figure(host.get('cpu'))}, {figure(host.get('logical_cpus'))} logical CPUs, "
         f"{size(host.get('memory_bytes'))} of memory; rates from: {figure(host.get('source'))}"),
        ("Budget", f"{figure(study.budget.get('trials'))} trials, {duration(study.budget.get('timeout_s'))}; "
         f"used {finished(study)} and {duration(study.seconds)}"),
        ("Stopped", figure(study.stop_reason) + ("; the search is not complete" if study.complete is False else "")),
        ("Created", figure(study.created)),
        ("Commit", figure(study.commit)),
    ]  # fmt: skip


def finished(study: Study) -> int:
    """Trials of the search that were measured: what the budget of trials counts, exact baselines apart."""
    return sum(t.status == "complete" and t.origin != "baseline" for t in study.trials)


def tally(study: Study) -> str:
    """How the trials of the search ended, such as "18 completed, 2 pruned"."""
    ends = [t.status for t in study.trials if t.origin != "baseline" and t.status != "complete"]
    return ", ".join([f"{finished(study)} completed", *(f"{ends.count(end)} {end}" for end in dict.fromkeys(ends))])


def throughput_source(study: Study) -> str:
    ways = "; ".join(_explained(study, k) for k in sorted(study.kinds)) or DASH
    return f"{study.throughput_of}, {ways}" if study.throughput_of else ways


def _explained(study: Study, kind: str) -> str:
    sampled = {t.throughput_kind for t in study.trials if t.plotted and not t.exact}
    if kind == "estimated" and sampled and kind not in sampled:
        return "ways of exact attention that were not run, estimated by the cost model"
    return EXPLAINED.get(kind, kind)


def accuracy_source(study: Study) -> str:
    model = study.accuracy_model
    text = f" of {model['text']}" if model.get("text") else ""
    measured = (
        f"measured on {figure(model.get('id'))} at {figure(model.get('context'))} tokens{text}, "
        f"{figure(model.get('samples'))} samples of {figure(model.get('steps'))} steps"
    )
    stand_in = f". A proxy: {proxy(study)} than the workload's, so expect other values there"
    if proxy(study) == "a synthetic layer":
        stand_in = ". A proxy: no model has made these figures, so expect other values on one"
    return measured + (stand_in if proxy(study) else "")


def gpu(study: Study) -> str:
    if not study.gpu:
        return "none: the CPU alone"
    there: dict = {True: "present", False: "not in this machine: tuned from its profile"}
    name, profile = figure(study.gpu.get("name")), figure(study.gpu.get("profile"))
    return f"{name} (profile {profile}){held(study)}, {there.get(study.gpu.get('present'), 'presence not recorded')}"
