"""One look at settings of a service: what each is good for, mixed, reading or decoding, and why it is out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration
from memplan.deployment.service_goal import ServiceGoal
from memplan.deployment.service_model import (
    PromptReading,
    Service,
    decoding_service,
    mixed_service,
    prompt_reading,
    reading_service,
)
from memplan.deployment.service_options import APART, MIXED, ServiceAsk, ServiceOption, ServicePool, ServiceRejection
from memplan.deployment.service_settings import InstanceRoom, ServiceSetting, instance_room, sequences_held
from memplan.deployment.step_curve import StepCurve
from memplan.hardware import Link
from memplan.models.steps import Phase, ServedStep


@dataclass(frozen=True, slots=True)
class _SizedPool:
    """A pool, its dies where steps are as slow as the interval allows, and what it does at both ends of that."""

    pool: ServicePool
    sure: int | None
    bounds: tuple[Service, Service]


@dataclass(slots=True)
class ServicePass:
    """One pass over settings: steps asked at powers of `base`, and what was found and rejected."""

    ask: ServiceAsk
    over: Link | None
    bounds: tuple[float, float]
    base: int
    curves: dict[tuple[object, ...], StepCurve] = field(default_factory=dict)
    reads: dict[tuple[object, ...], PromptReading] = field(default_factory=dict)
    rejected: list[ServiceRejection] = field(default_factory=list)
    mixed: list[ServiceOption] = field(default_factory=list)
    readers: list[_SizedPool] = field(default_factory=list)
    decoders: list[_SizedPool] = field(default_factory=list)
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
                precision=ask.case.served_precision,
                kv=setting.step_kv,
                even_routing=ask.case.even_routing,
            )
            same = next((c for k, c in self.curves.items() if (k[0], k[2]) == (key[0], key[2])), None)
            self.curves[key] = StepCurve(
                ask.case.model, setting.layout, ask.case.chip, ask.case.host, step,
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


def look_at(search: ServicePass, setting: ServiceSetting) -> None:
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


def _mixed(search: ServicePass, setting: ServiceSetting, room: InstanceRoom) -> ServiceOption | None:
    ask = search.ask
    curve, most = search.curve(setting), ask.most // setting.layout.ranks
    holds = sequences_held(search.ask.case, room)
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


def _alone_is_late(search: ServicePass, mode: str, setting: ServiceSetting) -> bool:
    """Reject what a single request finds too slow already, so that no number of instances helps."""
    goal = search.ask.goal
    point = search.curve(setting).decoding(1)
    token = point.duration_ns / point.yielded
    if goal.tpot_ns is not None and token > goal.tpot_ns:
        words = "misses: {} a token even with one sequence on a rank{}"
        search.reject(mode, setting, Sentence(words, (format_duration(token), _perhaps(search, token, goal.tpot_ns))))
        return True
    return mode == MIXED and _reads_late(search, mode, setting)


def _reads_late(search: ServicePass, mode: str, setting: ServiceSetting) -> bool:
    goal = search.ask.goal
    alone = search.reading(setting).alone_ns
    if goal.ttft_ns is not None and alone > goal.ttft_ns:
        words = "misses: reading a prompt alone takes {}{}"
        search.reject(mode, setting, Sentence(words, (format_duration(alone), _perhaps(search, alone, goal.ttft_ns))))
        return True
    return False


def _perhaps(search: ServicePass, time_ns: float, most_ns: int) -> str:
    """What to add where steps as quick as the quickest public ones would keep the goal."""
    return " (not if steps are as quick as the interval allows)" if time_ns * search.bounds[0] <= most_ns else ""


def _why(
    search: ServicePass, room: InstanceRoom, holds: float, most: int, served: Callable[[int, float], Service]
) -> Text:
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


def _reader(search: ServicePass, setting: ServiceSetting, room: InstanceRoom) -> _SizedPool | None:
    if _reads_late(search, APART, setting):
        return None
    read, sent = search.reading(setting), search.sent_ns(room)

    def served(instances: int, slower: float) -> Service:
        ask = search.ask
        return reading_service(
            search.curve(setting), ask.load, instances, read, part=ask.goal.part, sent_ns=sent, slower=slower
        )

    return _pool(search, setting, room, served, 1.0)


def _decoder(search: ServicePass, setting: ServiceSetting, room: InstanceRoom) -> _SizedPool | None:
    if _alone_is_late(search, APART, setting):
        return None
    holds = sequences_held(search.ask.case, room)

    def served(instances: int, slower: float) -> Service:
        ask = search.ask
        return decoding_service(
            search.curve(setting), ask.load, instances, room=holds, part=ask.goal.part, slower=slower
        )

    return _pool(search, setting, room, served, holds)


def _pool(
    search: ServicePass,
    setting: ServiceSetting,
    room: InstanceRoom,
    served: Callable[[int, float], Service],
    holds: float,
) -> _SizedPool | None:
    goal, most = search.ask.goal, search.ask.most // setting.layout.ranks
    count = _fewest(lambda n: _meets(goal, served(n, 1.0), holds), most)
    if count is None:
        search.reject(APART, setting, _why(search, room, holds, most, served))
        return None
    sure = _fewest(lambda n: _meets(goal, served(n, search.bounds[1]), holds), most)
    low, high = (served(count, slower) for slower in search.bounds)
    pool = ServicePool(setting, count, served(count, 1.0), room)
    return _SizedPool(pool, None if sure is None else sure * setting.layout.ranks, (low, high))
