"""What a simulated job does beside its programs: its machines' noise and clocks, its links, and its memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from memplan.simulator.job_program import RankProgram


@dataclass(frozen=True, slots=True)
class JobConditions:
    """
    How far machines are from alike.

    Kernels scatter by `spread`; one in `1 / tail` takes up to twice as long. Rank r computes `speeds[r]` times as
    long, its clock is `skews_ns[r]` ahead and gains `drifts[r]` of the time that passes. Ops of one type take longer
    or shorter than planned by up to `unplanned`, all alike. Launches scatter by `launch_spread`.
    """

    spread: float = 0.03
    tail: float = 0.0
    launch_spread: float = 0.0
    unplanned: float = 0.0
    speeds: tuple[float, ...] = ()
    skews_ns: tuple[int, ...] = ()
    drifts: tuple[float, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MemoryTrouble:
    """
    What goes wrong with a job's memory, as shares of its peak.

    `leaks` are kept anew by every step, under the name of their op; on `leaking` alone if it is a rank. By `growth` the
    peak of every step exceeds that of the step before. `cached` is reserved beyond what is allocated, `cached_growth`
    more of it with every step; `outside` is held outside of the allocator, `outside_growth` more with every step.
    `busy` blocks come and go in every step.
    """

    leaks: tuple[tuple[str, float], ...] = ()
    leaking: int | None = None
    growth: float = 0.0
    cached: float = 0.0
    cached_growth: float = 0.0
    outside: float = 0.02
    outside_growth: float = 0.0
    busy: int = 1


@dataclass(frozen=True, slots=True)
class EngineTrouble:
    """
    What goes wrong with the memory of a serving engine.

    Of `preempted` sequences it computes the prompt again. `sequences` run at once, in pages of `page_tokens` where that
    is told; `layer_padding` of the cache belongs to layers that are not there. An engine that `sleeps` between steps
    keeps `kept` of the peak more with each sleep, and frees weights and cache only if it `frees`.
    """

    preempted: int = 0
    sequences: int = 48
    page_tokens: int = 0
    layer_padding: float = 0.0
    sleeps: bool = False
    kept: float = 0.0
    frees: bool = True


@dataclass(frozen=True, slots=True)
class MemoryShortage:
    """An allocation that fails at the end of the run, and what there was then, as shares of the plan's peak."""

    asked: float
    free: float
    allocated: float
    reserved: float
    device: float


@dataclass(frozen=True, slots=True)
class MemoryExhaustion:
    """
    What makes a run fail that leaves nothing but a memory snapshot, as shares of the plan's peak.

    Each step keeps `leak`; or `pieces` are free, with something alive between them; or a step asks for more than is
    left, by `missing` and more.
    """

    missing: float = 0.0
    leak: float = 0.0
    pieces: float = 0.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    """
    What a simulated job does beside its programs.

    `clock` is the share of the highest clock after a third of the run; with `ramp` it falls step by step from the
    second on; on `slow_clock` alone if it is a rank. Ops that wait for memory are as fast as ever. `slow_link` divides
    the rate of the link from rank 1 to the next, for packets of `slow_from` bytes and more. `stages` are pipeline
    stages, `tensor` ranks share each layer; `call_ns` is the host's time to launch a kernel. `gaps_ns` lie between
    steps, the last of them over and over.
    `environment` are variables as the profiler writes them down. The job may be of an `engine`, or end in a `shortage`,
    or by `exhaustion`, of which a snapshot tells.
    """

    clock: float = 1.0
    ramp: bool = False
    slow_clock: int | None = None
    slow_link: float = 1.0
    slow_from: int = 0
    stages: int = 1
    tensor: int = 1
    call_ns: int = 1000
    gaps_ns: tuple[int, ...] = (20_000,)
    engine: EngineTrouble | None = None
    shortage: MemoryShortage | None = None
    exhaustion: MemoryExhaustion | None = None
    environment: tuple[tuple[str, str], ...] = ()
    memory: MemoryTrouble = field(default_factory=MemoryTrouble)
    conditions: JobConditions = field(default_factory=JobConditions)

    def clock_at(self, rank: int, step: int, steps: int) -> float:
        """Share of the highest clock that `rank` runs at in `step`."""
        if self.clock >= 1 or self.slow_clock not in (None, rank):
            return 1.0
        if self.ramp:
            return 1 - (1 - self.clock) * min(step / max(steps - 2, 1), 1.0)
        return self.clock if step >= max(steps // 3, 1) else 1.0

    def gap_after(self, step: int) -> int:
        """Time between `step` and the next, ns."""
        return self.gaps_ns[min(step, len(self.gaps_ns) - 1)]


@dataclass(frozen=True, slots=True)
class FaultyJob:
    """The program of every rank, and the settings."""

    programs: tuple[RankProgram, ...]
    settings: JobSettings
