"""
Defects that show in some steps only, or only beside something else, as they look in the field.

Prompts among tokens, graphs captured anew, steps in which everything is slow, transfers that once take long, kernels
that share the memory with transfers.
"""

from __future__ import annotations

from dataclasses import replace

from memplan.simulator.faults.field_device_faults import each_rank
from memplan.simulator.job_program import LINK_BYTES_PER_NS, Doing, Item, RankProgram, computing_ns
from memplan.simulator.job_settings import FaultyJob

_SLOW, _OTHERS = frozenset({2}), frozenset({*range(2), *range(3, 1000)})
"""The step that is unlike the others, and these."""
_STEPS = 4
"""What happens in one step alone takes this many times the share that a fault of every step takes of each."""
_HIDDEN = 0.5
"""Of a step's computing, transfers run beside so much where they slow it."""
_MOST_SLOWED, _ROUNDS = 1.0, 8
"""Two that share a memory evenly are half as fast each."""


def slow_step(job: FaultyJob, strength: float) -> FaultyJob:
    """All ranks are slow at nearly everything in one step, as under a power cap or beside another job."""

    def change(_: int, program: RankProgram) -> RankProgram:
        found: list[Item] = []
        for place, item in enumerate(program):
            if item.doing is Doing.KERNEL and place % 8:
                longer = round(item.duration_ns * (1 + _STEPS * strength))
                found += [replace(item, only=_OTHERS), replace(item, duration_ns=longer, only=_SLOW)]
            else:
                found.append(item)
        return tuple(found)

    return each_rank(job, change)


def prompts_among_tokens(job: FaultyJob, strength: float) -> FaultyJob:
    """One step runs its kernels a second time, on more tokens: a prompt that came in."""

    def change(_: int, program: RankProgram) -> RankProgram:
        kernels = [item for item in program if item.doing is Doing.KERNEL][:-1]
        prompt = tuple(
            replace(item, op=None, name=f"{item.name}_prompt", only=_SLOW, dtype="DT_BF16", elements=1 << 20,
                    duration_ns=max(round(_STEPS * strength * item.duration_ns), 1))
            for item in kernels
        )  # fmt: skip
        return (*prompt, *program)

    return each_rank(job, change)


def captures_again(job: FaultyJob, strength: float) -> FaultyJob:
    """A graph is captured for a size that comes for the first time; its kernels are launched to no stream."""

    def change(_: int, program: RankProgram) -> RankProgram:
        length = _STEPS * strength * computing_ns(program)
        doing = (("AscendCL@aclmdlRICaptureBegin", 0.02), ("aten::linear", 0.88), ("AscendCL@aclmdlRICaptureEnd", 0.1))
        work = tuple(Item(Doing.HOST, name, "", round(part * length), only=_SLOW) for name, part in doing)
        return (program[0], Item(Doing.SYNCHRONISE, "drained", "quiet", 0, only=_SLOW), *work, *program[1:])

    return each_rank(job, change)


def transferred_beside(job: FaultyJob, _: float) -> FaultyJob:
    """Gradients move beside a good part of the computing."""

    def change(_: int, program: RankProgram) -> RankProgram:
        buckets = sum(item.doing is Doing.COLLECTIVE for item in program)
        length = round(_HIDDEN * computing_ns(program) / max(buckets, 1))
        return tuple(replace(item, duration_ns=length) if item.doing is Doing.COLLECTIVE else item for item in program)

    return each_rank(job, change)


def _beside(program: RankProgram, factor: float) -> set[int]:
    """The kernels that run beside transfers where they take `factor` times as long there."""
    moving, busy = 0.0, 0.0
    found: set[int] = set()
    for place, item in enumerate(program):
        if item.doing is Doing.COLLECTIVE:
            moving = max(moving, busy) + item.duration_ns
        elif item.doing is Doing.KERNEL:
            slowed = busy + factor * item.duration_ns / 2 < moving
            busy += item.duration_ns * (factor if slowed else 1.0)
            if slowed:
                found.add(place)
    return found


def slowed_by_transfers(job: FaultyJob, strength: float) -> FaultyJob:
    """Kernels beside transfers get less of the memory's bandwidth."""

    def change(_: int, program: RankProgram) -> RankProgram:
        factor = 1.0
        # Slower kernels lie beside fewer transfers: what each takes longer and who does are found together.
        for _ in range(_ROUNDS):
            beside = _beside(program, factor)
            share = sum(program[place].duration_ns for place in beside) / computing_ns(program)
            factor = 1 + min(strength / share, _MOST_SLOWED) if share else 1.0
        beside = _beside(program, factor)
        return tuple(
            replace(item, duration_ns=round(item.duration_ns * factor)) if place in beside else item
            for place, item in enumerate(program)
        )

    return each_rank(transferred_beside(job, strength), change)


def moved_anew(job: FaultyJob, strength: float) -> FaultyJob:
    """A collective is tried again in one step: it moves the same bytes in far more time."""

    def change(_: int, program: RankProgram) -> RankProgram:
        place = max(place for place, item in enumerate(program) if item.doing is Doing.COLLECTIVE)
        item = program[place]
        usual = replace(item, size=round(item.duration_ns * LINK_BYTES_PER_NS))
        # What is left to compute hides none of it.
        rest = computing_ns(program[place:])
        again = replace(usual, duration_ns=round(rest + _STEPS * strength * computing_ns(program)), only=_SLOW)
        return (*program[:place], replace(usual, only=_OTHERS), again, *program[place + 1 :])

    return each_rank(job, change)
