"""
What users of a service see in the long run: times to the first and for each further token, and sequences at once.

By Little's law the sequences at once are what arrives in the time that an answer takes, which is a number of steps; a
step gets longer with the sequences in it and with the prompts read beside them, so both are solved for together. A
prompt waits for the step under way and for those before it (`queueing`), then takes as many steps as it has chunks;
server and tokeniser take their time besides.
Where ranks that are data parallel share experts, all of them wait for one that reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from memplan.deployment.queueing import Queue
from memplan.deployment.service_goal import Workload
from memplan.deployment.step_curve import StepCurve

_ROUNDS = 40
_NO_READING = "reading prompts takes all of the time"
_TOO_SLOW = "steps can't keep up with the requests"


@dataclass(frozen=True, slots=True)
class Service:
    """
    What a service does in the long run; times in nanoseconds, infinite where it does not keep up.

    `sequences` are at once on a rank at most, for the part of the time that was asked about; `busy` is the part of its
    time that a rank could not read a further prompt. `why` says what does not keep up.
    """

    ttft_ns: float
    tpot_ns: float
    sequences: float
    busy: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class PromptReading:
    """
    How the prompts of a workload are read in chunks of `chunk` tokens: means over requests.

    Of the tokens to compute, their square, the nanoseconds they add to steps that run anyway (`work`), the square of
    that and the product of both; the chunks of a prompt. The longest of the part asked about has `most_chunks` and adds
    `most_ns`; alone, with the host's work, reading it takes `alone_ns`. `mean_alone` and `square_alone` are moments of
    reading alone. A step that reads takes no less than `launched_ns`, in which the host launches its kernels.
    """

    chunk: int
    tokens: float
    square: float
    work: float
    work_square: float
    product: float
    chunks: float
    most_chunks: int
    most_ns: float
    alone_ns: float
    mean_alone: float
    square_alone: float
    launched_ns: float = 0.0

    def chunk_ns(self, step: float, slower: float = 1.0) -> float:
        """What a step of `step` that makes tokens takes more where it reads the chunk of a prompt too."""
        return max(self.work * slower / self.chunks, self.launched_ns * slower - step)


def prompt_reading(curve: StepCurve, load: Workload, chunk: int, part: float) -> PromptReading:
    """How `load` is read where steps take as long as `curve` says, for `part` of its requests."""

    def added(tokens: float) -> float:
        point = curve.reading(tokens)
        return max(0.0, point.pace_ns - point.overhead_ns)

    most = load.computed_at(part)
    own = curve.reading(most)
    return PromptReading(
        chunk=chunk,
        tokens=load.mean(float),
        square=load.mean(lambda tokens: tokens**2),
        work=load.mean(added),
        work_square=load.mean(lambda tokens: added(tokens) ** 2),
        product=load.mean(lambda tokens: tokens * added(tokens)),
        chunks=load.mean(lambda tokens: max(1.0, tokens / chunk)),
        most_chunks=math.ceil(most / chunk),
        most_ns=max(0.0, own.duration_ns - own.overhead_ns),
        alone_ns=own.duration_ns,
        mean_alone=load.mean(lambda tokens: curve.reading(tokens).pace_ns),
        square_alone=load.mean(lambda tokens: curve.reading(tokens).pace_ns ** 2),
        launched_ns=own.launched_ns,
    )


@dataclass(frozen=True, slots=True)
class _Pace:
    """
    Steps of a rank, in nanoseconds: the `step` that reads nothing, what one takes more that reads, the part of them
    that does, and the variance of the sum of many of them, divided by how many they are.
    """

    step: float
    more: float
    reading: float
    variance: float

    @property
    def gap(self) -> float:
        """The mean time of a step."""
        return self.step + self.reading * self.more

    def rest(self, part: float) -> float:
        """How long the step that a request comes upon goes on at most for `part` of the requests."""
        left = (1 - part) * self.gap
        long = self.step + self.more - left / self.reading if self.reading else 0.0
        return long if long >= self.step else self.step + self.reading * self.more - left


def _pace(curve: StepCurve, rate: float, sequences: float, read: PromptReading | None, slower: float) -> _Pace | None:
    """
    The pace of a rank where prompts arrive at `rate` a second, `None` where reading them takes all time.

    Alone, a rank spends part of its time on prompts, a Poisson number of them in any time. Ranks that wait for each
    other have short steps and long ones, long where a prompt arrived anywhere in the step before: a chain of two
    states.
    """
    step = curve.decoding(sequences).duration_ns * slower
    if read is None:
        return _Pace(step, 0.0, 0.0, 0.0)
    work, arriving = read.work * slower, rate / 1e9
    if not (curve.layout.expert > 1 and curve.layout.data > 1):
        share = arriving * work
        if share >= 1:
            return None
        gap, reading = _alone(step, share, arriving * read.chunks, read.launched_ns * slower)
        variance = arriving * gap * read.work_square * slower**2 / (1 - share) ** 2
        return _Pace(step, (gap - step) / reading if reading else 0.0, reading, variance)
    one, arrives = read.chunk_ns(step, slower), arriving * curve.layout.data * read.chunks
    after_short, after_long = -math.expm1(-arrives * step), -math.expm1(-arrives * (step + one))
    long = after_short / (1 - after_long + after_short)
    if arriving * read.chunks * (step + long * one) >= 1:
        return None
    alike = after_long - after_short
    return _Pace(step, one, long, one**2 * long * (1 - long) * (1 + alike) / (1 - alike))


def _alone(step: float, share: float, chunks: float, launched: float) -> tuple[float, float]:
    """
    The mean time of steps of a rank alone, and the part of them that reads, where `chunks` arrive in a nanosecond.

    Steps of `step` are lengthened by the kernels of the prompts, which take `share` of the time, or where they read to
    what launching them takes. Chunks that come in the same step share the next.
    """
    gap = kernels = step / (1 - share)
    if launched > step:
        for _ in range(_ROUNDS):
            gap = max(kernels, step - (launched - step) * math.expm1(-chunks * gap))
    return gap, min(1.0, chunks * gap)


def _steady(
    curve: StepCurve, load: Workload, rate: float, read: PromptReading | None, most: float, slower: float
) -> tuple[float, _Pace] | None:
    """Sequences at once on a rank and its pace, by bisection; `None` where even `most` sequences are not enough."""

    def enough(sequences: float) -> _Pace | None:
        found = _pace(curve, rate, sequences, read, slower)
        if found is None:
            return None
        needed = rate * load.answer / curve.decoding(sequences).yielded * found.gap / 1e9
        return found if needed <= sequences else None

    pace = enough(most)
    low, high = 0.0, most
    for _ in range(_ROUNDS if pace is not None else 0):
        middle = (low + high) / 2
        found = enough(middle)
        if found is not None:
            high, pace = middle, found
        else:
            low = middle
        if high - low < 1e-3 * high:
            break
    return None if pace is None else (high, pace)


def _at_once(mean: float, part: float) -> float:
    """How many are at once at most for `part` of the time, of Poisson's law around `mean`; never less than the mean."""
    return mean + max(0.0, NormalDist().inv_cdf(part)) * math.sqrt(mean)


def mixed_service(
    curve: StepCurve,
    load: Workload,
    instances: int,
    read: PromptReading,
    *,
    room: float,
    part: float,
    slower: float = 1.0,
) -> Service:
    """
    `instances` that read prompts in chunks beside the sequences they decode.

    `room` is how many sequences a rank holds, `part` the part of the requests whose times are told, `slower` a factor
    on all times of steps.
    """
    ranks = instances * curve.layout.data
    rate = load.rate / ranks
    found = _steady(curve, load, rate, read, 2 * room + 1, slower)
    if found is None:
        return _behind(_TOO_SLOW)
    mean, usual = found
    high = _at_once(mean, part)
    pace = _pace(curve, rate, high, read, slower)
    # A step of prompts that fill it is launched as the others are.
    full = max(usual.step, read.launched_ns * slower - read.work * slower / read.tokens * read.chunk)
    step, work = full / read.chunk, slower
    service = step * read.tokens + work * read.work
    moment = step**2 * read.square + 2 * step * work * read.product + work**2 * read.work_square
    queue = Queue(ranks, load.rate, service / 1e9, max(0.0, moment / service**2 - 1))
    if pace is None or queue.busy >= 1:
        return _behind(_NO_READING)
    first = max(read.most_chunks * pace.step + read.most_ns * slower, read.most_chunks * read.launched_ns * slower)
    yielded = curve.decoding(mean).yielded
    uneven = max(0.0, NormalDist().inv_cdf(part)) * math.sqrt(usual.variance / max(1.0, load.answer / yielded))
    ttft = queue.wait(part) * 1e9 + usual.rest(part) + first + curve.request_ns
    return Service(ttft, (pace.gap + uneven) / yielded, high, queue.busy)


def reading_service(
    curve: StepCurve,
    load: Workload,
    instances: int,
    read: PromptReading,
    *,
    part: float,
    sent_ns: float,
    slower: float = 1.0,
) -> Service:
    """`instances` that only read prompts, one at a time on a rank, and send each cache in `sent_ns`."""
    ranks = instances * curve.layout.data
    spread = read.square_alone / read.mean_alone**2 - 1
    queue = Queue(ranks, load.rate, read.mean_alone * slower / 1e9, max(0.0, spread))
    if queue.busy >= 1:
        return _behind(_NO_READING)
    ttft = queue.wait(part) * 1e9 + read.alone_ns * slower + sent_ns + curve.request_ns
    return Service(ttft, 0.0, 1.0, queue.busy)


def decoding_service(
    curve: StepCurve, load: Workload, instances: int, *, room: float, part: float, slower: float = 1.0
) -> Service:
    """`instances` that only decode sequences whose caches were sent to them."""
    rate = load.rate / instances / curve.layout.data
    found = _steady(curve, load, rate, None, 2 * room + 1, slower)
    if found is None:
        return _behind(_TOO_SLOW)
    mean, _ = found
    high = _at_once(mean, part)
    point = curve.decoding(high)
    return Service(0.0, point.duration_ns * slower / point.yielded, high, mean / max(room, 1e-9))


def most_rate(curve: StepCurve, load: Workload, sequences: float, read: PromptReading | None) -> tuple[float, float]:
    """
    Requests a second of one instance that keep `sequences` on each rank, and its nanoseconds a token then.

    Without `read` prompts are read elsewhere.
    """
    decode = curve.decoding(sequences)
    low, high = 0.0, sequences * decode.yielded / load.answer / decode.duration_ns * 1e9
    gap = decode.duration_ns
    if read is None:
        return high * curve.layout.data, gap / decode.yielded
    for _ in range(_ROUNDS):
        rate = (low + high) / 2
        pace = _pace(curve, rate, sequences, read, 1.0)
        if pace is not None and rate * load.answer / decode.yielded * pace.gap / 1e9 <= sequences:
            low, gap = rate, pace.gap
        else:
            high = rate
        if high - low < 1e-4 * high:
            break
    return low * curve.layout.data, gap / decode.yielded


def _behind(why: str) -> Service:
    return Service(math.inf, math.inf, math.inf, 1.0, why)
