"""
KV caches outside the dies: what a tier holds, how long a prefix takes back and from where on that is worth it.

Bringing a prefix back is compared with computing it, for prefixes of every length; in which tiers prompts of some
traffic are found is `memplan.traffic`. Kinds of tiers, their links and what to set are in `cache_tiers.json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, parse_rate, parse_size, round_up
from memplan.deployment.cases import Case
from memplan.deployment.step_curve import StepCurve
from memplan.hardware import Link, links
from memplan.hardware.host import dies_of_server, host_link, pooled_tier, registered_limit
from memplan.kv.budget_parts import KvBudget
from memplan.kv.kept_entries import cache_parts
from memplan.models.steps import Phase, ServedStep
from memplan.models.steps.options import KV_DTYPES
from memplan.serving.constants import step_interval

_POOL_LINK = "ub_host"
"""The link that memory of other hosts is reached over, slower and later than that of the own one."""
_SHORTEST, _BEHIND = 256, 128
"""The shortest prefix that is shown, and the tokens of a prompt behind its prefix, which are computed anyway."""


def _document() -> Mapping[str, Any]:
    return table("memplan.deployment", "cache_tiers.json")


@dataclass(frozen=True, slots=True)
class AskedTier:
    """A tier as asked for: its name, kind, bytes over all dies of the layout, and a rate a die where it is given."""

    name: str
    kind: str
    nbytes: int
    rate: float | None


def asked_tier(text: str) -> AskedTier:
    """A tier of a text such as `dram=512GiB` or `ucm=4TiB@20GB/s`; raises `InputError` for anything else."""
    name, equals, rest = text.partition("=")
    known = _document()
    name = name.strip().lower()
    kind = known["other_names"].get(name, name)
    if not equals or kind not in known["kinds"]:
        raise InputError(
            f"--tier {text!r:.60} is no tier",
            remedy=f"write it as dram=512GiB or pool=4TiB@20GB/s; kinds: {', '.join(known['kinds'])}",
        )
    size, at, rate = rest.partition("@")
    nbytes = parse_size(size)
    if nbytes < 1:
        raise InputError(f"--tier {text!r:.60} holds nothing", remedy="give it a size such as 512GiB")
    return AskedTier(name, kind, nbytes, parse_rate(rate) if at else None)


@dataclass(frozen=True, slots=True)
class TierSetting:
    """What to set for a tier: the option's name, its value, where it stands, and the source that says so."""

    name: str
    value: str
    where: str
    source: str


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """
    A prefix of `tokens`: nanoseconds to bring it back (`None` where the rate is not known) and to compute it in the
    step that reads what comes behind it anyway.
    """

    tokens: int
    restore_ns: int | None
    compute_ns: int


@dataclass(frozen=True, slots=True)
class CacheTierPlan:
    """
    A tier: `tokens` it holds in sequences of the context, `copies` of each byte of a replica's cache, and bytes a die
    reads back for a token and for every sequence.

    From `crossing` tokens on, a multiple of what the engine finds prefixes by, a prefix is back sooner than it is
    computed; between the `crossings` if steps are as slow or as quick as public ones were against their prediction.
    `None` is never within the context, or not known.
    """

    asked: AskedTier
    what: str
    tokens: int
    copies: float
    link: Link | None
    rate: float | None
    rests_on: str
    points: tuple[RestorePoint, ...]
    crossing: int | None
    crossings: tuple[int | None, int | None]
    settings: tuple[TierSetting, ...]
    notes: tuple[Text, ...]


def tier_plans(case: Case, budget: KvBudget, asked: Sequence[AskedTier]) -> tuple[CacheTierPlan, ...]:
    """The tiers of a case with `budget`."""
    curve = prefill_curve(case, budget.context)
    return tuple(_tier_plan(case, budget, item, curve) for item in asked)


def prefill_curve(case: Case, context: int) -> StepCurve:
    """Steps of the case that read prompts of up to `context` tokens."""
    kv = case.options.caches.kv or "bf16"
    step = ServedStep(
        Phase.PREFILL,
        case.layout.data,
        context,
        precision=case.served_precision,
        kv=kv if kv in KV_DTYPES else "bf16",
        even_routing=case.even_routing,
    )
    return StepCurve(case.model, case.layout, case.chip, case.host, step, None)


def _tier_plan(case: Case, budget: KvBudget, asked: AskedTier, curve: StepCurve) -> CacheTierPlan:
    kind = _document()["kinds"][asked.kind]
    layout, context = case.layout, budget.context
    ranks = case.engine.dies(layout) // layout.data
    # Bytes of a replica's cache on all of its ranks, over those that differ.
    copies = ranks / _distinct(case) if kind["copies"] == "rank" else 1.0
    sequence = budget.fixed_bytes_per_request + budget.bytes_per_token * context
    stored = sequence * _distinct(case) * copies
    tokens = int(asked.nbytes / stored * context) if stored else 0
    found, rate, rests_on = _rate(case, asked, kind, ranks)

    def restore(length: float) -> float | None:
        if rate is None:
            return None
        moved = budget.fixed_bytes_per_request + budget.bytes_per_token * length
        return moved / rate * 1e9 + ((0 if found is None else found.latency_ns) or 0)

    lengths = []
    length = _SHORTEST
    while length < context:
        lengths.append(length)
        length *= 2
    lengths.append(context)
    points = tuple(
        RestorePoint(item, None if (back := restore(item)) is None else round(back), round(_computed(curve, item)))
        for item in lengths
    )
    low, high = step_interval(curve.engine)

    def crossing(factor: float) -> int | None:
        if rate is None:
            return None
        found = _crossing(lambda item: restore(item) or math.inf, curve, context, factor)
        return None if found is None else round_up(found, max(1, budget.prefix_granularity))

    return CacheTierPlan(
        asked=asked,
        what=kind["what"],
        tokens=tokens,
        copies=copies,
        link=found,
        rate=rate,
        rests_on=rests_on,
        points=points,
        crossing=crossing(1.0),
        crossings=(crossing(high), crossing(low)),
        settings=_settings(case, budget, asked, kind),
        notes=tuple(_notes(case, asked, kind, rate)),
    )


def _distinct(case: Case) -> int:
    """Ranks of a replica whose caches differ: heads are divided as far as they go, latents are on every rank."""
    parts = cache_parts(case.model)
    heads = max((part.heads for part in parts), default=0)
    return max(1, min(case.layout.tensor, heads)) * case.layout.pipeline * case.layout.context


def _rate(case: Case, asked: AskedTier, kind: Mapping[str, Any], ranks: int) -> tuple[Link | None, float | None, str]:
    """The link that the tier's bytes come over, its bytes a second for one die, and the source."""
    if asked.rate is not None:
        return None, asked.rate, "given"
    known = {item.name: item for item in links(case.chip)}
    name = next((name for name in kind["links"] if name in known), None)
    if name is None:
        return None, None, ""
    found = known[name]
    if name == "h2d":
        found = host_link(case.chip, ranks)
    elif name == _POOL_LINK:
        found = replace(pooled_tier(case.chip).in_link, name=name)
    return found, found.bytes_per_second, found.source


def _computed(curve: StepCurve, tokens: int) -> float:
    """Nanoseconds that a prefix adds to the reading of what is behind it."""
    return curve.reading(tokens + _BEHIND).duration_ns - curve.reading(_BEHIND).duration_ns


def _crossing(restore: Callable[[float], float], curve: StepCurve, context: int, factor: float) -> int | None:
    """The shortest prefix from which on bringing it back is never slower than computing it; `None` for none."""

    def pays(tokens: int) -> bool:
        return restore(tokens) <= _computed(curve, tokens) * factor

    if not pays(context):
        return None
    low, high = 0, context
    step = context
    while step >= 1 and pays(step):
        high, step = step, step // 2
    low = step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high


def _settings(case: Case, budget: KvBudget, asked: AskedTier, kind: Mapping[str, Any]) -> tuple[TierSetting, ...]:
    named = [item for item in kind["settings"] if case.engine.name.startswith(item["engine"])]
    longest = max((len(item["engine"]) for item in named if "amount" in item), default=0)
    ranks = case.engine.dies(case.layout)
    found = []
    for item in named:
        if "amount" in item and len(item["engine"]) < longest:
            continue
        unit = kind.get("unit", 1)
        amounts = {
            "bytes": asked.nbytes,
            "gib": asked.nbytes // 2**30,
            "die": asked.nbytes // ranks // unit * unit,
            "blocks": asked.nbytes // ranks // max(1, budget.pool.planned_per_block),
        }
        value = item["value"] if "value" in item else str(amounts[item["amount"]])
        found.append(TierSetting(item["name"], value, item["where"], item["source"]))
    return tuple(found)


def _notes(case: Case, asked: AskedTier, kind: Mapping[str, Any], rate: float | None) -> list[Text]:
    notes: list[Text] = []
    if "note" in kind:
        notes.append(kind["note"])
    if rate is None and asked.rate is None:
        words = "{}: no rate is known for {}, so no time: give it as {}=SIZE@20GB/s"
        notes.append(Sentence(words, (asked.name, case.chip.name, asked.name)))
    own = asked.nbytes // case.engine.dies(case.layout)
    limit = registered_limit()
    if kind["registered"] and own > limit.older:
        more = "" if own <= limit.newer else ", and more than newer ones let register"
        words = "{}: {} a die is more than older drivers let a process register ({}){}: {}"
        notes.append(Sentence(words, (asked.name, format_bytes(own), format_bytes(limit.older), more, limit.source)))
    if kind.get("unit") and own < kind["unit"]:
        words = "{}: {} a die is less than the unit of {} that it is made of"
        notes.append(Sentence(words, (asked.name, format_bytes(own), format_bytes(kind["unit"]))))
    notes.append(Sentence("look-up and the connector's own time are not known and left out"))
    server = dies_of_server(case.chip)
    if kind["links"] and server is not None and rate is not None and asked.rate is None:
        words = "{}: the rate is that of the {} dies of one replica; all {} of a server at once have less each"
        if case.layout.tensor < server and kind["links"][0] == "h2d":
            notes.append(Sentence(words, (asked.name, str(case.layout.tensor), str(server))))
    return notes
