"""Requests at once on a layout: times to the first token and a token, rates, what runs at once, where time goes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from memplan.core.sentence import Text
from memplan.core.units import format_duration
from memplan.deployment.answered_load import AnsweredLoad
from memplan.reports.report import Column, Quantity, Remark, Report, ReportTable, Severity, section
from memplan.serving.load_time import LoadFigure
from memplan.serving.loaded_steps import WAVES

_TIMES = (
    Column("time"),
    Column("predicted", Quantity.DURATION),
    Column("four of five from", Quantity.DURATION, key="low_ns"),
    Column("to", Quantity.DURATION, key="high_ns"),
    Column("of which the host's", Quantity.SHARE, key="host_share"),
)
_RATES = (
    Column("rate"),
    Column("predicted", Quantity.NUMBER, 2),
    Column("four of five from", Quantity.NUMBER, 2, key="low"),
    Column("to", Quantity.NUMBER, 2, key="high"),
)
_PARTS = (Column("part of the time"), Column("share", Quantity.SHARE))
_ROOM = (Column("what"), Column("a replica", Quantity.COUNT), Column("why"))


def load_report(found: AnsweredLoad, model: str, chip: str, notes: tuple[Text, ...] = ()) -> Report:
    """What is seen of the requests of `found`, with `notes` on the model."""
    time, layout, first = found.time, found.time.steps.layout, found.ttft
    start = "first tokens later and later" if first is None else f"{format_duration(first.value)} to the first token"
    token = _between(found, time.token)
    each = "" if token is None else f", {format_duration(token.value)} a token"
    rate = f"{time.rate.value:,.1f} tokens/s in all, {time.rate_per_die:,.1f} a die"
    refused = found.limits.refused if found.limits is not None else ""
    errors = [Remark(refused, Severity.ERROR)] if refused else []
    return Report(
        title=f"{model} on {_many(layout.ranks, 'die')} {chip}, {layout}, served by {time.engine}: {_asked(found)}",
        headline=f"{start}{each}; {rate}, {time.requests_per_second:,.3g} requests/s",
        sections=(
            section("What who asks sees", ReportTable(_TIMES, _times(found))),
            section("What all get", ReportTable(_RATES, _rates(found))),
            section(
                "Where the time goes",
                ReportTable(_PARTS, tuple(_parts(found).items())),
            ),
            section("What runs at once", ReportTable(_ROOM, _room(found))),
        ),
        notes=(*errors, *map(Remark, (*_said(found), *notes))),
        answer=found.starts and found.waiting_ns is not None,
        document=partial(_document, found, model, chip, notes),
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''}"


def _asked(found: AnsweredLoad) -> str:
    ask = found.ask
    many = [] if ask.at_once is None else [f"{_many(ask.at_once, 'request')} at once"]
    many += [] if ask.rate is None else [f"{ask.rate:g} requests/s"]
    many += [] if ask.requests is None else [f"{ask.requests:,} in all"]
    return f"{', '.join(many)}, {ask.prompt:,} tokens in, {ask.answer:,} out"


def _between(found: AnsweredLoad, figure: LoadFigure) -> LoadFigure | None:
    """A time between tokens, which answers of one token have none of."""
    return figure if found.ask.answer > 1 else None


def _times(found: AnsweredLoad) -> tuple[tuple[str | float | None, ...], ...]:
    time = found.time

    def row(name: str, figure: LoadFigure | None) -> tuple[str | float | None, ...]:
        if figure is None:
            return (name, None, None, None, None)
        return (name, round(figure.value), round(figure.low), round(figure.high), figure.host)

    return (
        row("first token, all requests on average", found.ttft),
        row("first token of one who comes while others are answered", time.first_token),
        row("a token, on average", _between(found, time.token)),
        row("a token of steps that read no prompt (a median's)", _between(found, time.quiet_token)),
    )


def _rates(found: AnsweredLoad) -> tuple[tuple[str | float, ...], ...]:
    rate, dies, answer = found.time.rate, found.time.steps.layout.ranks, found.ask.answer
    each = (("tokens/s in all", 1), ("tokens/s a die", dies), ("requests/s", answer))
    return tuple((name, rate.value / by, rate.low / by, rate.high / by) for name, by in each)


def _parts(found: AnsweredLoad) -> dict[str, float]:
    """Parts of the time of all steps: the host's and the kernels' of steps, and what reading prompts adds to them."""
    time = found.time
    host = time.quiet_token.host * (1 - time.reading)
    return {
        "reading prompts": time.reading,
        "the host, making tokens": host,
        "kernels, making tokens": 1 - time.reading - host,
    }


def _room(found: AnsweredLoad) -> tuple[tuple[str | int | None, ...], ...]:
    steps, limits = found.time.steps, found.limits
    replicas = steps.layout.data
    rows: list[tuple[str | int | None, ...]] = [
        ("sequences at once", -(-found.under_way // replicas), f"{found.under_way:,} in all"),
    ]
    if limits is not None:
        planned = f"memplan kv of {limits.engine}"
        held = None if limits.refused else int(limits.cached)
        rows.append(("sequences that its caches hold half way through answers", held, planned))
        rows.append(
            ("sequences that run at once at most", limits.sequences, f"caches and --max-num-seqs of {limits.engine}")
        )
    most = steps.reading.most
    how = "beside the tokens of others" if steps.reading.mixes else "before tokens are made"
    rows.append(("tokens of prompts in a step", most, how if most else f"{how}, a prompt whole and alone"))
    rows.append(("steps that read a prompt", steps.chunks, ""))
    rows.append(("prompts read in the same steps", steps.group, "as many as fit of those that come together"))
    return tuple(rows)


def _said(found: AnsweredLoad) -> list[Text]:
    """How it was reckoned and what is not counted."""
    ask, time, limits = found.ask, found.time, found.limits
    said: list[Text] = []
    if limits is None:
        said.append(f"no planner of {time.engine} is known: as many run at once as are asked for")
    if found.waiting_ns is None:
        said.append("more requests come than are answered: they wait longer and longer")
    elif found.waiting_ns:
        wait = format_duration(found.waiting_ns)
        said.append(
            f"the engine runs {found.under_way:,} at once; others wait {wait} on average until it takes them up"
        )
    if ask.rate is not None and ask.requests is None and time.requests_per_second < ask.rate:
        said.append(f"{ask.rate:g} requests/s are asked for and {time.requests_per_second:.3g} answered")
    if ask.rate is None and ask.requests is None:
        said.append(
            f"{WAVES:g} times as many requests in all as are at once (between once and without end); --num-prompts says"
        )
    said.append(
        "not counted: hits in a prefix cache, preemption, a client's own time, and routers that don't know how busy "
        "replicas are"
    )
    return said


def _figure(figure: LoadFigure | None) -> dict[str, float] | None:
    if figure is None:
        return None
    return {"value": figure.value, "low": figure.low, "high": figure.high, "host_share": figure.host}


def _document(found: AnsweredLoad, model: str, chip: str, notes: tuple[Text, ...]) -> dict[str, Any]:
    ask, time, limits = found.ask, found.time, found.limits
    steps = time.steps
    waves = steps.load.waves
    return {
        "model": model,
        "chip": chip,
        "layout": str(steps.layout),
        "dies": steps.layout.ranks,
        "engine": time.engine,
        "host_factor": time.host_factor,
        "asked": {
            "input_length": ask.prompt,
            "output_length": ask.answer,
            "concurrency": ask.at_once,
            "rate": ask.rate,
            "num_prompts": ask.requests,
            "unequal_lengths": ask.unequal,
            "offline": ask.offline,
        },
        "sequences_at_once": found.under_way,
        "waves": None if math.isinf(waves) else waves,
        "ttft_ns": _figure(found.ttft),
        "ttft_beside_others_ns": _figure(time.first_token),
        "queue_ns": found.queue_ns,
        "waiting_ns": found.waiting_ns,
        "tpot_ns": _figure(_between(found, time.token)),
        "tpot_without_prompts_ns": _figure(_between(found, time.quiet_token)),
        "tokens_per_second": _figure(time.rate),
        "tokens_per_second_per_die": time.rate_per_die,
        "requests_per_second": time.requests_per_second,
        "tokens_per_step": steps.yielded,
        "parts": _parts(found),
        "step_tokens": steps.reading.most,
        "steps_of_a_prompt": steps.chunks,
        "limits": None
        if limits is None
        else {
            "engine": limits.engine,
            "sequences_that_fit": limits.cached,
            "sequences_at_most": limits.sequences,
            "step_tokens": limits.step_tokens,
            "refused": str(limits.refused),
        },
        "notes": [str(note) for note in (*_said(found), *notes)],
    }
