"""
What those who ask a service see of its steps where many ask at once: the first token, each further one, the rate.

`closed_loop` says how steps that read prompts and steps that make tokens follow each other; here are the times of
those steps, and what of them a request takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import floor, inf, isinf

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.engines import step_mode
from memplan.hardware import Chip
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.closed_loop import ClosedLoop
from memplan.serving.constants import EngineHost, HostWork
from memplan.serving.steptime import step_time

WAVES = 2.0
"""
How often all requests at once follow each other where nobody says how many there are: midway between once and without
end.
"""


@dataclass(frozen=True, slots=True)
class RequestLoad:
    """
    `requests` that are under way at once on all replicas, each with `prompt` tokens to read and `answer` to make.

    Whoever is answered sends the next, `waves` times as many in all as are at once. They come together, or
    `one_by_one`: at a rate, or after answers of unequal lengths. With `unequal` all are sent at once, and answers have
    lengths as conversations do, of which `answer` is the mean.
    """

    requests: int
    prompt: int
    answer: int
    waves: float = WAVES
    one_by_one: bool = False
    unequal: bool = False

    def __post_init__(self) -> None:
        if min(self.requests, self.prompt, self.answer) < 1:
            raise InputError("a load is of one request at least, of a token to read and one to make")
        if not self.waves > 0:
            raise InputError("requests can't follow each other {:g} times", self.waves)

    @property
    def context(self) -> int:
        """Tokens of a sequence on average, while its answer is made."""
        return self.prompt + self.answer // 2


@dataclass(frozen=True, slots=True)
class PromptSteps:
    """
    How an engine reads prompts: `most` tokens in a step, beside the tokens it makes (`mixes`) or before it makes any.

    Without `most` a step reads a prompt whole, and one alone. If replicas read `together`, all do or all make tokens.
    """

    most: int | None = None
    mixes: bool = False
    together: bool = False


@dataclass(frozen=True, slots=True)
class LoadedSteps:
    """
    The steps of `load` on replicas of `layout`.

    Nanoseconds of the captured step that makes tokens (`step_ns`), of that of one sequence a replica, of reading a
    prompt and those that are read together; what both have for the host, and tokens a step yields.
    """

    load: RequestLoad
    reading: PromptSteps
    layout: Layout
    step_ns: int
    single_ns: int
    prompt_ns: int
    group_ns: int
    work: HostWork
    prompt_work: HostWork
    yielded: float
    eager_drafts: bool = False

    def slower(self, times: float) -> LoadedSteps:
        """The same steps if their kernels take so many times as long."""
        step, single, prompt, group = (
            round(each * times) for each in (self.step_ns, self.single_ns, self.prompt_ns, self.group_ns)
        )
        return replace(self, step_ns=step, single_ns=single, prompt_ns=prompt, group_ns=group)

    def first_token_ms(self, host: EngineHost) -> float:
        """
        Milliseconds to the first token of one who asks beside the others, with such a host.

        Whoever comes while others are answered waits for the rest of the step under way, half of it on average.
        """
        loop = self.loop(host, group=1)
        others = self.load.requests > 1
        read = loop.mixed if self.reading.mixes and others else loop.read
        return loop.chunks * read + (loop.step / 2 if others else 0.0) + host.request_ns / 1e6

    def mean_first_token_ms(self, host: EngineHost) -> float:
        """
        Milliseconds to the first token of all requests on average, with such a host.

        Those that come together wait for the prompts of those before them: of an engine that mixes the first wave does,
        whose answers end one group after the other; of one that reads first each wave.
        """
        load, loop, asked = self.load, self.loop(host, group=self.group), host.request_ns / 1e6
        if load.one_by_one or load.requests == 1:
            return self.first_token_ms(host)
        burst = loop.burst(mixes=self.reading.mixes) + asked
        if not (self.reading.mixes or load.unequal):
            return burst
        later = self.first_token_ms(host)
        if not load.unequal:
            # Answers that begin together end together, and those who follow are read together.
            later = loop.chunks * loop.mixed + loop.step / 2 + asked
        first = min(1.0, 1 / load.waves)
        return first * burst + (1 - first) * later

    def prompt_ms(self, host: EngineHost) -> float:
        """Milliseconds for which reading a prompt keeps a replica from reading others, with such a host."""
        loop, most = self.loop(host, group=1), self.reading.most
        if not self.reading.mixes or most is None:
            return loop.chunks * loop.read
        # Steps that read have room for others' prompts, and make tokens anyway.
        return loop.chunks * (loop.mixed - loop.step) + loop.step * self.load.prompt / most

    def token_ms(self, host: EngineHost, *, mean: bool = True) -> float:
        """
        Milliseconds a token of an answer, with such a host: the `mean`, or those of steps that read nobody's prompt.

        The latter is what a median says. Where replicas share experts each waits for the prompts of all, but for those
        that all replicas read in the same steps.
        """
        if not mean:
            return self._token_loop(host).step / self.yielded
        answered = [(wave.count * wave.steps.load.requests, wave.token_ms(host)) for wave in self._waves()]
        return sum(answers * time for answers, time in answered) / sum(answers for answers, _ in answered)

    def _token_loop(self, host: EngineHost) -> ClosedLoop:
        """The steps as an answer has them among others' prompts."""
        alike = self.reading.together or self.load.waves == 1
        return self.loop(host, group=self.group, shared=not alike or self.load.one_by_one)

    def _waves(self) -> tuple[_Waves, ...]:
        """
        Waves with as many answers as run at once, and the one of those that are left.

        Answers that come one by one, or are of unequal lengths, end in no waves.
        """
        load = self.load
        full = 0 if isinf(load.waves) else floor(load.waves)
        left = round((load.waves - full) * load.requests) if full else 0
        if left in (0, load.requests) or load.one_by_one or load.unequal:
            return (_Waves(load.waves if full else 1.0, self, load.waves, load.waves),)
        # Of the last one's prompts those of the last full wave hear some, and nobody's come after it.
        heard = full / (1 - left / load.requests) ** 2
        return _Waves(full, self, heard, full), _Waves(1, self._fewer(left), 1.0, inf)

    def _fewer(self, requests: int) -> LoadedSteps:
        """The same steps with so many requests at once: times lie on a line between those of one and of all."""
        data, load = self.layout.data, replace(self.load, requests=requests)
        whole, each = -(-self.load.requests // data), -(-requests // data)
        part = (each - 1) / max(1, whole - 1)
        found = replace(
            self,
            load=load,
            step_ns=round(self.single_ns + part * (self.step_ns - self.single_ns)),
            work=replace(self.work, sequences=each, tokens=self.work.tokens // whole * each),
        )
        return replace(found, group_ns=round(self._kernels(found.group)))

    def tokens_per_second(self, host: EngineHost) -> float:
        """
        Tokens a second of all requests, with such a host.

        Prompts that are sent at once are read by all replicas in the same steps, as few as their tokens fit into. Of
        those that come one by one each replica waits for the prompts of all, where replicas share experts.
        """
        return self.load.requests * self.load.answer / self._wave(host) * 1e3

    def reading_part(self, host: EngineHost) -> float:
        """The part of the time that reading prompts adds to steps that make tokens alone."""
        return 1 - self._wave(host, reads=False) / self._wave(host)

    def _wave(self, host: EngineHost, *, reads: bool = True) -> float:
        """Milliseconds in which as many requests are answered as are at once, if prompts are read or take nothing."""
        if self.load.unequal:
            loop = self._together(host)
            single = host.step(
                self.single_ns, replace(self.work, sequences=1), reads=False, eager_drafts=self.eager_drafts
            )
            coming = replace(loop, mixed=self._mixed(host, loop.step, loop.coming()))
            return (coming if reads else coming.unread()).drained_wave(single / 1e6)
        waves = self._waves()
        answers = sum(wave.count * wave.steps.load.requests for wave in waves)
        return sum(wave.count * wave.wave_ms(host, reads=reads) for wave in waves) * self.load.requests / answers

    def _together(self, host: EngineHost) -> ClosedLoop:
        """The steps where prompts that come together are read by all replicas in the same ones."""
        return self.loop(host, group=self.group, shared=self.load.one_by_one)

    def loop(self, host: EngineHost, *, group: int, shared: bool = False) -> ClosedLoop:
        """The steps as they follow each other, `group` prompts read in one; a replica waits for all if `shared`."""
        load = self.load
        step = host.step(self.step_ns, self.work, reads=False, eager_drafts=self.eager_drafts) / 1e6
        everybody = shared and self.layout.expert > 1
        return ClosedLoop(
            prompts=load.requests if everybody else load.requests / self.layout.data,
            group=group,
            chunks=self.chunks,
            waves=load.waves,
            steps=max(0, load.answer - 1) / self.yielded,
            step=step,
            read=self._read(host, self._kernels(group), group) / 1e6,
            mixed=self._mixed(host, step, group),
            apart=self.reading.mixes or load.one_by_one,
        )

    @property
    def chunks(self) -> int:
        """Steps that a prompt is read in."""
        return -(-self.load.prompt // (self.reading.most or self.load.prompt))

    @property
    def group(self) -> int:
        """Prompts of a replica read in the same steps: as many as fit into one, of those that come together."""
        if self.load.one_by_one:
            return 1
        fitting = (self.reading.most or 0) // self.load.prompt
        return max(1, min(-(-self.load.requests // self.layout.data), fitting))

    def _kernels(self, prompts: float) -> float:
        """Nanoseconds of the captured step that reads so many prompts, or one of the steps that read a long one."""
        if prompts <= 1 or self.group == 1:
            return max(1.0, prompts) * self.prompt_ns / self.chunks
        return self.prompt_ns + (prompts - 1) / (self.group - 1) * (self.group_ns - self.prompt_ns)

    def _read(self, host: EngineHost, kernels: float, prompts: float, under_way: int = 0) -> int:
        """Nanoseconds of a step of `kernels` that reads `prompts` beside as many sequences as are `under_way`."""
        tokens = round(prompts * self.load.prompt / self.chunks) + under_way
        work = replace(self.prompt_work, sequences=round(prompts) + under_way, tokens=tokens)
        return host.step(kernels, work, reads=True)

    def _mixed(self, host: EngineHost, step: float, prompts: float) -> float:
        """Milliseconds of reading so many prompts and making a token of each sequence, which takes `step` alone."""
        kernels = self._kernels(prompts)
        if not self.reading.mixes:
            return step + self._read(host, kernels, prompts) / 1e6
        # Weights are read once for both.
        both = kernels + max(0, self.step_ns - self.single_ns)
        return max(step, self._read(host, both, prompts, self.work.sequences) / 1e6)


@dataclass(frozen=True, slots=True)
class _Waves:
    """
    `count` waves of answers with `steps`.

    Others' prompts lengthen their answers as of so many waves as were `heard`; as of so many that were `followed` their
    own are read beside answers of those before.
    """

    count: float
    steps: LoadedSteps
    heard: float
    followed: float

    def token_ms(self, host: EngineHost) -> float:
        """Milliseconds a token on average, with such a host."""
        loop = replace(self.steps._token_loop(host), waves=self.heard)
        return loop.step / self.steps.yielded + loop.among() / self.steps.load.answer

    def wave_ms(self, host: EngineHost, *, reads: bool) -> float:
        """Milliseconds of one of them, if prompts are read or take nothing."""
        loop = replace(self.steps._together(host), waves=self.followed)
        return (loop if reads else loop.unread()).wave()


def prompt_steps(engine: str, most: int | None) -> PromptSteps:
    """
    How `engine`, as `step_mode` takes its name, reads prompts where others are answered, `most` tokens in a step.

    Raises `InputError` for one that is not known.
    """
    told = table("memplan.serving", "prompt_steps.json")["engines"][step_mode(engine).family]
    return PromptSteps(most, bool(told["mixes"]), bool(told["together"]))


StepTimer = Callable[[ModelConfig, Layout, ServedStep], tuple[int, HostWork]]
"""Nanoseconds of a captured step on replicas of a layout, and what it has for its host."""


def captured_steps(chip: str | Chip, engine: str) -> StepTimer:
    """How long captured steps take on dies of `chip` by the kernels of `engine`."""

    def timed(model: ModelConfig, layout: Layout, step: ServedStep) -> tuple[int, HostWork]:
        found = step_time(model, layout, step, chip, engine=engine)
        return found.hidden_host_ns, found.work

    return timed


def loaded_steps(
    model: ModelConfig,
    layout: Layout,
    load: RequestLoad,
    reading: PromptSteps,
    step: ServedStep,
    timed: StepTimer,
    *,
    yielded: float,
    eager_drafts: bool = False,
) -> LoadedSteps:
    """
    The steps of `load` as an engine of such `reading` runs them, by what `timed` says of each.

    `step` says how many tokens are drafted and in how many bits what is; its batch and its context are the load's.
    It yields `yielded` tokens of a sequence. Raises `InputError` for what can't be timed.
    """
    # Replicas without a request of their own run along.
    batch = max(load.requests, layout.data)
    makes = replace(step, phase=Phase.DECODE, batch=batch, context=load.context, cached=0)
    reads = replace(step, phase=Phase.PREFILL, batch=layout.data, context=load.prompt, cached=0, speculative=0)
    step_ns, work = timed(model, layout, makes)
    single_ns, _ = timed(model, layout, replace(makes, batch=layout.data))
    prompt_ns, prompt_work = timed(model, layout, reads)
    found = LoadedSteps(
        load, reading, layout, step_ns, single_ns, prompt_ns, prompt_ns, work, prompt_work, yielded, eager_drafts
    )
    if found.group == 1:
        return found
    group_ns, _ = timed(model, layout, replace(reads, batch=layout.data * found.group))
    return replace(found, group_ns=group_ns)
