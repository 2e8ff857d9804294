"""The fewest NPUs for a service: ways to serve, what to start them with, what was rejected and why, and a front."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

from memplan.core.sentence import Text
from memplan.core.units import format_duration, format_rate
from memplan.deployment.service_goal import ServiceGoal, Workload
from memplan.deployment.service_options import MIXED, ServiceOption, ServiceSearch
from memplan.deployment.service_settings import ServiceSetting
from memplan.reports.report import Column, Quantity, Remark, Report, ReportCell, ReportSection, ReportTable, section

_MOST_WAYS, _MOST_REJECTED = 12, 40
_REJECTED = (Column("prompts"), Column("instance"), Column("tokens a step", Quantity.COUNT), Column("why"))
_FRONT = (
    Column("prompts"),
    Column("instance"),
    Column("sequences a rank", Quantity.COUNT),
    Column("time a token", Quantity.DURATION),
    Column("tokens/s a die", Quantity.NUMBER, 0),
)
_START = (
    Column("what"),
    Column("instances", Quantity.COUNT),
    Column("--tensor-parallel-size", Quantity.COUNT, key="tensor"),
    Column("--data-parallel-size", Quantity.COUNT, key="data"),
    Column("expert parallel", Quantity.COUNT),
    Column("--pipeline-parallel-size", Quantity.COUNT, key="pipeline"),
    Column("--max-num-seqs", Quantity.COUNT, key="max_num_seqs"),
    Column("--max-num-batched-tokens", Quantity.COUNT, key="batched_tokens"),
    Column("--kv-cache-dtype", key="kv"),
    Column("drafts", Quantity.COUNT),
    Column("--block-size", key="block_size"),
)
_MODEL = (
    "in the long run, at random arrivals: sequences at once by Little's law, waiting by Erlang's C with Allen and "
    "Cunneen's correction and an exponential tail, prompts read in chunks beside the sequences decoded; a router that "
    "knows the load of every rank"
)


def service_report(
    found: ServiceSearch, goal: ServiceGoal, load: Workload, title: str, host: str, notes: tuple[Text, ...] = ()
) -> Report:
    """`found` for `goal` and `load`, with `notes` on the model; steps have the host's time of `host`."""
    low, high = found.interval
    text = f"{load.rate:,.3g} requests/s of {load.prompt:,.0f} + {load.answer:,.0f} tokens"
    sections: list[ReportSection] = []
    if found.options:
        rows = tuple(_way(item) for item in found.options)
        table = ReportTable(_ways(goal), rows, most=_MOST_WAYS)
        sections.append(section("Ways to serve, fewest dies first", table))
        sections.append(section("What to start the first with", ReportTable(_START, _start(found.options[0]))))
    if found.front:
        points = tuple(
            (item.mode, str(item.setting), item.sequences, round(item.tpot_ns), item.tokens_per_second_per_die)
            for item in found.front
        )
        sections.append(section("Tokens a die against time a token", ReportTable(_FRONT, points)))
    if found.rejected:
        out = tuple(
            (item.mode, str(item.setting), item.setting.batched_tokens, str(item.why)) for item in found.rejected
        )
        sections.append(section(f"{len(out)} set-ups rejected", ReportTable(_REJECTED, out, most=_MOST_REJECTED)))
    said = [
        Remark(_MODEL),
        Remark(
            f"four of five public steps of this kind ({host}) take {low:.2f} to {high:.2f} of the predicted time: a "
            "way meets its goal where it does at the upper end too, and meets it within uncertainty where it does as "
            "predicted"
        ),
        *(Remark(note) for note in (*_sent(found), *_types(found), *notes)),
    ]
    best = found.best
    headline = "no set-up keeps the goal with so many dies" if best is None else _headline(best, goal)
    return Report(
        title=f"{title}: {text}{_goal(goal)}",
        headline=headline,
        sections=tuple(sections),
        notes=tuple(said),
        answer=best is not None,
        document=partial(_document, found, goal, load, host, notes),
    )


def _goal(goal: ServiceGoal) -> str:
    parts = []
    if goal.ttft_ns is not None:
        parts.append(f"first token within {format_duration(goal.ttft_ns)}")
    if goal.tpot_ns is not None:
        parts.append(f"each further within {format_duration(goal.tpot_ns)}")
    return f"; {', '.join(parts)} for {goal.part:.3g} of them" if parts else ""


def _headline(best: ServiceOption, goal: ServiceGoal) -> str:
    text = f"{best.dies:,} dies, prompts {best.mode}: {_pools(best)}; {best.verdict}"
    if best.sure is None:
        return f"{text}; no number of dies in the search is sure to" if goal.ttft_ns or goal.tpot_ns else text
    return text if best.sure == best.dies else f"{text}; sure with {best.sure:,}"


def _pools(item: ServiceOption) -> str:
    return " : ".join(f"{pool.instances} x ({pool.setting})" for pool in item.pools)


def _ways(goal: ServiceGoal) -> tuple[Column, ...]:
    part = f"P{goal.part * 100:g}"
    return (
        Column("prompts"),
        Column("instances (reading : decoding)", key="instances"),
        Column("dies", Quantity.COUNT),
        Column("dies to be sure", Quantity.COUNT),
        Column(f"first token {part}", Quantity.DURATION, key="ttft_ns"),
        Column("at most", Quantity.DURATION, key="ttft_upper_ns"),
        Column(f"a token {part}", Quantity.DURATION, key="tpot_ns"),
        Column("at most", Quantity.DURATION, key="tpot_upper_ns"),
        Column("sequences a rank", Quantity.NUMBER, 0, key="sequences"),
        Column("that fit", Quantity.NUMBER, 0, key="room"),
        Column("tokens/s a die", Quantity.NUMBER, 0, key="tokens_per_second_per_die"),
        Column("goal"),
    )


def _way(item: ServiceOption) -> tuple[ReportCell, ...]:
    last = item.pools[-1]
    return (
        item.mode,
        _pools(item),
        item.dies,
        item.sure,
        _time(item.ttft_ns),
        _time(item.ttft_bounds[1]),
        _time(item.tpot_ns),
        _time(item.tpot_bounds[1]),
        last.service.sequences,
        last.room.sequences,
        item.tokens_per_second_per_die,
        item.verdict,
    )


def _time(value: float) -> ReportCell:
    return round(value) if math.isfinite(value) else None


def _start(item: ServiceOption) -> tuple[tuple[ReportCell, ...], ...]:
    names = ("all",) if item.mode == MIXED else ("reading prompts", "decoding")
    rows = []
    for name, pool in zip(names, item.pools, strict=True):
        layout = pool.setting.layout
        rows.append(
            (
                name,
                pool.instances,
                layout.tensor,
                layout.data,
                layout.expert,
                layout.pipeline,
                math.ceil(pool.service.sequences),
                pool.setting.batched_tokens,
                pool.setting.kv or "auto",
                pool.setting.drafts,
                "as the engine has it" if pool.block is None else str(pool.block),
            )
        )
    return tuple(rows)


def _sent(found: ServiceSearch) -> tuple[str, ...]:
    over = found.sent_over
    if over is None or not over.bytes_per_second:
        return ("no rate of a link between instances is known: pools apart are not looked at",)
    rate = format_rate(over.bytes_per_second)
    return (f"caches go from one pool to the other over {over.name}, {rate} a die ({over.source})",)


def _types(found: ServiceSearch) -> tuple[str, ...]:
    if any(pool.setting.kv for item in found.options for pool in item.pools):
        return ("cache types other than the engine's own cost accuracy, which is not looked at here",)
    return ()


def _document(
    found: ServiceSearch, goal: ServiceGoal, load: Workload, host: str, notes: tuple[Text, ...]
) -> dict[str, Any]:
    return {
        "goal": dataclasses.asdict(goal),
        "workload": {
            "rate": load.rate,
            "prompt_tokens": load.prompt,
            "answer_tokens": load.answer,
            "cached_tokens": load.cached,
            "longest": load.longest,
        },
        "host": host,
        "interval": list(found.interval),
        "options": [_option(item) for item in found.options],
        "rejected": [
            {"mode": item.mode or None, **_setting(item.setting), "why": str(item.why)} for item in found.rejected
        ],
        "front": [
            {
                "mode": item.mode,
                **_setting(item.setting),
                "sequences": item.sequences,
                "tpot_ns": item.tpot_ns,
                "tokens_per_second_per_die": item.tokens_per_second_per_die,
            }
            for item in found.front
        ],
        "sent_over": None if found.sent_over is None else found.sent_over.name,
        "notes": [_MODEL, *map(str, (*_sent(found), *_types(found), *notes))],
    }


def _setting(setting: ServiceSetting) -> dict[str, Any]:
    return {**dataclasses.asdict(setting), "layout": str(setting.layout)}


def _option(item: ServiceOption) -> dict[str, Any]:
    def times(values: tuple[float, float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return {
        "mode": item.mode,
        "dies": item.dies,
        "dies_to_be_sure": item.sure,
        "verdict": str(item.verdict),
        "ttft_ns": item.ttft_ns,
        "ttft_bounds_ns": times(item.ttft_bounds),
        "tpot_ns": item.tpot_ns,
        "tpot_bounds_ns": times(item.tpot_bounds),
        "tokens_per_second_per_die": item.tokens_per_second_per_die,
        "pools": [
            {
                "instances": pool.instances,
                **_setting(pool.setting),
                "sequences": pool.service.sequences,
                "sequences_that_fit": pool.room.sequences,
                "busy": pool.service.busy,
                "block_size": pool.block,
            }
            for pool in item.pools
        ],
    }
