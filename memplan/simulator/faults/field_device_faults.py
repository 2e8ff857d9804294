"""
Defects of devices, links and layouts as they look in the field: partial, uneven, on some ranks or ops only.

Drawn from public reports and manuals of Ascend and other accelerators: slow cards that are slow at matrix work alone,
links that slow down with large messages, stages and experts that have unlike work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from memplan.simulator.faults.fault import Planting
from memplan.simulator.job_layouts import phases
from memplan.simulator.job_program import (
    LINK_BYTES_PER_NS,
    Doing,
    Item,
    RankProgram,
    collective,
    computing_ns,
    copied_beside,
    scaled_kernels,
    spread_out,
)
from memplan.simulator.job_settings import FaultyJob


def each_rank(job: FaultyJob, change: Callable[[int, RankProgram], RankProgram]) -> FaultyJob:
    """`job` with the program of every rank changed, which `change` is given with the rank."""
    return replace(job, programs=tuple(change(rank, program) for rank, program in enumerate(job.programs)))


def unlike_rank(job: FaultyJob) -> int:
    """The rank that is unlike the others: not the first, and not one that a slow link starts from."""
    return min(2, len(job.programs) - 1)


def awaited(items: Sequence[Item]) -> list[Item]:
    return [part for item in items for part in (item, Item(Doing.AWAIT, "await", "", 0))]


def share_of(program: RankProgram, chosen: Callable[[Item], bool]) -> float:
    part = sum(item.duration_ns for item in program if item.doing is Doing.KERNEL and chosen(item))
    return part / computing_ns(program)


def cube_of_one(job: FaultyJob, strength: float) -> FaultyJob:
    """Products of one rank take longer, whatever the plan thinks bounds them."""

    def multiplies(item: Item) -> bool:
        return item.core == "AI_CORE"

    def change(rank: int, program: RankProgram) -> RankProgram:
        share = share_of(program, multiplies)
        if rank != unlike_rank(job) or not share:
            return program
        return tuple(
            replace(item, duration_ns=round(item.duration_ns * (1 + strength / share))) if multiplies(item) else item
            for item in program
        )

    return each_rank(job, change)


def one_gets_warm(job: FaultyJob, strength: float) -> FaultyJob:
    settings = replace(job.settings, clock=1 / (1 + 2.5 * strength), ramp=True, slow_clock=unlike_rank(job))
    return replace(job, settings=settings)


def all_get_warm(job: FaultyJob, strength: float) -> FaultyJob:
    return replace(job, settings=replace(job.settings, clock=1 / (1 + 2.5 * strength), ramp=True))


_SIZES = (200_000_000, 600_000, 64_000_000, 8_000_000, 128_000_000)


def many_sizes(job: FaultyJob, _: float) -> FaultyJob:
    """Gradients in buckets of several sizes, the last of them exposed."""

    def change(_: int, program: RankProgram) -> RankProgram:
        bare = tuple(item for item in program if item.doing not in (Doing.COLLECTIVE, Doing.AWAIT))
        total, done, number = computing_ns(bare), 0, 0
        found: list[Item] = []
        for item in bare:
            found.append(item)
            done += item.duration_ns if item.doing is Doing.KERNEL else 0
            while number < len(_SIZES) and done >= (0.4 + 0.12 * number) * total:
                size = _SIZES[number]
                length = round(max(0.05 * total * size / _SIZES[0], 0.002 * total))
                found.append(collective(f"hcom_allReduce__5{number}_1_1", length, packet=size))
                number += 1
        return (*found[:-2], Item(Doing.AWAIT, "await", "", 0), *found[-2:])

    return each_rank(job, change)


def large_messages(job: FaultyJob, strength: float) -> FaultyJob:
    """One link carries large messages slowly, as with too few buffers or a flapping lane; small ones are as fast."""
    buckets = [item for item in many_sizes(job, 0).programs[0] if item.doing is Doing.COLLECTIVE]
    large = sum(item.duration_ns for item in buckets if item.packet >= 64_000_000) / computing_ns(job.programs[0])
    settings = replace(job.settings, slow_link=(0.6 + strength) / large, slow_from=64_000_000)
    return replace(many_sizes(job, strength), settings=settings)


def sharded_tail(job: FaultyJob, strength: float) -> FaultyJob:
    """Sharded gradients and weights are sent when nothing is left to compute: reduce-scatters and an all-gather."""

    def change(_: int, program: RankProgram) -> RankProgram:
        total = computing_ns(program)
        parts = (("hcom_reduceScatter__60_1_1", 0.5, 200_000_000), ("hcom_reduceScatter__61_1_1", 0.1, 30_000_000),
                 ("hcom_allGather__62_1_1", 0.4, 100_000_000))  # fmt: skip
        sent = [collective(name, round(strength * share * total), packet) for name, share, packet in parts]
        return (*program[:-2], *awaited(sent), *program[-2:])

    return each_rank(job, change)


def layers_wait(job: FaultyJob, strength: float) -> FaultyJob:
    """What tensor-parallel layers sum takes longer than computing leaves room for."""

    def change(_: int, program: RankProgram) -> RankProgram:
        inner = [item for item in program if item.doing is Doing.COLLECTIVE and len(item.group) == 2]
        more = round(strength * computing_ns(program) / max(len(inner), 1))
        return tuple(
            replace(item, duration_ns=item.duration_ns + more)
            if item.doing is Doing.COLLECTIVE and "__2" in item.name
            else item
            for item in program
        )

    return each_rank(job, change)


def tensor_by_tensor(job: FaultyJob, strength: float) -> FaultyJob:
    """Every gradient is reduced by itself, as without buckets: 80 messages of 60 KB to 4 MB, bound by latency."""

    def change(_: int, program: RankProgram) -> RankProgram:
        bare = tuple(item for item in program if item.doing not in (Doing.COLLECTIVE, Doing.AWAIT))
        forward, backward, update = phases(bare)
        length = round((share_within(backward, bare) + strength) * computing_ns(bare) / 80)
        count = min(80, sum(item.doing is Doing.KERNEL for item in backward) - 1)
        # What latency bounds reaches a tenth of the rate at most.
        most = round(0.1 * length * 80 / count * LINK_BYTES_PER_NS)
        sizes = tuple(min(size, most) for size in (60_000, 500_000, 4_000_000, 1_000_000))
        sent = [
            replace(
                collective(f"hcom_allReduce__7{number:03}_1_1", length * 80 // count, sizes[number % 4]),
                size=sizes[number % 4],
            )
            for number in range(count)
        ]
        kernels = [place for place, item in enumerate(backward) if item.doing is Doing.KERNEL]
        after = {kernels[number * len(kernels) // count]: number for number in range(count)}
        found: list[Item] = []
        for place, item in enumerate(backward):
            found.append(item)
            if place in after:
                found.append(sent[after[place]])
        return (*forward, *found, Item(Doing.AWAIT, "await", "", 0), *update)

    return each_rank(job, change)


def share_within(part: RankProgram, whole: RankProgram) -> float:
    return computing_ns(part) / computing_ns(whole)


def same(job: FaultyJob, _: float) -> FaultyJob:
    return job


def back_to_back(job: FaultyJob, _: float) -> FaultyJob:
    """The kernels of all stages, evenly, without anybody waiting."""
    kernels = [sum(item.duration_ns for item in program if item.doing is Doing.KERNEL) for program in job.programs]
    even = sum(kernels) / len(kernels)

    def change(rank: int, program: RankProgram) -> RankProgram:
        kept = tuple(item for item in program if item.doing is not Doing.EXCHANGE)
        return scaled_kernels(kept, even / kernels[rank])

    return each_rank(job, change)


def uneven_stages(job: FaultyJob, strength: float) -> FaultyJob:
    """The last stage has more to do, as with a large vocabulary; the others wait for it in every micro-batch."""

    def change(rank: int, program: RankProgram) -> RankProgram:
        return scaled_kernels(program, 1 + strength) if rank >= len(job.programs) // 2 else program

    return each_rank(job, change)


def evened_stages(job: FaultyJob, strength: float) -> FaultyJob:
    """The same work, all stages alike, as they are without the fault."""
    ranks = len(job.programs)
    last = ranks - ranks // 2
    return each_rank(job, lambda _, program: scaled_kernels(program, 1 + strength * last / ranks))


def hot_experts(job: FaultyJob, strength: float) -> FaultyJob:
    """In every layer another rank has the experts that tokens want; over a step all have computed about the same."""
    ranks = len(job.programs)

    def change(rank: int, program: RankProgram) -> RankProgram:
        share = share_of(program, lambda item: item.type == "GroupedMatmul")
        number = 0
        found: list[Item] = []
        for item in program:
            if item.doing is Doing.KERNEL and item.type == "GroupedMatmul":
                hot = (number // 2) % ranks == rank
                number += 1
                item = replace(item, duration_ns=round(item.duration_ns * (1 + strength / share))) if hot else item
            found.append(item)
        return tuple(found)

    return each_rank(job, change)


def even_experts(job: FaultyJob, strength: float) -> FaultyJob:
    """As many tokens as with hot experts, spread evenly over the ranks of every layer."""

    def change(_: int, program: RankProgram) -> RankProgram:
        share = share_of(program, lambda item: item.type == "GroupedMatmul")
        return scaled_kernels(program, 1 + strength / share / len(job.programs), types="GroupedMatmul")

    return each_rank(job, change)


def hot_rank(job: FaultyJob, strength: float) -> FaultyJob:
    """One rank has the experts that tokens want, and the others have less to do for it."""
    return each_rank(
        job,
        lambda rank, program: scaled_kernels(
            program, _tokens(job, program, strength, hot=rank == unlike_rank(job)), types="GroupedMatmul"
        ),
    )


def even_rank(job: FaultyJob, strength: float) -> FaultyJob:
    """As many tokens as with one hot rank, spread evenly over the ranks; the others can't have fewer than none."""

    def change(_: int, program: RankProgram) -> RankProgram:
        hot, other = (_tokens(job, program, strength, hot=hot) for hot in (True, False))
        ranks = len(job.programs)
        return scaled_kernels(program, (hot + (ranks - 1) * other) / ranks, types="GroupedMatmul")

    return each_rank(job, change)


def _tokens(job: FaultyJob, program: RankProgram, strength: float, *, hot: bool) -> float:
    """How many times its even share of tokens a rank has for its experts."""
    share = share_of(program, lambda item: item.type == "GroupedMatmul")
    others = max(len(job.programs) - 1, 1)
    return 1 + strength / share if hot else max(1 - strength / share / others, 0.1)


def deep_prefetch(job: FaultyJob, strength: float) -> FaultyJob:
    """Weights come from the host one op ahead; those of the last ops of backward take longer than what hides them."""

    def change(_: int, program: RankProgram) -> RankProgram:
        forward, backward, update = phases(program)
        late = strength * computing_ns(program) / 4

        def length(behind: int, hidden_ns: int) -> int:
            return round(hidden_ns + late if behind < 4 else 0.8 * hidden_ns)

        return (*forward, *copied_beside(backward, "host to device", 8, length), *update)

    return each_rank(job, change)


def slow_streaming(job: FaultyJob, strength: float) -> FaultyJob:
    """Ops that stream from memory are slow if they are long: short ones live in the L2 cache."""

    def change(_: int, program: RankProgram) -> RankProgram:
        def streams(item: Item) -> bool:
            return item.op is not None and item.op.bound == "hbm" and item.duration_ns >= 50_000

        share = share_of(program, streams)
        factor = 1 + strength / share if share else 1.0
        return tuple(
            replace(item, duration_ns=round(item.duration_ns * factor)) if streams(item) else item for item in program
        )

    return each_rank(job, change)


def strewn(kinds: Sequence[tuple[str, str, str, float]], count: int) -> Planting:
    """Kernels of several types, cores and dtypes, whose lengths differ by the weights given, `count` times."""

    def plant(job: FaultyJob, strength: float) -> FaultyJob:
        def change(_: int, program: RankProgram) -> RankProgram:
            total = sum(weight for *_, weight in kinds) * count
            for kind, core, dtype, weight in kinds:
                length = round(strength * computing_ns(job.programs[0]) * weight / total)
                program = spread_out(program, Item(Doing.KERNEL, kind, kind, length, core=core, dtype=dtype), count)
            return program

        return each_rank(job, change)

    return plant


def now_and_then(job: FaultyJob, strength: float) -> FaultyJob:
    """One run in seven of the kernels that are run most takes many times as long."""

    def change(_: int, program: RankProgram) -> RankProgram:
        planned = [(item, item.op.bound) for item in program if item.op is not None]
        longer = [item for item, bound in planned if bound != "launch"] or [item for item, _ in planned]
        counts = Counter((item.type, item.duration_ns) for item in longer)
        often = max(counts, key=lambda key: (counts[key], key))
        chosen = [place for place, item in enumerate(program) if (item.type, item.duration_ns) == often][3::7]
        extra = round(strength * computing_ns(program) / max(len(chosen), 1))
        return tuple(
            replace(item, duration_ns=item.duration_ns + extra) if place in chosen else item
            for place, item in enumerate(program)
        )

    return each_rank(job, change)
