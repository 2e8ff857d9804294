"""The fewest NPUs that serve a rate of requests within times that users accept, and why not other set-ups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.deployment.service_model import most_rate
from memplan.deployment.service_options import (
    APART,
    MIXED,
    ParetoPoint,
    ServiceAsk,
    ServiceOption,
    ServiceRejection,
    ServiceSearch,
)
from memplan.deployment.service_pass import ServicePass, look_at
from memplan.deployment.service_settings import (
    ServiceSetting,
    best_block,
    cache_choices,
    instance_layouts,
    sequences_held,
)
from memplan.hardware import links
from memplan.models.parallel import Layout
from memplan.serving.constants import step_interval

_SENT_OVER = ("roce", "hccs", "ub")
"""Links that caches are sent over from instances that read to those that decode, the first that a chip has."""
_TOO_MANY = 2
"""Times the fewest dies found, beyond which one instance is not looked at."""
_KEPT, _LISTED = 3, 4


def search_service(ask: ServiceAsk, *, pareto: bool = False, progress: Progress = silent) -> ServiceSearch:
    """
    Ways to serve `ask`, fewest dies first, each with the fewest instances that keep the goal as predicted.

    Instances that read prompts beside decoding are told from pools for each; a pool that reads has the fewest dies
    that keep the time to the first token. All layouts are looked at with the engine's own cache type and steps asked
    at few batches; those with the fewest dies again with other types and more batches. Raises `InputError` where the
    case can't be planned at all.
    """
    known = {item.name: item for item in links(ask.case.chip)}
    over = next((known[name] for name in _SENT_OVER if name in known and known[name].bytes_per_second), None)
    coarse = ServicePass(ask, over, step_interval(ask.case.host), base=4)
    own_read, own_name = next(iter(cache_choices(ask.case).items()))
    tried = list(instance_layouts(ask.case.model, ask.most))
    for number, layout in enumerate(tried):
        progress(number, len(tried), "layouts")
        for drafts in ask.drafts:
            settings = [ServiceSetting(layout, drafts, own_name, own_read, tokens) for tokens in ask.chunks]
            if layout.ranks > _TOO_MANY * coarse.fewest():
                words = "one instance takes {} NPUs, others serve all with {}"
                told = Sentence(words, (f"{layout.ranks:,}", f"{coarse.fewest():,.0f}"))
                coarse.reject("", settings[0], told)
                break
            for setting in settings:
                look_at(coarse, setting)
    fine = ServicePass(ask, over, coarse.bounds, base=2)
    for setting in _shortlist(coarse, progress):
        look_at(fine, setting)
    options = _ranked(fine)
    served = {(item.mode, item.pools[-1].setting.layout) for item in options}
    rejected = {(item.mode, item.setting.layout): item for item in (*coarse.rejected, *fine.rejected)}
    for item in _ranked(coarse):
        setting, words = item.pools[-1].setting, "{} NPUs at a first look: others take fewer"
        rejected[item.mode, setting.layout] = ServiceRejection(item.mode, setting, Sentence(words, (f"{item.dies:,}",)))
    kept = tuple(_with_blocks(fine, item) for item in options[:_KEPT]) + tuple(options[_KEPT:])
    return ServiceSearch(
        kept,
        tuple(item for key, item in rejected.items() if key not in served),
        coarse.bounds,
        over,
        _front(coarse) if pareto else (),
    )


def _shortlist(coarse: ServicePass, progress: Progress) -> list[ServiceSetting]:
    """Settings to look at again: those of the fewest dies of either mode, with all cache types."""
    options = _ranked(coarse)
    found: dict[tuple[Layout, int], None] = {}
    for mode in (MIXED, APART):
        for item in [item for item in options if item.mode == mode][:_LISTED]:
            found.update({(pool.setting.layout, pool.setting.drafts): None for pool in item.pools})
    near = sorted(
        (item for item in coarse.rejected if item.mode == MIXED and item.room),
        key=lambda item: item.setting.layout.ranks,
    )
    found.update({(item.setting.layout, item.setting.drafts): None for item in near[:_LISTED]})
    progress(0, len(found), "settings")
    return [
        ServiceSetting(layout, drafts, name, read, tokens)
        for layout, drafts in found
        for read, name in cache_choices(coarse.ask.case).items()
        for tokens in coarse.ask.chunks
    ]


def _ranked(search: ServicePass) -> list[ServiceOption]:
    options = (*_distinct(search.mixed), *_distinct(list(_apart(search))))
    return sorted(options, key=lambda item: (item.dies, item.sure or math.inf, item.tpot_ns))


def _apart(search: ServicePass) -> Iterator[ServiceOption]:
    """Pools that read and pools that decode: the best reader with every decoder."""
    ask, readers = search.ask, search.readers
    for decoder in search.decoders:
        same = [item for item in readers if item.pool.setting.step_kv == decoder.pool.setting.step_kv]
        if not same:
            continue
        reader = min(same, key=lambda item: (item.pool.dies, item.pool.service.ttft_ns))
        dies = reader.pool.dies + decoder.pool.dies
        if dies > ask.most:
            words = "misses: {} NPUs with {} that read prompts"
            search.reject(APART, decoder.pool.setting, Sentence(words, (f"{dies:,}", f"{reader.pool.dies:,}")))
            continue
        sure = None if reader.sure is None or decoder.sure is None else reader.sure + decoder.sure
        if sure is not None and sure > ask.most:
            sure = None
        yield ServiceOption(
            APART,
            (reader.pool, decoder.pool),
            dies,
            sure,
            reader.pool.service.ttft_ns,
            decoder.pool.service.tpot_ns,
            (reader.bounds[0].ttft_ns, reader.bounds[1].ttft_ns),
            (decoder.bounds[0].tpot_ns, decoder.bounds[1].tpot_ns),
            ask.load.rate * ask.load.answer / dies,
        )


def _distinct(options: list[ServiceOption]) -> list[ServiceOption]:
    """Of every layout, drafts and cache type the set-up with the fewest dies: other steps' tokens add nothing."""
    best: dict[tuple[object, ...], ServiceOption] = {}
    for item in options:
        setting = item.pools[-1].setting
        key = (setting.layout, setting.drafts, setting.step_kv)
        held = best.get(key)
        if held is None or (item.dies, item.ttft_ns) < (held.dies, held.ttft_ns):
            best[key] = item
    return list(best.values())


def _with_blocks(search: ServicePass, option: ServiceOption) -> ServiceOption:
    pools = []
    for pool in option.pools:
        found = best_block(search.ask.case, pool.setting, search.ask.load)
        pools.append(pool if found is None else replace(pool, block=found[0]))
    return replace(option, pools=tuple(pools))


def _front(search: ServicePass) -> tuple[ParetoPoint, ...]:
    """No other set-up makes more tokens a die in less time a token: instances that read too, and those that don't."""
    ask = search.ask
    points = []
    for setting, room in search.held:
        holds, count = sequences_held(search.ask.case, room), 1
        while count <= holds:
            curve = search.curve(setting)
            for mode, read in ((MIXED, search.reading(setting)), (APART, None)):
                if mode == APART and setting.batched_tokens != min(ask.chunks):
                    continue
                rate, token = most_rate(curve, ask.load, count, read)
                per_die = rate * ask.load.answer / setting.layout.ranks
                points.append(ParetoPoint(mode, setting, count, per_die, token))
            count *= search.base
    front = []
    for mode in (MIXED, APART):
        best = 0.0
        for point in sorted(
            (p for p in points if p.mode == mode), key=lambda p: (p.tpot_ns, -p.tokens_per_second_per_die)
        ):
            if point.tokens_per_second_per_die > best * 1.001:
                best = point.tokens_per_second_per_die
                front.append(point)
    return tuple(front)
