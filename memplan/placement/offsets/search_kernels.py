"""
Compiled depth-first search for a placement within a capacity.

Any placement can be pushed down until each block rests on address 0 or on another block; the search visits only such
placements, blocks in ascending order of address (Moffitt, MiniMalloc, ASPLOS 2023, names the ideas behind `support`,
sections, dominance and the split in time). Beyond that, a block that was passed over at the address it could have taken
must end up on top of a block still to come, which raises what it and its sections need: `floor` of the least of these.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.core.jit import jit
from memplan.placement.offsets.blocks import FAR
from memplan.placement.offsets.work_limit import FOUND, GAVE_UP, INFEASIBLE


@jit
def lowest_legal(block: int, address: int, modulus: Any, residue: Any, ban_ptr: Any, ban_lo: Any, ban_hi: Any) -> int:
    """Lowest aligned address from `address` on that is not strictly inside a banned range of the block."""
    over = (address - residue[block]) % modulus[block]
    if over:
        address += modulus[block] - over
    for k in range(ban_ptr[block], ban_ptr[block + 1]):
        if ban_lo[k] < address < ban_hi[k]:
            address = ban_hi[k]
            over = (address - residue[block]) % modulus[block]
            if over:
                address += modulus[block] - over
    return address


@jit
def lowest_in_section(section: int, section_ptr: Any, section_block: Any, offset: Any, reach: Any) -> int:
    """Lowest address that any block of the section still to be placed can have."""
    least = FAR
    for k in range(section_ptr[section], section_ptr[section + 1]):
        block = section_block[k]
        if offset[block] < 0 and reach[block] < least:
            least = reach[block]
    return least


@jit
def search_offsets(
    capacity: int,
    size: Any,  # int64[n]
    modulus: Any,
    residue: Any,
    ban_ptr: Any,  # int64[n + 1] into ban_lo, ban_hi: addresses a block can never have, ascending
    ban_lo: Any,
    ban_hi: Any,
    first: Any,  # int64[n]: the block's hull in sections [first, last) of time
    last: Any,
    span_ptr: Any,  # int64[n + 1] into span_start, span_end: the sections that hold the block
    span_start: Any,
    span_end: Any,
    near_ptr: Any,  # int64[n + 1] into near: blocks that exclude each other
    near: Any,  # int32
    link_ptr: Any,  # int64[n + 1] into three arrays: exclusions that bridge sections [link_start, link_end)
    link: Any,
    link_start: Any,
    link_end: Any,
    section_ptr: Any,  # int64[sections + 1] into section_block
    section_block: Any,  # int32
    timed: int,  # sections before this one follow each other in time; the others are cliques
    order: Any,  # int64[n]: which blocks to try first
    rank: Any,  # int64[n]: the same where as many bytes are alive
    by_total: int,  # whether to sort by the bytes still to be placed whenever the problem splits
    most_nodes: int,
    most_work: int,
    offset: Any,  # int64[n], written
    counts: Any,  # int64[2], written: nodes and work
) -> int:
    """FOUND with `offset` filled, INFEASIBLE when proven, GAVE_UP at a limit."""
    n, sections = size.size, section_ptr.size - 1
    counts[0] = counts[1] = n
    support = np.empty(n, np.int64)  # lowest address on what is placed
    reach = np.empty(n, np.int64)  # lowest address the block can still have, at least its support
    total = np.zeros(sections, np.int64)  # bytes still to be placed
    floor = np.zeros(sections, np.int64)  # nothing to be placed can be lower
    crossing = np.zeros(max(timed, 1), np.int64)  # blocks to be placed and links from section s to s + 1
    most_total = np.zeros(n, np.int64)
    for b in range(n):
        offset[b] = -1
        support[b] = lowest_legal(b, residue[b], modulus, residue, ban_ptr, ban_lo, ban_hi)
        reach[b] = support[b]
        if support[b] + size[b] > capacity:
            return INFEASIBLE
        for p in range(span_ptr[b], span_ptr[b + 1]):
            for s in range(span_start[p], span_end[p]):
                total[s] += size[b]
        for s in range(first[b], last[b] - 1):
            crossing[s] += 1
        for e in range(link_ptr[b], link_ptr[b + 1]):
            if link[e] > b:
                for s in range(link_start[e], link_end[e] - 1):
                    crossing[s] += 1
    for s in range(sections):
        if total[s] > capacity:
            return INFEASIBLE
    # What to restore on the way back: indices below n are support, below 2n reach, above that floor.
    trail_at, trail_was, trail = (
        np.empty(4096 + 4 * (n + sections), np.int32),
        np.empty(4096 + 4 * (n + sections), np.int64),
        0,
    )
    # Lists of blocks, one for each component (a range of sections that no block to be placed leaves).
    members, member_top = np.empty(2 * n + 64, np.int32), 0
    room = 2 * sections + 64
    part_from, part_to, part_low, part_high = (
        np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64),
    )  # fmt: skip
    part_level, part_next, part_top = np.empty(room, np.int64), np.empty(room, np.int64), 0
    # One level for each placed block: its component, the choices there and where to go when all have failed.
    depth = n + 2
    level_from, level_to = np.empty(depth, np.int64), np.empty(depth, np.int64)
    level_low, level_high = np.empty(depth, np.int64), np.empty(depth, np.int64)
    level_left, level_fail, level_wait = np.empty(depth, np.int64), np.empty(depth, np.int64), np.empty(depth, np.int64)
    trail_enter, trail_place = np.empty(depth, np.int64), np.empty(depth, np.int64)
    level_member, level_part = np.empty(depth, np.int64), np.empty(depth, np.int64)
    choice_from, choice_to, choice_at = np.zeros(depth, np.int64), np.zeros(depth, np.int64), np.zeros(depth, np.int64)
    choices = np.empty(4 * n + 64, np.int32)
    stamp, stamps = np.zeros(sections, np.int64), 0
    touched = np.empty(sections, np.int64)
    nodes = work = 0
    level, failed = -1, False  # level -1 stands for the whole problem before anything is placed
    while True:
        if not failed:
            # A block was placed at `level` (or none yet): go on in its component, or split it, or take up the next one.
            waiting = level_wait[level] if level >= 0 else -1
            low = level_low[level] if level >= 0 else 0
            high = level_high[level] if level >= 0 else max(timed, 1)
            split = level < 0
            if level >= 0:
                block = choices[choice_at[level]]
                begin, end = first[block], last[block] - 1
                for e in range(link_ptr[block], link_ptr[block + 1]):
                    begin, end = min(begin, link_start[e]), max(end, link_end[e] - 1)
                for s in range(begin, end):
                    if crossing[s] == 0:
                        split = True
                        break
            new = level + 1
            if not split and level_left[level] > 1:
                level_from[new], level_to[new] = level_from[level], level_to[level]
                level_low[new], level_high[new] = low, high
                level_left[new], level_fail[new], level_wait[new] = level_left[level] - 1, level, waiting
            else:
                if split:
                    size_now = level_to[level] - level_from[level] if level >= 0 else n
                    if member_top + size_now > members.size:
                        members = np.append(members, np.empty(members.size + size_now, np.int32))
                    if part_top + high - low > part_from.size:
                        grow = np.empty(part_from.size + high - low, np.int64)
                        part_from, part_to = np.append(part_from, grow), np.append(part_to, grow)
                        part_low, part_high = np.append(part_low, grow), np.append(part_high, grow)
                        part_level, part_next = np.append(part_level, grow), np.append(part_next, grow)
                    right = high
                    while right > low:
                        left = right - 1
                        while left > low and crossing[left - 1] > 0:
                            left -= 1
                        begin = member_top
                        for k in range(size_now):
                            block = members[level_from[level] + k] if level >= 0 else order[k]
                            if offset[block] < 0 and left <= first[block] < right:
                                members[member_top] = block
                                member_top += 1
                        work += size_now
                        if member_top > begin:
                            if by_total:
                                for k in range(begin, member_top):
                                    block = members[k]
                                    most_total[block] = 0
                                    for p in range(span_ptr[block], span_ptr[block + 1]):
                                        for s in range(span_start[p], span_end[p]):
                                            most_total[block] = max(most_total[block], total[s])
                                for k in range(begin + 1, member_top):
                                    block, at = members[k], k
                                    while at > begin:
                                        other = members[at - 1]
                                        more = most_total[block] - most_total[other]
                                        if more < 0 or (more == 0 and rank[other] < rank[block]):
                                            break
                                        members[at] = other
                                        at -= 1
                                    members[at] = block
                            part_from[part_top], part_to[part_top] = begin, member_top
                            part_low[part_top], part_high[part_top] = left, right
                            part_level[part_top], part_next[part_top] = level, waiting
                            waiting = part_top
                            part_top += 1
                        right = left
                if waiting < 0:
                    counts[0], counts[1] = nodes, work
                    return FOUND
                level_from[new], level_to[new] = part_from[waiting], part_to[waiting]
                level_low[new], level_high[new] = part_low[waiting], part_high[waiting]
                level_left[new] = part_to[waiting] - part_from[waiting]
                level_fail[new], level_wait[new] = part_level[waiting], part_next[waiting]
            level = new
            # The choices at this level: blocks by address, each below the lowest top that any block could have.
            nodes += 1
            if nodes > most_nodes or work > most_work:
                counts[0], counts[1] = nodes, work
                return GAVE_UP
            trail_enter[level], level_member[level], level_part[level] = trail, member_top, part_top
            begin, end = level_from[level], level_to[level]
            work += 2 * (end - begin)
            lowest_top = FAR
            for k in range(begin, end):
                block = members[k]
                if offset[block] < 0 and support[block] + size[block] < lowest_top:
                    lowest_top = support[block] + size[block]
            start = choice_to[level - 1] if level > 0 else 0
            stop = start
            if stop + end - begin > choices.size:
                choices = np.append(choices, np.empty(choices.size + end - begin, np.int32))
            for k in range(begin, end):
                block = members[k]
                where = support[block]
                if offset[block] >= 0 or where >= lowest_top or reach[block] != where:
                    continue
                at = stop
                while at > start and support[choices[at - 1]] > where:
                    choices[at] = choices[at - 1]
                    at -= 1
                choices[at] = block
                stop += 1
            choice_from[level], choice_to[level], choice_at[level] = start, stop, start
        elif choice_at[level] < choice_to[level]:
            # The choice just undone failed: its block must go higher, on top of a block still to come.
            block = choices[choice_at[level]]
            where = support[block]
            least = FAR
            for e in range(near_ptr[block], near_ptr[block + 1]):
                other = near[e]
                if offset[other] < 0:
                    top = max(reach[other], where) + size[other]
                    if top < least:
                        least = top
            work += near_ptr[block + 1] - near_ptr[block]
            possible = least < FAR
            if possible:
                least = lowest_legal(block, least, modulus, residue, ban_ptr, ban_lo, ban_hi)
                possible = least + size[block] <= capacity
            if possible:
                if trail + sections + 1 > trail_at.size:
                    trail_at, trail_was = np.append(trail_at, trail_at), np.append(trail_was, trail_was)
                before = reach[block]
                trail_at[trail], trail_was[trail] = n + block, before
                trail += 1
                reach[block] = least
                for p in range(span_ptr[block], span_ptr[block + 1]):
                    for s in range(span_start[p], span_end[p]):
                        if floor[s] <= before:
                            lowest = lowest_in_section(s, section_ptr, section_block, offset, reach)
                            work += section_ptr[s + 1] - section_ptr[s]
                            if floor[s] < lowest < FAR:
                                trail_at[trail], trail_was[trail] = 2 * n + s, floor[s]
                                trail += 1
                                floor[s] = lowest
                                if max(lowest, where) + total[s] > capacity:
                                    possible = False
                                    break
                    if not possible:
                        break
            choice_at[level] = choice_at[level] + 1 if possible else choice_to[level]
        failed = False
        if choice_at[level] < choice_to[level]:
            block = choices[choice_at[level]]
            where = support[block]
            trail_place[level] = trail
            while trail + 2 * (n + sections) > trail_at.size:
                trail_at, trail_was = np.append(trail_at, trail_at), np.append(trail_was, trail_was)
            offset[block] = where
            stamps += 1
            count = 0
            for p in range(span_ptr[block], span_ptr[block + 1]):
                for s in range(span_start[p], span_end[p]):
                    total[s] -= size[block]
                    stamp[s] = stamps
                    touched[count] = s
                    count += 1
            for s in range(first[block], last[block] - 1):
                crossing[s] -= 1
            for e in range(link_ptr[block], link_ptr[block + 1]):
                if offset[link[e]] < 0:
                    for s in range(link_start[e], link_end[e] - 1):
                        crossing[s] -= 1
            for e in range(near_ptr[block], near_ptr[block + 1]):
                other = near[e]
                if offset[other] >= 0 or support[other] >= where + size[block]:
                    continue
                up = lowest_legal(other, where + size[block], modulus, residue, ban_ptr, ban_lo, ban_hi)
                trail_at[trail], trail_was[trail] = other, support[other]
                trail += 1
                support[other] = up
                before = reach[other]
                if before < up:
                    trail_at[trail], trail_was[trail] = n + other, before
                    trail += 1
                    reach[other] = up
                    if up + size[other] > capacity:
                        failed = True
                        break
                    for p in range(span_ptr[other], span_ptr[other + 1]):
                        for s in range(span_start[p], span_end[p]):
                            if floor[s] <= before and stamp[s] != stamps:
                                stamp[s] = stamps
                                touched[count] = s
                                count += 1
            work += near_ptr[block + 1] - near_ptr[block]
            if not failed:
                for k in range(count):
                    s = touched[k]
                    lowest = lowest_in_section(s, section_ptr, section_block, offset, reach)
                    work += section_ptr[s + 1] - section_ptr[s]
                    if floor[s] < lowest < FAR:
                        trail_at[trail], trail_was[trail] = 2 * n + s, floor[s]
                        trail += 1
                        floor[s] = lowest
                    if max(floor[s], where) + total[s] > capacity and total[s] > 0:
                        failed = True
                        break
            if not failed:
                for s in range(level_low[level], min(level_high[level], timed)):
                    if max(floor[s], where) + total[s] > capacity and total[s] > 0:
                        failed = True
                        break
                work += level_high[level] - level_low[level]
            if not failed:
                continue
            target = level
        else:
            target = level_fail[level]
            while trail > trail_enter[level]:
                trail -= 1
                at = trail_at[trail]
                if at < n:
                    support[at] = trail_was[trail]
                elif at < 2 * n:
                    reach[at - n] = trail_was[trail]
                else:
                    floor[at - 2 * n] = trail_was[trail]
            level -= 1
        if target < 0:
            counts[0], counts[1] = nodes, work
            return INFEASIBLE
        # Undo the placements of all levels down to the one that can still choose differently.
        while True:
            block = choices[choice_at[level]]
            bottom = trail_place[level] if level == target else trail_enter[level]
            while trail > bottom:
                trail -= 1
                at = trail_at[trail]
                if at < n:
                    support[at] = trail_was[trail]
                elif at < 2 * n:
                    reach[at - n] = trail_was[trail]
                else:
                    floor[at - 2 * n] = trail_was[trail]
            offset[block] = -1
            for p in range(span_ptr[block], span_ptr[block + 1]):
                for s in range(span_start[p], span_end[p]):
                    total[s] += size[block]
            for s in range(first[block], last[block] - 1):
                crossing[s] += 1
            for e in range(link_ptr[block], link_ptr[block + 1]):
                if offset[link[e]] < 0:
                    for s in range(link_start[e], link_end[e] - 1):
                        crossing[s] += 1
            member_top, part_top = level_member[level], level_part[level]
            if level == target:
                break
            level -= 1
        failed = True
