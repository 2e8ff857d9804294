"""Where the storages of a graph lie at every step, and what moves between HBM and the host so that they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.units import format_bytes
from memplan.graph import Graph
from memplan.graph.access import accesses, carried, loop_spans
from memplan.graph.saved import SavedTensors
from memplan.hardware import Chip, HostTier
from memplan.placement.address_feedback import addressed_moves
from memplan.placement.hbm import HbmLayout, lay_out
from memplan.placement.host import HostMoves
from memplan.placement.move_problem import move_problem
from memplan.placement.residency import Storage, least_bytes, live_bytes, stays
from memplan.placement.rounding import Rounding
from memplan.placement.schedule import StepSchedule, run_in_turn, run_schedule
from memplan.schema import PlannedTensor


@dataclass(frozen=True, slots=True)
class HbmRoom:
    """Bytes of HBM to plan with (`None`: not known), bytes that the driver keeps, and what is unknown of them."""

    capacity: int | None
    reserved: int = 0
    notes: tuple[str, ...] = ()


def hbm_room(chip: Chip, wanted: int | None) -> HbmRoom:
    """`wanted` bytes, else what `chip` has less what its driver keeps; raises `InputError` for 0 and below."""
    if wanted is not None:
        if wanted <= 0:
            raise InputError("{} bytes of HBM are not enough for anything", wanted, remedy="give more than 0")
        return HbmRoom(wanted)
    if chip.hbm_bytes is None:
        return HbmRoom(None, 0, (f"the HBM size of {chip.name} is not known: nothing was checked against it",))
    if chip.hbm_reserved_bytes is None:
        unknown = f"what the driver keeps of the HBM of {chip.name} is not known: taken as nothing"
        return HbmRoom(chip.hbm_bytes, 0, (unknown,))
    return HbmRoom(chip.hbm_bytes - chip.hbm_reserved_bytes, chip.hbm_reserved_bytes)


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """
    Addresses, schedule and moves of one graph in `room`.

    `bound_ns` is what no choice of moves is faster than; `None` where nothing moves or none is known. `missing` is how
    many bytes of HBM are lacking, 0 where everything fits; `notes` is what else there is to say of it.
    """

    storages: tuple[Storage, ...]
    schedule: StepSchedule
    hbm: HbmLayout
    room: HbmRoom
    host: HostTier
    missing: int
    bound_ns: int | None
    notes: tuple[str, ...]

    @property
    def used_tiers(self) -> list[HostTier]:
        """The tiers behind HBM that something moves to."""
        used = {move.tier for move in self.schedule.moves}
        return [tier for number, tier in enumerate(self.host.tiers) if number in used]


def lay_out_graph(
    graph: Graph,
    tensors: Sequence[PlannedTensor],
    durations_ns: Sequence[int],
    room: HbmRoom,
    round_size: Rounding,
    *,
    host: HostTier,
    chosen: HostMoves | None = None,
    least_ns: int | None = None,
    quick: bool = False,
    saved: SavedTensors | None = None,
    progress: Progress = silent,
) -> MemoryLayout:
    """
    The layout of `tensors` that needs the fewest bytes over the room; what leaves HBM only where it has to.

    `durations_ns` are those of the graph's ops, `chosen` the moves for this room where they are known already. Where a
    step of `least_ns` is known, none that takes longer is looked for; with `quick` the first moves that find addresses
    are taken, with `saved` nothing else moves. Raises `InputError` for a link whose rate no source gives.
    """
    storages = storages_of(graph, tensors, round_size, saved)
    schedule, layout, bound_ns = _fitted(
        storages, durations_ns, room.capacity, round_size.alignment, host, chosen, least_ns, quick, progress
    )
    missing, notes = 0, list[str]()
    if room.capacity is not None and layout.peak > room.capacity:
        least = int(least_bytes(storages, len(graph.ops)).max(initial=0))
        missing = max(least, layout.lower_bound) - room.capacity
        if missing <= 0:
            missing = layout.peak - room.capacity
            notes.append("the bytes fit but no addresses were found for them; a better packing may exist")
    found = MemoryLayout(tuple(storages), schedule, layout, room, host, missing, bound_ns, ())
    for tier in found.used_tiers:
        notes += [f"link {link.name}: {link.note}" for link in (tier.out_link, tier.in_link) if link.note]
        notes += tier.notes
    return replace(found, notes=tuple(notes))


def copied_at_need(
    layout: MemoryLayout, durations_ns: Sequence[int], alignment: int, progress: Progress = silent
) -> MemoryLayout:
    """
    `layout` with each of its moves when a hook makes it, out once it was saved and back once it is needed.

    `durations_ns` are those of its ops, which wait for every copy. The addresses of `layout` stay where those of fewer
    bytes end above the room.
    """
    schedule = run_in_turn(layout.storages, durations_ns, layout.schedule.moves)
    hbm = lay_out(layout.storages, schedule.residencies, len(durations_ns), alignment=alignment, progress=progress)
    if layout.room.capacity is not None and layout.hbm.peak <= layout.room.capacity < hbm.peak:
        return layout
    return replace(layout, schedule=schedule, hbm=hbm)


def unset_notes(layout: MemoryLayout, saved: SavedTensors | None) -> tuple[str, ...]:
    """
    What to say of a program's `layout` of which more moves than `Plan.apply` can set; nothing where it sets all.

    What layers have `saved` waits on the host by hooks, all else that moves stays.
    """
    storages = layout.storages
    moved = sorted({move.gap.storage for move in layout.schedule.moves})
    absent = [
        (index, *away)
        for index in moved
        if saved is not None and (away := saved.away(storages[index].tensor, storages[index].uses)) is not None
    ]
    if len(absent) == len(moved):
        return ()
    live = live_bytes(storages, stays(storages, absent), len(layout.schedule.start_ns))
    peak = format_bytes(int(live.max(initial=0)))
    if not absent:
        return (f"Plan.apply can set none of these moves: without them the step takes {peak} of HBM",)
    return (f"Plan.apply moves only what layers save for the way back: with that alone the step takes {peak} of HBM",)


def storages_of(
    graph: Graph, tensors: Sequence[PlannedTensor], round_size: Rounding, saved: SavedTensors | None = None
) -> list[Storage]:
    """What has to be placed, in the order of `tensors`; with `saved` only that may leave HBM between its uses."""
    writes: dict[int, list[int]] = {}
    remade: dict[int, list[int]] = {}
    for op, access in zip(graph.ops, accesses(graph), strict=True):
        for storage in access.writes:
            if op.repeats is None:
                writes.setdefault(storage, []).append(op.index)
            elif storage not in access.reads:
                remade.setdefault(storage, []).append(op.index)
    kept, loops = carried(graph), loop_spans(graph)
    by_several = {storage for storage in remade if len(writes[storage]) > 1}
    return [
        Storage(
            tensor=tensor.index,
            size=round_size(tensor.nbytes),
            start=tensor.start,
            end=tensor.end,
            uses=_needed_at(tensor, loops, remade[tensor.index] if tensor.index in by_several else ())
            if saved is None
            else _needed_with(saved, tensor, len(graph.ops)),
            writes=tuple(writes.get(tensor.index, ())),
            persistent=tensor.persistent or tensor.index in kept,
            remade=tuple(remade.get(tensor.index, ())),
        )
        for tensor in tensors
    ]


def _needed_with(saved: SavedTensors, tensor: PlannedTensor, steps: int) -> tuple[int, ...]:
    return tuple(range(steps)) if tensor.persistent else saved.needed(tensor.index, tensor.uses)


def _needed_at(tensor: PlannedTensor, loops: Sequence[tuple[int, int]], redone: Sequence[int] = ()) -> tuple[int, ...]:
    """
    The steps at which a tensor has to be in HBM: those that use it, and all of a loop that finds it there.

    Every pass of a loop begins where the one before ended, so what was there before it stays where it is. So does
    what is being made anew from one of the steps `redone` on by several ops: until the last of them its bytes are old.
    """
    steps = set(tensor.uses)
    for begin, end in loops:
        if tensor.start <= begin and any(begin <= step <= end for step in tensor.uses):
            steps.update(range(begin, end + 1))
    for begin, after in pairwise((*redone, tensor.end)):
        steps.update(range(begin, max(step for step in tensor.uses if begin <= step < after) + 1))
    return tuple(sorted(steps)) if len(steps) > len(tensor.uses) else tensor.uses


def _fitted(
    storages: Sequence[Storage],
    durations_ns: Sequence[int],
    capacity: int | None,
    alignment: int,
    host: HostTier,
    chosen: HostMoves | None,
    least_ns: int | None,
    quick: bool,
    progress: Progress,
) -> tuple[StepSchedule, HbmLayout, int | None]:
    """
    The schedule and addresses that need the fewest bytes over `capacity`; host moves only where needed. Also
    the bound on the step time of any choice of moves.

    Addresses may not pack into all of the room that bytes alone would fit in. Then the moves are chosen again near the
    last choice, with less room at the steps of what found no address, until all do.
    """
    if capacity is None:
        schedule = run_schedule(storages, durations_ns, (), 2**62, out_link=host.out_link, in_link=host.in_link)
        steps = len(durations_ns)
        layout = lay_out(storages, schedule.residencies, steps, alignment=alignment, progress=progress)
        return schedule, layout, None
    problem = move_problem(storages, durations_ns, host)
    found = addressed_moves(problem, capacity, alignment, chosen, least_ns, quick=quick, progress=progress)
    bound = found.chosen.bound
    return found.schedule, found.layout, None if bound is None else bound.makespan_ns
