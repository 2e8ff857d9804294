"""
Defects of load and of how a step is written, as users report them: uneven work, starved hosts, needless kernels.

Sequences of unlike lengths, one host short of processors, processes that stand still, launches one by one, activations
that leave for the host too late, layers computed twice, tensors cast to and fro, transfers that computing slows down.
"""

from __future__ import annotations

import re
from dataclasses import replace

from memplan.simulator.faults.field_device_faults import awaited, each_rank, unlike_rank
from memplan.simulator.faults.field_host_faults import launched_slowly
from memplan.simulator.job_layouts import phases
from memplan.simulator.job_program import (
    LINK_BYTES_PER_NS,
    Doing,
    Item,
    RankProgram,
    collective,
    computing_ns,
    copied_beside,
    spread_out,
)
from memplan.simulator.job_settings import FaultyJob

_LAST = 10_000
"""More steps than are simulated."""
_STEPS = 4
"""What happens in one step alone takes this many times the share that a fault of every step takes of each."""
_LAYER = re.compile(r"layers?\.\d+\.")
_UNFUSED = ("Mul", "Add", "RealDiv", "Rsqrt", "Mul")
_HBM_BYTES_PER_NS, _BYTES_EACH = 1000.0, 8
"""What vector kernels move of 910B's 1.6 TB/s, round, and the bytes of an element in and out."""
_TIMEOUT_NS = 4_100_000_000
"""A network card waits about four seconds before it sends a packet again (HCCL_RDMA_TIMEOUT 20: 4.096 us x 2^20)."""


def uneven_sequences(job: FaultyJob, strength: float) -> FaultyJob:
    """In every step another rank has the long sequences and the others the short ones: as many tokens as ever."""
    ranks = len(job.programs)

    def change(rank: int, program: RankProgram) -> RankProgram:
        long = frozenset(range(rank, _LAST, ranks))
        short = frozenset(range(_LAST)) - long
        found: list[Item] = []
        for item in program:
            if item.doing is Doing.KERNEL:
                less = 1 - strength / max(ranks - 1, 1)
                found.append(replace(item, duration_ns=round(item.duration_ns * (1 + strength)), only=long))
                found.append(replace(item, duration_ns=round(item.duration_ns * less), only=short))
            else:
                found.append(item)
        return tuple(found)

    return each_rank(even_sequences(job, strength), change)


def even_sequences(job: FaultyJob, _: float) -> FaultyJob:
    """The job with the norm of the gradients summed before the update: where no rank is ahead of another."""

    def change(_: int, program: RankProgram) -> RankProgram:
        summed = collective("hcom_allReduce__870_1_1", 8_000, packet=512)
        return (*program[:-2], replace(summed, size=512), Item(Doing.AWAIT, "await", "", 0), *program[-2:])

    return each_rank(job, change)


def starved_host(job: FaultyJob, strength: float) -> FaultyJob:
    """One rank's host has too few processors: in backward it launches more slowly than the device runs."""

    def change(rank: int, program: RankProgram) -> RankProgram:
        return launched_slowly(program, strength) if rank == unlike_rank(job) else program

    return each_rank(job, change)


def stands_still(job: FaultyJob, strength: float) -> FaultyJob:
    """The process of every rank stands still once, and nothing in the profile says why."""

    def change(_: int, program: RankProgram) -> RankProgram:
        once = frozenset({2})
        length = round(_STEPS * strength * computing_ns(program))
        quiet = Item(Doing.SYNCHRONISE, "drained", "quiet", 0, only=once)
        still = Item(Doing.HOST, "still", "quiet", length, only=once)
        middle = len(program) // 2
        return (*program[:middle], quiet, still, *program[middle:])

    return each_rank(job, change)


def launches_one_by_one(job: FaultyJob, strength: float) -> FaultyJob:
    """ASCEND_LAUNCH_BLOCKING=1: the host waits for every kernel before it launches the next."""

    def change(_: int, program: RankProgram) -> RankProgram:
        kernels = sum(item.doing is Doing.KERNEL for item in program)
        late = round(strength * computing_ns(program) / kernels)
        found: list[Item] = []
        for item in program:
            found.append(item)
            if item.doing is Doing.KERNEL:
                found.append(Item(Doing.SYNCHRONISE, "AscendCL@aclrtSynchronizeStreamWithTimeout", "", late))
        return tuple(found)

    settings = replace(job.settings, environment=(("ASCEND_LAUNCH_BLOCKING", "1"),))
    return replace(each_rank(job, change), settings=settings)


def late_swap(job: FaultyJob, strength: float) -> FaultyJob:
    """Activations go to the host in forward; what comes after needs their memory and waits until they are gone."""
    count = 6

    def change(_: int, program: RankProgram) -> RankProgram:
        forward, backward, update = phases(program)
        late = strength * computing_ns(program) / count
        gone = copied_beside(forward, "device to host", count, lambda _, hidden_ns: round(hidden_ns + late))
        return (*gone, *backward, *update)

    return each_rank(job, change)


def streaming(kind: str, length_ns: int, dtype: str) -> Item:
    """A vector kernel over as many elements as it can read and write in its time, which moving them bounds."""
    elements = max(round(length_ns * _HBM_BYTES_PER_NS / _BYTES_EACH), 1)
    return Item(Doing.KERNEL, kind, kind, length_ns, core="AI_VECTOR_CORE", dtype=dtype, elements=elements)


def unfused(job: FaultyJob, strength: float) -> FaultyJob:
    """Norms and activations as chains of small kernels, where one kernel each would do."""
    return _chains(job, strength, len(_UNFUSED))


def fused(job: FaultyJob, strength: float) -> FaultyJob:
    """The same with one kernel in the place of each chain, as long as one of it."""
    return _chains(job, strength, 1)


def _chains(job: FaultyJob, strength: float, kernels: int) -> FaultyJob:
    count = 60

    def change(_: int, program: RankProgram) -> RankProgram:
        # Of a chain all kernels but one are more than is needed.
        length = round(strength * computing_ns(program) / count / (len(_UNFUSED) - 1))
        first = streaming("Chain", length, "DT_BF16")
        found: list[Item] = []
        for item in spread_out(program, first, count):
            if item.type == "Chain":
                found += [
                    replace(item, name=f"{kind}_{number}_{item.name}", type=kind)
                    for number, kind in enumerate(_UNFUSED[:kernels])
                ]
            else:
                found.append(item)
        return tuple(found)

    return each_rank(job, change)


def cast_to_and_fro(job: FaultyJob, strength: float) -> FaultyJob:
    """Tensors are cast to float32 and back, as where a module is left out of mixed precision."""

    def change(_: int, program: RankProgram) -> RankProgram:
        for number, (dtype, part) in enumerate((("DT_BF16", 0.5), ("FLOAT", 0.5))):
            length = round(part * strength * computing_ns(job.programs[0]) / 24)
            item = replace(streaming("Cast", length, dtype), name=f"Cast{number}")
            program = spread_out(program, item, 24)
        return program

    return each_rank(job, change)


def reads_back(job: FaultyJob, strength: float) -> FaultyJob:
    """Tensors are copied to the host in every step, for logs or for a search on the host, and it waits for them."""

    def change(_: int, program: RankProgram) -> RankProgram:
        total = strength * computing_ns(program)
        kernels = [place for place, item in enumerate(program) if item.doing is Doing.KERNEL]
        chosen = {kernels[len(kernels) // 4]: 0.3, kernels[len(kernels) // 2]: 0.7}
        found: list[Item] = []
        for place, item in enumerate(program):
            if place in chosen:
                copied = Item(Doing.COPY, "MEMCPY_ASYNC", "device to host", round(chosen[place] * total))
                found += [copied, Item(Doing.SYNCHRONISE, "AscendCL@aclrtSynchronizeStreamWithTimeout", "", 0)]
            found.append(item)
        return tuple(found)

    return each_rank(job, change)


def computes_again(job: FaultyJob, strength: float) -> FaultyJob:
    """The last layers are computed again right before their way back, though memory would do without."""

    def change(_: int, program: RankProgram) -> RankProgram:
        forward, backward, update = phases(program)
        layers: dict[str, list[Item]] = {}
        for item in forward:
            if item.doing is Doing.KERNEL and (found := _LAYER.search(item.name)):
                layers.setdefault(found[0], []).append(item)
        wanted, again = strength * computing_ns(program), {}
        for name in reversed(layers):
            if wanted > 0:
                again[name] = layers[name]
                wanted -= sum(item.duration_ns for item in layers[name])
        done: list[Item] = []
        for item in backward:
            layer = _LAYER.search(item.name)
            done += again.pop(layer[0], ()) if layer else ()
            done.append(item)
        return (*forward, *done, *update)

    return each_rank(job, change)


def slowed_by_computing(job: FaultyJob, strength: float) -> FaultyJob:
    """
    Transfers beside computing share the memory's bandwidth with it and run at half of their rate.

    What is not through when backward ends is exposed, at the link's full rate.
    """
    return each_rank(job, lambda _, program: _sharded(program, strength, 2.0))


def at_full_rate(job: FaultyJob, strength: float) -> FaultyJob:
    """The same transfers at the rate of those that nothing runs beside: computing hides them."""
    return each_rank(job, lambda _, program: _sharded(program, strength, 1.0))


def _sharded(program: RankProgram, exposed: float, slower: float) -> RankProgram:
    bare = tuple(item for item in program if item.doing not in (Doing.COLLECTIVE, Doing.AWAIT))
    forward, backward, update = phases(bare)
    room, total, count = computing_ns(backward), computing_ns(bare), 8
    # At half of the rate half of what backward has room for goes through beside it.
    fair = (0.5 * room + exposed * total) / count
    kernels = [place for place, item in enumerate(backward) if item.doing is Doing.KERNEL][:count]
    found: list[Item] = []
    through = 0.0
    for place, item in enumerate(backward):
        if place in kernels:
            beside = min(fair, max(room - through, 0.0) / slower)
            length = beside * slower + fair - beside
            through += length
            sent = collective(f"hcom_reduceScatter__8{kernels.index(place)}_1_1", round(length))
            found.append(replace(sent, size=round(fair * LINK_BYTES_PER_NS)))
        found.append(item)
    alone = collective("hcom_allGather__85_1_1", round(0.004 * total))
    return (*forward, *found, Item(Doing.AWAIT, "await", "", 0), *awaited([alone]), *update)


def sent_again(job: FaultyJob, strength: float) -> FaultyJob:
    """A network loses packets: transfers between servers of some steps wait until they are sent again."""
    steps = frozenset(range(1, 1 + max(round(10 * strength), 1)))
    return each_rank(job, lambda _, program: _between_servers(program, steps))


def loses_nothing(job: FaultyJob, _: float) -> FaultyJob:
    """The same transfers over a network that loses nothing."""
    return each_rank(job, lambda _, program: _between_servers(program, frozenset()))


def _between_servers(program: RankProgram, losing: frozenset[int]) -> RankProgram:
    length = round(0.01 * computing_ns(program))
    sent = replace(
        collective("hcom_allReduce__860_1_1", length), transport="RDMA", size=round(length * LINK_BYTES_PER_NS)
    )
    lost = replace(sent, duration_ns=length + _TIMEOUT_NS, only=losing)
    fine = replace(sent, only=frozenset(range(_LAST)) - losing)
    return (*program[:-2], lost, fine, Item(Doing.AWAIT, "await", "", 0), *program[-2:])


def slow_exchange(job: FaultyJob, strength: float) -> FaultyJob:
    """What pipeline stages send each other takes long to move: large activations over a slow link."""

    def change(_: int, program: RankProgram) -> RankProgram:
        exchanges = [item for item in program if item.doing is Doing.EXCHANGE]
        more = round(strength * computing_ns(program) / max(len(exchanges), 1))
        return tuple(
            replace(item, duration_ns=item.duration_ns + more, packet=32_000_000)
            if item.doing is Doing.EXCHANGE
            else item
            for item in program
        )

    return each_rank(job, change)
