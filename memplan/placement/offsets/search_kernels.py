"""
Compiled depth-first search for a placement within a capacity.

Any placement can be pushed down until each block rests on address 0 or on another block; the search visits only such
placements, blocks in ascending order of address (Moffitt, MiniMalloc, ASPLOS 2023, names the ideas behind `support`,
sections, dominance and the split in time). Beyond that, a block that was passed over at the address it could have taken
must end up on top of a block still to come, which raises what it and its sections need: `floor` of the least of these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.jit import jit, jit_inner, longer
from memplan.placement.offsets.block_pairs import FAR
from memplan.placement.offsets.kernel_arrays import SearchArrays
from memplan.placement.offsets.work_limit import FOUND, GAVE_UP, INFEASIBLE

_BEGIN, _END, _LOW, _HIGH, _LEFT, _FAIL, _WAIT = range(7)
"""
Columns of levels and of components that wait: their members from `_BEGIN` to `_END`, their sections from `_LOW` to
`_HIGH`, how many members are left, the level to go back to on failure, and the next component that waits (-1: none).
"""
_TRAIL, _PLACED, _MEMBERS, _PARTS, _CHOICE, _CHOICES, _CHOICES_END = range(7, 14)
"""
Columns of levels alone: how long the trail and the lists of members and of components were when the level was entered,
and the trail when its block was placed; the choice now taken, the first one and the end of all.
"""
_COLUMNS = 14


class SearchState(NamedTuple):
    """What is placed, and what that leaves to the others."""

    offset: Int64s
    """Address of each block, -1 of those to be placed."""
    needs: Int64s
    """`support`, `reach` and `floor` behind each other, so that one trail tells what to restore."""
    support: Int64s
    """Lowest address of each block on what is placed."""
    reach: Int64s
    """Lowest address that each block can still have, at least its support."""
    floor: Int64s
    """By section: nothing to be placed can be lower."""
    total: Int64s
    """By section: bytes to be placed."""
    crossing: Int64s
    """Blocks to be placed, and links among them, that go from a section on to the next."""
    stamp: Int64s
    """By section: the placement that touched it last."""
    touched: Int64s
    """Sections that a placement touched."""


@jit
def search_offsets(
    capacity: int,
    arrays: tuple[Any, ...],
    order: Int64s,
    rank: Int64s,
    by_total: int,
    most_nodes: int,
    most_work: int,
    offset: Int64s,
    counts: Int64s,
) -> int:
    """
    FOUND with `offset` filled, INFEASIBLE when proven, GAVE_UP at a limit; `counts` receives nodes and work.

    `arrays` are those of `SearchArrays`. Blocks are tried by `order`, or where `by_total` is set by the most bytes to
    be placed beside them and then by `rank`, sorted whenever the problem splits.
    """
    blocks = SearchArrays(*arrays)
    n, sections = blocks.size.size, blocks.section_ptr.size - 1
    counts[0] = counts[1] = n
    state = _nothing_placed(blocks, offset)
    if not _may_fit(blocks, state, capacity):
        return INFEASIBLE
    # Rows of a place among `needs` and what it was before.
    trail, used = np.empty((4096 + 4 * (n + sections), 2), np.int64), 0
    # Lists of blocks, one for each component (a range of sections that no block to be placed leaves).
    members, member_top = np.empty(2 * n + 64, np.int64), 0
    parts, part_top = np.empty((2 * sections + 64, _WAIT + 1), np.int64), 0
    levels = np.zeros((n + 2, _COLUMNS), np.int64)
    choices = np.empty(4 * n + 64, np.int64)
    placements = nodes = work = 0
    level, failed = -1, False  # level -1 stands for the whole problem before anything is placed
    while True:
        if not failed:
            # A block was placed at `level` (or none yet): go on in its component, or split it, or take up the next one.
            waiting = levels[level, _WAIT] if level >= 0 else -1
            split = level < 0 or _splits(blocks, state.crossing, choices[levels[level, _CHOICE]])
            new = level + 1
            if not split and levels[level, _LEFT] > 1:
                _enter(levels[new], levels[level])
                levels[new, _LEFT] -= 1
                levels[new, _FAIL] = level
            else:
                if split:
                    members, member_top, parts, part_top, waiting, steps = _split(
                        blocks,
                        state,
                        order,
                        rank,
                        by_total,
                        levels,
                        level,
                        waiting,
                        members,
                        member_top,
                        parts,
                        part_top,
                    )
                    work += steps
                if waiting < 0:
                    counts[0], counts[1] = nodes, work
                    return FOUND
                _enter(levels[new], parts[waiting])
            level = new
            nodes += 1
            if nodes > most_nodes or work > most_work:
                counts[0], counts[1] = nodes, work
                return GAVE_UP
            here = levels[level]
            here[_TRAIL], here[_MEMBERS], here[_PARTS] = used, member_top, part_top
            listed = here[_END] - here[_BEGIN]
            work += 2 * listed
            start = levels[level - 1, _CHOICES_END] if level > 0 else 0
            while start + listed > len(choices):
                choices = np.append(choices, choices)
            here[_CHOICE] = here[_CHOICES] = start
            here[_CHOICES_END] = start + _choose(blocks, state, members[here[_BEGIN] : here[_END]], choices[start:])
        elif levels[level, _CHOICE] < levels[level, _CHOICES_END]:
            while used + sections + 1 > len(trail):
                trail = longer(trail)
            possible, used, steps = _pass_over(blocks, state, capacity, choices[levels[level, _CHOICE]], trail, used)
            work += steps
            levels[level, _CHOICE] = levels[level, _CHOICE] + 1 if possible else levels[level, _CHOICES_END]
        here = levels[level]
        if here[_CHOICE] < here[_CHOICES_END]:
            while used + 2 * (n + sections) > len(trail):
                trail = longer(trail)
            here[_PLACED] = used
            placements += 1
            possible, used, steps = _place(
                blocks, state, capacity, choices[here[_CHOICE]], placements, here[_LOW], here[_HIGH], trail, used
            )
            work += steps
            if possible:
                failed = False
                continue
            target = level
        else:
            target = here[_FAIL]
            used = _restore(state.needs, trail, used, here[_TRAIL])
            level -= 1
        if target < 0:
            counts[0], counts[1] = nodes, work
            return INFEASIBLE
        # Undo the placements of all levels down to the one that can still choose differently.
        while True:
            here = levels[level]
            used = _restore(state.needs, trail, used, here[_PLACED] if level == target else here[_TRAIL])
            block = choices[here[_CHOICE]]
            offset[block] = -1
            _count(blocks, state, block, 1)
            member_top, part_top = here[_MEMBERS], here[_PARTS]
            if level == target:
                break
            level -= 1
        failed = True


@jit_inner
def _split(
    blocks: SearchArrays,
    state: SearchState,
    order: Int64s,
    rank: Int64s,
    by_total: int,
    levels: Int64s,
    level: int,
    waiting: int,
    members: Int64s,
    member_top: int,
    parts: Int64s,
    part_top: int,
) -> tuple[Int64s, int, Int64s, int, int, int]:
    """
    Add each component that the problem of `level` falls into to those that wait, and its blocks to `members`.

    Gives both lists, longer where need be, with how many of their rows count, the next component that waits, and how
    many blocks were looked at.
    """
    begin, listed, low, high = 0, len(order), 0, max(blocks.timed, 1)
    if level >= 0:
        begin, low, high = levels[level, _BEGIN], levels[level, _LOW], levels[level, _HIGH]
        listed = levels[level, _END] - begin
    while member_top + listed > len(members):
        members = np.append(members, members)
    while part_top + high - low > len(parts):
        parts = longer(parts)
    right, work = high, 0
    while right > low:
        left = right - 1
        while left > low and state.crossing[left - 1] > 0:
            left -= 1
        first = member_top
        for k in range(listed):
            block = members[begin + k] if level >= 0 else order[k]
            if state.offset[block] < 0 and left <= blocks.first[block] < right:
                members[member_top] = block
                member_top += 1
        work += listed
        if member_top > first:
            if by_total:
                _sort_by_total(blocks, state.total, rank, members[first:member_top])
            part = parts[part_top]
            part[_BEGIN], part[_END], part[_LOW], part[_HIGH] = first, member_top, left, right
            part[_LEFT], part[_FAIL], part[_WAIT] = member_top - first, level, waiting
            waiting = part_top
            part_top += 1
        right = left
    return members, member_top, parts, part_top, waiting, work


@jit_inner
def _enter(level: Int64s, component: Int64s) -> None:
    """Take over to `level` what a component has told before."""
    for column in range(_WAIT + 1):
        level[column] = component[column]


@jit_inner
def _nothing_placed(blocks: SearchArrays, offset: Int64s) -> SearchState:
    """The state before the first placement; `offset` is its column of addresses."""
    n, sections = blocks.size.size, blocks.section_ptr.size - 1
    needs = np.zeros(2 * n + sections, np.int64)
    state = SearchState(
        offset, needs, needs[:n], needs[n : 2 * n], needs[2 * n :], np.zeros(sections, np.int64),
        np.zeros(max(blocks.timed, 1), np.int64), np.zeros(sections, np.int64), np.empty(sections, np.int64),
    )  # fmt: skip
    for b in range(n):
        offset[b] = -1
        state.support[b] = state.reach[b] = _lowest_legal(blocks, b, blocks.residue[b])
    for b in range(n):
        for p in range(blocks.span_ptr[b], blocks.span_ptr[b + 1]):
            for s in range(blocks.span_start[p], blocks.span_end[p]):
                state.total[s] += blocks.size[b]
        for s in range(blocks.first[b], blocks.last[b] - 1):
            state.crossing[s] += 1
        for e in range(blocks.link_ptr[b], blocks.link_ptr[b + 1]):
            if blocks.link[e] > b:
                for s in range(blocks.link_start[e], blocks.link_end[e] - 1):
                    state.crossing[s] += 1
    return state


@jit_inner
def _may_fit(blocks: SearchArrays, state: SearchState, capacity: int) -> bool:
    """Whether each block alone and the bytes of each section are within the capacity."""
    fits = True
    for b in range(len(blocks.size)):
        fits = fits and state.support[b] + blocks.size[b] <= capacity
    for s in range(len(state.total)):
        fits = fits and state.total[s] <= capacity
    return fits


@jit_inner
def _lowest_legal(blocks: SearchArrays, block: int, address: int) -> int:
    """Lowest aligned address from `address` on that is not strictly inside a banned range of the block."""
    modulus, residue = blocks.modulus[block], blocks.residue[block]
    over = (address - residue) % modulus
    if over:
        address += modulus - over
    for k in range(blocks.ban_ptr[block], blocks.ban_ptr[block + 1]):
        if blocks.ban_lo[k] < address < blocks.ban_hi[k]:
            address = blocks.ban_hi[k]
            over = (address - residue) % modulus
            if over:
                address += modulus - over
    return address


@jit_inner
def _lowest_in_section(blocks: SearchArrays, state: SearchState, section: int) -> int:
    """Lowest address that any block of the section still to be placed can have."""
    least = FAR
    for k in range(blocks.section_ptr[section], blocks.section_ptr[section + 1]):
        block = blocks.section_block[k]
        if state.offset[block] < 0 and state.reach[block] < least:
            least = state.reach[block]
    return least


@jit_inner
def _splits(blocks: SearchArrays, crossing: Int64s, block: int) -> bool:
    """Whether the placement of `block` leaves sections that nothing crosses to the next one."""
    begin, end = blocks.first[block], blocks.last[block] - 1
    for e in range(blocks.link_ptr[block], blocks.link_ptr[block + 1]):
        begin, end = min(begin, blocks.link_start[e]), max(end, blocks.link_end[e] - 1)
    return bool((crossing[begin:end] == 0).any())


@jit_inner
def _sort_by_total(blocks: SearchArrays, total: Int64s, rank: Int64s, members: Int64s) -> None:
    """Sort `members` by the most bytes to be placed in a section of theirs, then by rank."""
    most = np.zeros(len(members), np.int64)
    for k in range(len(members)):
        block = members[k]
        for p in range(blocks.span_ptr[block], blocks.span_ptr[block + 1]):
            for s in range(blocks.span_start[p], blocks.span_end[p]):
                most[k] = max(most[k], total[s])
    for k in range(1, len(members)):
        block, bytes_, at = members[k], most[k], k
        while at > 0:
            more = bytes_ - most[at - 1]
            if more < 0 or (more == 0 and rank[members[at - 1]] < rank[block]):
                break
            members[at], most[at] = members[at - 1], most[at - 1]
            at -= 1
        members[at], most[at] = block, bytes_


@jit_inner
def _choose(blocks: SearchArrays, state: SearchState, members: Int64s, choices: Int64s) -> int:
    """Fill `choices` with blocks by address, each below the lowest top that any could have; how many there are."""
    lowest_top = FAR
    for block in members:
        if state.offset[block] < 0 and state.support[block] + blocks.size[block] < lowest_top:
            lowest_top = state.support[block] + blocks.size[block]
    count = 0
    for block in members:
        where = state.support[block]
        if state.offset[block] >= 0 or where >= lowest_top or state.reach[block] != where:
            continue
        at = count
        while at > 0 and state.support[choices[at - 1]] > where:
            choices[at] = choices[at - 1]
            at -= 1
        choices[at] = block
        count += 1
    return count


@jit_inner
def _pass_over(
    blocks: SearchArrays, state: SearchState, capacity: int, block: int, trail: Int64s, used: int
) -> tuple[bool, int, int]:
    """
    Take in that `block` failed where it was: it must go higher, on top of a block still to come.

    Whether that can be within the capacity, the trail's new length, and the work done.
    """
    n = blocks.size.size
    where, least = state.support[block], FAR
    for e in range(blocks.near_ptr[block], blocks.near_ptr[block + 1]):
        other = blocks.near[e]
        if state.offset[other] < 0:
            least = min(least, max(state.reach[other], where) + blocks.size[other])
    work = blocks.near_ptr[block + 1] - blocks.near_ptr[block]
    if least >= FAR:
        return False, used, work
    least = _lowest_legal(blocks, block, least)
    if least + blocks.size[block] > capacity:
        return False, used, work
    before = state.reach[block]
    used = _raise(state.needs, n + block, least, trail, used)
    for p in range(blocks.span_ptr[block], blocks.span_ptr[block + 1]):
        for s in range(blocks.span_start[p], blocks.span_end[p]):
            if state.floor[s] <= before:
                lowest = _lowest_in_section(blocks, state, s)
                work += blocks.section_ptr[s + 1] - blocks.section_ptr[s]
                if state.floor[s] < lowest < FAR:
                    used = _raise(state.needs, 2 * n + s, lowest, trail, used)
                    if max(lowest, where) + state.total[s] > capacity:
                        return False, used, work
    return True, used, work


@jit_inner
def _place(
    blocks: SearchArrays,
    state: SearchState,
    capacity: int,
    block: int,
    placement: int,
    low: int,
    high: int,
    trail: Int64s,
    used: int,
) -> tuple[bool, int, int]:
    """
    Place `block` on its support, as the placement of that number, in a component of the sections `low` to `high`.

    Whether the rest may fit above, the trail's new length, and the work done.
    """
    n = blocks.size.size
    where = state.support[block]
    top = where + blocks.size[block]
    state.offset[block] = where
    _count(blocks, state, block, -1)
    count = _touch(blocks, state, block, placement, FAR, 0)
    work = 0
    for e in range(blocks.near_ptr[block], blocks.near_ptr[block + 1]):
        other = int(blocks.near[e])
        if state.offset[other] >= 0 or state.support[other] >= top:
            continue
        up = _lowest_legal(blocks, other, top)
        used = _raise(state.needs, other, up, trail, used)
        before = state.reach[other]
        if before < up:
            used = _raise(state.needs, n + other, up, trail, used)
            if up + blocks.size[other] > capacity:
                return False, used, blocks.near_ptr[block + 1] - blocks.near_ptr[block]
            count = _touch(blocks, state, other, placement, before, count)
    work += blocks.near_ptr[block + 1] - blocks.near_ptr[block]
    for k in range(count):
        s = state.touched[k]
        lowest = _lowest_in_section(blocks, state, s)
        work += blocks.section_ptr[s + 1] - blocks.section_ptr[s]
        if state.floor[s] < lowest < FAR:
            used = _raise(state.needs, 2 * n + s, lowest, trail, used)
        if max(state.floor[s], where) + state.total[s] > capacity and state.total[s] > 0:
            return False, used, work
    work += high - low
    for s in range(low, min(high, blocks.timed)):
        if max(state.floor[s], where) + state.total[s] > capacity and state.total[s] > 0:
            return False, used, work
    return True, used, work


@jit_inner
def _touch(blocks: SearchArrays, state: SearchState, block: int, placement: int, up_to: int, count: int) -> int:
    """Add the sections of `block` with a floor of at most `up_to` to the `count` ones touched; how many there are."""
    for p in range(blocks.span_ptr[block], blocks.span_ptr[block + 1]):
        for s in range(blocks.span_start[p], blocks.span_end[p]):
            if state.floor[s] <= up_to and state.stamp[s] != placement:
                state.stamp[s] = placement
                state.touched[count] = s
                count += 1
    return count


@jit_inner
def _count(blocks: SearchArrays, state: SearchState, block: int, sign: int) -> None:
    """Count `block` among what is to be placed (1) or no longer (-1)."""
    for p in range(blocks.span_ptr[block], blocks.span_ptr[block + 1]):
        for s in range(blocks.span_start[p], blocks.span_end[p]):
            state.total[s] += sign * blocks.size[block]
    for s in range(blocks.first[block], blocks.last[block] - 1):
        state.crossing[s] += sign
    for e in range(blocks.link_ptr[block], blocks.link_ptr[block + 1]):
        if state.offset[blocks.link[e]] < 0:
            for s in range(blocks.link_start[e], blocks.link_end[e] - 1):
                state.crossing[s] += sign


@jit_inner
def _raise(needs: Int64s, at: int, to: int, trail: Int64s, used: int) -> int:
    """Set a value of `needs` and keep what it was; the trail's new length."""
    trail[used, 0], trail[used, 1] = at, needs[at]
    needs[at] = to
    return used + 1


@jit_inner
def _restore(needs: Int64s, trail: Int64s, used: int, bottom: int) -> int:
    """Go back to where the trail was `bottom` rows long, which is returned."""
    for row in range(used - 1, bottom - 1, -1):
        needs[trail[row, 0]] = trail[row, 1]
    return min(used, bottom)
