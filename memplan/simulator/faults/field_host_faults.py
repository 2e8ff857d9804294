"""
Defects of hosts and of memory as they look in the field: in some steps or on some ranks only, of unlike lengths.

Loaders that stall one rank now and then, a shape that is compiled anew, values read on the host, pools that grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.simulator.faults.fault import Planting
from memplan.simulator.faults.field_device_faults import each_rank, unlike_rank
from memplan.simulator.job_layouts import phases
from memplan.simulator.job_program import Doing, Item, RankProgram, computing_ns
from memplan.simulator.job_settings import FaultyJob

_STEPS = 4
"""What happens in one step alone takes this many times the share that a fault of every step takes of each."""


def host_in_backward(job: FaultyJob, strength: float) -> FaultyJob:
    """The loss is read before backward, whose ops the host then launches more slowly than they run."""
    return each_rank(job, lambda _, program: launched_slowly(program, strength))


def launched_slowly(program: RankProgram, strength: float) -> RankProgram:
    """`program` whose host launches backward more slowly than it runs, by this share of a step's computing."""
    forward, backward, update = phases(program)
    kernels = sum(item.doing is Doing.KERNEL for item in backward)
    extra = strength * computing_ns(program) / kernels
    found: list[Item] = [Item(Doing.SYNCHRONISE, "drained", "quiet", 0)]
    for item in backward:
        if item.doing is Doing.KERNEL:
            length = round(item.duration_ns + extra)
            found.append(Item(Doing.HOST, "autograd::engine::evaluate_function", "", length))
        found.append(item)
    return (*forward, *found, Item(Doing.SYNCHRONISE, "drained", "quiet", 0), *update)


def reads_values(job: FaultyJob, strength: float) -> FaultyJob:
    """Values are read on the host three times in forward and once in update; the host comes back later each time."""

    def change(_: int, program: RankProgram) -> RankProgram:
        forward, backward, update = phases(program)
        total = computing_ns(program)

        def read(part: float) -> Item:
            return Item(Doing.SYNCHRONISE, "aten::_local_scalar_dense", "", round(strength * part * total))

        third = len(forward) // 4
        rest = (*backward, *update)
        # What comes after the last kernel would lie between steps.
        last = max(place for place, item in enumerate(rest) if item.doing is Doing.KERNEL)
        place = min(len(backward) + 2, last)
        return (*forward[:third], read(0.2), *forward[third : 2 * third], read(0.1), *forward[2 * third : 3 * third],
                read(0.3), *forward[3 * third :], *rest[:place], read(0.4), *rest[place:])  # fmt: skip

    return each_rank(job, change)


def in_step(name: str, step: int, parts: Sequence[float], *, rank: int | None = None) -> Planting:
    """Host work in one step: `parts` of it in turn from the step's start, on one rank if that is given."""

    def plant(job: FaultyJob, strength: float) -> FaultyJob:
        def change(number: int, program: RankProgram) -> RankProgram:
            if rank is not None and number != min(rank, len(job.programs) - 1):
                return program
            total = _STEPS * strength * computing_ns(program)
            done = list(program)
            for place, part in enumerate(parts):
                item = Item(Doing.HOST, name, "", round(part * total), only=frozenset({step}))
                quiet = Item(Doing.SYNCHRONISE, "drained", "quiet", 0, only=frozenset({step}))
                done[1 + 5 * place : 1 + 5 * place] = [quiet, item]
            return tuple(done)

        return each_rank(job, change)

    return plant


def one_after_another(name: str) -> Planting:
    """Host work at a step's start on another rank in every step: all ranks wait for each in turn."""

    def plant(job: FaultyJob, strength: float) -> FaultyJob:
        def change(rank: int, program: RankProgram) -> RankProgram:
            # What happens before the first kernel of all, the device's time doesn't show.
            steps = frozenset(range(rank + 1, 10_000, len(job.programs)))
            item = Item(Doing.HOST, name, "", round(strength * computing_ns(program)), only=steps)
            return (item, *program)

        return each_rank(job, change)

    return plant


def uneven_loader(job: FaultyJob, strength: float) -> FaultyJob:
    """One rank's loader stalls for long in one step, another's for less in a later one; the others wait for them."""
    name = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"
    stalls = {unlike_rank(job): (1, 0.7), 0: (3, 0.3)}

    def change(rank: int, program: RankProgram) -> RankProgram:
        if rank not in stalls:
            return program
        step, part = stalls[rank]
        length = round(part * _STEPS * strength * computing_ns(program))
        return (Item(Doing.HOST, name, "", length, only=frozenset({step})), *program)

    return each_rank(job, change)


def allocates_at_first(job: FaultyJob, strength: float) -> FaultyJob:
    """Segments are freed and allocated anew until the pool has settled."""

    def change(_: int, program: RankProgram) -> RankProgram:
        total = _STEPS * strength * computing_ns(program)
        done = list(program)
        for place, (name, part) in enumerate(
            (("AscendCL@aclMallocMemInner", 0.5), ("AscendCL@aclrtFree", 0.1), ("AscendCL@aclMallocMemInner", 0.4))
        ):
            for step, share in ((0, 0.75), (1, 0.25)):
                only = frozenset({step})
                quiet = Item(Doing.SYNCHRONISE, "drained", "quiet", 0, only=only)
                done[2 + 4 * place : 2 + 4 * place] = [
                    quiet,
                    Item(Doing.HOST, name, "", round(part * share * total), only=only),
                ]
        return tuple(done)

    return each_rank(job, change)


def evaluates(job: FaultyJob, strength: float) -> FaultyJob:
    """The host is busy after each step, and far longer after the second."""
    total = computing_ns(job.programs[0])
    short = round(0.5 * strength * total)
    gaps = (short, round(2.5 * strength * total), short)
    return replace(job, settings=replace(job.settings, gaps_ns=gaps))


def late_starts(job: FaultyJob, strength: float) -> FaultyJob:
    """Kernels of backward wait in the queue of the device, some of them five times as long as others."""

    def change(_: int, program: RankProgram) -> RankProgram:
        forward, backward, update = phases(program)
        kernels = [place for place, item in enumerate(backward) if item.doing is Doing.KERNEL]
        weights = {place: 1 + number % 5 for number, place in enumerate(kernels)}
        each = strength * computing_ns(program) / sum(weights.values())
        late = tuple(
            replace(item, late_ns=round(each * weights[place])) if place in weights else item
            for place, item in enumerate(backward)
        )
        return (*forward, *late, *update)

    return each_rank(job, change)


def memory_trouble(**shares: float) -> Planting:
    """Trouble with memory; each of `shares` times the strength comes on top of what the job has."""

    def plant(job: FaultyJob, strength: float) -> FaultyJob:
        memory = job.settings.memory
        changed = replace(
            memory,
            growth=memory.growth + shares.get("growth", 0) * strength,
            cached=memory.cached + shares.get("cached", 0) * strength,
            cached_growth=memory.cached_growth + shares.get("cached_growth", 0) * strength,
            outside=memory.outside + shares.get("outside", 0) * strength,
            outside_growth=memory.outside_growth + shares.get("outside_growth", 0) * strength,
        )
        return replace(job, settings=replace(job.settings, memory=changed))

    return plant


def mixed_leak(job: FaultyJob, strength: float) -> FaultyJob:
    """One rank keeps three tensors of unlike sizes with every step, made by ops that make others too."""
    leaks = (("aten::cat", 0.6 * strength), ("aten::add", 0.3 * strength), ("aten::empty", 0.1 * strength))
    memory = replace(job.settings.memory, leaks=leaks, leaking=unlike_rank(job))
    return replace(job, settings=replace(job.settings, memory=memory))
