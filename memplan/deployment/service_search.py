"""The fewest NPUs that serve a rate of requests within times that users accept, and why not other set-ups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration
from memplan.deployment.service_goal import ServiceGoal
from memplan.deployment.service_model import (
    PromptReading,
    Service,
    decoding_service,
    mixed_service,
    most_rate,
    prompt_reading,
    reading_service,
)
from memplan.deployment.service_options import (
    APART,
    MIXED,
    ParetoPoint,
    ServiceAsk,
    ServiceOption,
    ServicePool,
    ServiceRejection,
    ServiceSearch,
)
from memplan.deployment.service_settings import (
    InstanceRoom,
    ServiceSetting,
    best_block,
    cache_choices,
    instance_layouts,
    instance_room,
)
from memplan.deployment.step_curve import StepCurve
from memplan.hardware import Link, links
from memplan.kv.served_weights import served_weights
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.constants import step_interval

_SENT_OVER = ("roce", "hccs", "ub")
"""Links that caches are sent over from instances that read to those that decode, the first that a chip has."""


@dataclass(frozen=True, slots=True)
class _Pool:
    pool: ServicePool
    sure: int | None
    bounds: tuple[Service, Service]


@dataclass(slots=True)
class _Search:
    """One pass over settings: steps asked at powers of `base`, and what was found and rejected."""

    ask: ServiceAsk
    over: Link | None
    bounds: tuple[float, float]
    base: int
    curves: dict[tuple[object, ...], StepCurve] = field(default_factory=dict)
    reads: dict[tuple[object, ...], PromptReading] = field(default_factory=dict)
    rejected: list[ServiceRejection] = field(default_factory=list)
    mixed: list[ServiceOption] = field(default_factory=list)
    readers: list[_Pool] = field(default_factory=list)
    decoders: list[_Pool] = field(default_factory=list)
    held: list[tuple[ServiceSetting, InstanceRoom]] = field(default_factory=list)

    def curve(self, setting: ServiceSetting) -> StepCurve:
        """Steps of the setting; what reading takes is asked once for all drafts."""
        key = (setting.layout, setting.drafts, setting.step_kv)
        if key not in self.curves:
            ask = self.ask
            load = ask.load
            step = ServedStep(
                Phase.DECODE,
                batch=setting.layout.data,
                context=max(1, round(load.prompt + load.answer / 2)),
                speculative=setting.drafts,
                precision=served_weights(ask.case.model, ask.case.chip, ask.case.memory.precision).precision,
                kv=setting.step_kv,
                even_routing=ask.even_routing,
            )
            same = next((c for k, c in self.curves.items() if (k[0], k[2]) == (key[0], key[2])), None)
            self.curves[key] = StepCurve(
                ask.case.model, setting.layout, ask.case.chip, ask.host, step,
                ask.acceptance if setting.drafts else None, load.cached, self.base,
                frozenset(load.computed) if len(load.computed) == 1 else frozenset(),
                ask.host_factor, prefill={} if same is None else same.prefill,
            )  # fmt: skip
        return self.curves[key]

    def reading(self, setting: ServiceSetting) -> PromptReading:
        """How prompts are read with the setting."""
        key = (setting.layout, setting.step_kv, setting.batched_tokens)
        if key not in self.reads:
            found = prompt_reading(self.curve(setting), self.ask.load, setting.batched_tokens, self.ask.goal.part)
            self.reads[key] = found
        return self.reads[key]

    def reject(self, mode: str, setting: ServiceSetting, why: Text, *, room: bool = False) -> None:
        """Note why the setting is out."""
        self.rejected.append(ServiceRejection(mode, setting, why, room))

    def sent_ns(self, room: InstanceRoom) -> float:
        """How long a prompt's cache takes from one pool to the other."""
        if self.over is None or not self.over.bytes_per_second:
            return 0.0
        return room.prompt_bytes / self.over.bytes_per_second * 1e9 + (self.over.latency_ns or 0)

    def fewest(self) -> float:
        """The fewest dies found so far."""
        found = min((item.dies for item in self.mixed), default=math.inf)
        apart = (min((item.pool.dies for item in pools), default=math.inf) for pools in (self.readers, self.decoders))
        return min(found, sum(apart))


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
    coarse = _Search(ask, over, step_interval(ask.host), base=4)
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
                _look_at(coarse, setting)
    fine = _Search(ask, over, coarse.bounds, base=2)
    for setting in _shortlist(coarse, progress):
        _look_at(fine, setting)
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


_TOO_MANY = 2
_KEPT, _LISTED = 3, 4


def _shortlist(coarse: _Search, progress: Progress) -> list[ServiceSetting]:
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


def _look_at(search: _Search, setting: ServiceSetting) -> None:
    """What the setting is good for: mixed, reading, decoding."""
    ask = search.ask
    room = instance_room(ask.case, setting, ask.load)
    if room.refused:
        search.reject("", setting, room.refused)
        return
    try:
        search.curve(setting).decoding(1)
    except InputError as error:
        search.reject("", setting, str(error))
        return
    search.held.append((setting, room))
    found = _mixed(search, setting, room)
    search.mixed += [] if found is None else [found]
    if search.over is None:
        return
    if setting.batched_tokens == min(ask.chunks):
        decoder = _decoder(search, setting, room)
        search.decoders += [] if decoder is None else [decoder]
    if not setting.drafts:
        reader = _reader(search, setting, room)
        search.readers += [] if reader is None else [reader]


def _ranked(search: _Search) -> list[ServiceOption]:
    options = (*_distinct(search.mixed), *_distinct(list(_apart(search))))
    return sorted(options, key=lambda item: (item.dies, item.sure or math.inf, item.tpot_ns))


def _fewest(met: Callable[[int], bool], most: int) -> int | None:
    """The smallest number up to `most` that is `met`, given that larger ones are as well."""
    high = 1
    while high < most and not met(high):
        high *= 2
    high = min(high, most)
    if high < 1 or not met(high):
        return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if met(middle) else (middle, high)
    return high


def _meets(goal: ServiceGoal, found: Service, room: float) -> bool:
    late = goal.ttft_ns is not None and found.ttft_ns > goal.ttft_ns
    slow = goal.tpot_ns is not None and found.tpot_ns > goal.tpot_ns
    return not found.why and not late and not slow and found.sequences <= room


def _holds(search: _Search, room: InstanceRoom) -> float:
    """Sequences that run at once on a rank: those that fit, and no more than the engine schedules."""
    return min(
        room.sequences, float(search.ask.case.options.requests or search.ask.case.started().memory.step_sequences)
    )


def _mixed(search: _Search, setting: ServiceSetting, room: InstanceRoom) -> ServiceOption | None:
    ask = search.ask
    curve, most = search.curve(setting), ask.most // setting.layout.ranks
    holds = _holds(search, room)
    if _alone_is_late(search, MIXED, setting):
        return None
    read = search.reading(setting)

    def served(instances: int, slower: float) -> Service:
        return mixed_service(curve, ask.load, instances, read, room=holds, part=ask.goal.part, slower=slower)

    count = _fewest(lambda n: _meets(ask.goal, served(n, 1.0), holds), most)
    if count is None:
        lacking = served(most, 1.0).sequences > holds
        search.reject(MIXED, setting, _why(search, room, holds, most, served), room=lacking)
        return None
    found = served(count, 1.0)
    low, high = (served(count, slower) for slower in search.bounds)
    sure = _fewest(lambda n: _meets(ask.goal, served(n, search.bounds[1]), holds), most)
    dies = count * setting.layout.ranks
    return ServiceOption(
        MIXED,
        (ServicePool(setting, count, found, room),),
        dies,
        None if sure is None else sure * setting.layout.ranks,
        found.ttft_ns,
        found.tpot_ns,
        (low.ttft_ns, high.ttft_ns),
        (low.tpot_ns, high.tpot_ns),
        ask.load.rate * ask.load.answer / dies,
    )


def _alone_is_late(search: _Search, mode: str, setting: ServiceSetting) -> bool:
    """Reject what a single request finds too slow already, so that no number of instances helps."""
    goal = search.ask.goal
    point = search.curve(setting).decoding(1)
    token = point.duration_ns / point.yielded
    if goal.tpot_ns is not None and token > goal.tpot_ns:
        words = "misses: {} a token even with one sequence on a rank{}"
        search.reject(mode, setting, Sentence(words, (format_duration(token), _perhaps(search, token, goal.tpot_ns))))
        return True
    return mode == MIXED and _reads_late(search, mode, setting)


def _reads_late(search: _Search, mode: str, setting: ServiceSetting) -> bool:
    goal = search.ask.goal
    alone = search.reading(setting).alone_ns
    if goal.ttft_ns is not None and alone > goal.ttft_ns:
        words = "misses: reading a prompt alone takes {}{}"
        search.reject(mode, setting, Sentence(words, (format_duration(alone), _perhaps(search, alone, goal.ttft_ns))))
        return True
    return False


def _perhaps(search: _Search, time_ns: float, most_ns: int) -> str:
    """What to add where steps as quick as the quickest public ones would keep the goal."""
    return " (not if steps are as quick as the interval allows)" if time_ns * search.bounds[0] <= most_ns else ""


def _why(search: _Search, room: InstanceRoom, holds: float, most: int, served: Callable[[int, float], Service]) -> Text:
    """What is missed with as many instances as there may be."""
    goal, found = search.ask.goal, served(most, 1.0)
    if found.why:
        return Sentence("misses: {} on {} NPUs", (found.why, f"{search.ask.most:,}"))
    if found.sequences > holds and math.isfinite(found.sequences):
        lacking = round((found.sequences - room.sequences) * room.sequence_bytes)
        if lacking <= 0:
            words = "misses: {} sequences at once on a rank, of which the engine runs {}"
            return Sentence(words, (f"{found.sequences:,.1f}", f"{holds:,.0f}"))
        words = "misses: {} sequences at once on a rank, {} missing for their cache"
        return Sentence(words, (f"{found.sequences:,.1f}", format_bytes(lacking)))
    missed = []
    if goal.ttft_ns is not None and found.ttft_ns > goal.ttft_ns:
        missed.append(f"{format_duration(found.ttft_ns)} to the first token")
    if goal.tpot_ns is not None and found.tpot_ns > goal.tpot_ns:
        missed.append(f"{format_duration(found.tpot_ns)} a token")
    return Sentence("misses: {} on {} NPUs", (" and ".join(missed), f"{search.ask.most:,}"))


def _apart(search: _Search) -> Iterator[ServiceOption]:
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


def _reader(search: _Search, setting: ServiceSetting, room: InstanceRoom) -> _Pool | None:
    if _reads_late(search, APART, setting):
        return None
    read, sent = search.reading(setting), search.sent_ns(room)

    def served(instances: int, slower: float) -> Service:
        ask = search.ask
        return reading_service(
            search.curve(setting), ask.load, instances, read, part=ask.goal.part, sent_ns=sent, slower=slower
        )

    return _pool(search, setting, room, served, 1.0)


def _decoder(search: _Search, setting: ServiceSetting, room: InstanceRoom) -> _Pool | None:
    if _alone_is_late(search, APART, setting):
        return None
    holds = _holds(search, room)

    def served(instances: int, slower: float) -> Service:
        ask = search.ask
        return decoding_service(
            search.curve(setting), ask.load, instances, room=holds, part=ask.goal.part, slower=slower
        )

    return _pool(search, setting, room, served, holds)


def _pool(
    search: _Search,
    setting: ServiceSetting,
    room: InstanceRoom,
    served: Callable[[int, float], Service],
    holds: float,
) -> _Pool | None:
    goal, most = search.ask.goal, search.ask.most // setting.layout.ranks
    count = _fewest(lambda n: _meets(goal, served(n, 1.0), holds), most)
    if count is None:
        search.reject(APART, setting, _why(search, room, holds, most, served))
        return None
    sure = _fewest(lambda n: _meets(goal, served(n, search.bounds[1]), holds), most)
    low, high = (served(count, slower) for slower in search.bounds)
    pool = ServicePool(setting, count, served(count, 1.0), room)
    return _Pool(pool, None if sure is None else sure * setting.layout.ranks, (low, high))


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


def _with_blocks(search: _Search, option: ServiceOption) -> ServiceOption:
    pools = []
    for pool in option.pools:
        found = best_block(search.ask.case, pool.setting, search.ask.load)
        pools.append(pool if found is None else replace(pool, block=found[0]))
    return replace(option, pools=tuple(pools))


def _front(search: _Search) -> tuple[ParetoPoint, ...]:
    """No other set-up makes more tokens a die in less time a token: instances that read too, and those that don't."""
    ask = search.ask
    points = []
    for setting, room in search.held:
        holds, count = _holds(search, room), 1
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
