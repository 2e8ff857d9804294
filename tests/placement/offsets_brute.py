"""A slow and obvious solver of small offset problems, and Hypothesis strategies that draw them."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import strategies as st

from memplan.placement.offsets import Buffer, Pool, Problem


def alive_together(problem: Problem, a: Buffer, b: Buffer) -> bool:
    """Whether two buffers exclude each other by lifetime (or by the conflict list that replaces lifetimes)."""
    if problem.conflicts is not None:
        return (a.id, b.id) in problem.conflicts or (b.id, a.id) in problem.conflicts
    if (a.id, b.id) in problem.exclusions or (b.id, a.id) in problem.exclusions:
        return False
    steps_a = {t for s, e in a.intervals for t in range(s, e)}
    return any(t in steps_a for s, e in b.intervals for t in range(s, e))


def tied(problem: Problem) -> dict[int, int]:
    """A label that buffers tied together by colocations or contiguous groups have in common."""
    label = {b.id: b.id for b in problem.buffers}
    for _ in problem.buffers:
        for group in (*problem.colocations, *problem.contiguous):
            least = min(label[i] for i in group)
            for i in group:
                label[i] = least
    return label


def legal(problem: Problem, place: dict[int, tuple[int, int]], capacity: dict[int, int]) -> bool:
    """Whether all rules that concern the placed buffers hold."""
    by_id = {b.id: b for b in problem.buffers}
    label = tied(problem)
    for i, (pool, offset) in place.items():
        b = by_id[i]
        reserved = next(p.reserved for p in problem.pools if p.id == pool)
        if offset % b.alignment or offset + b.size > capacity[pool] or (b.pin and b.pin != (pool, offset)):
            return False
        if any(offset < end and start < offset + b.size for start, end in reserved if start < end and b.size):
            return False
    for group in problem.colocations:
        if len({place[i] for i in group if i in place}) > 1:
            return False
    for group in problem.contiguous:
        for left, right in pairwise(group):
            both = left in place and right in place
            if both and place[right] != (place[left][0], place[left][1] + by_id[left].size):
                return False
    ids = sorted(place)
    for x, i in enumerate(ids):
        for j in ids[x + 1 :]:
            apart = (i, j) in problem.separations or (j, i) in problem.separations
            together = alive_together(problem, by_id[i], by_id[j]) and label[i] != label[j]
            if (apart or together) and share(by_id[i], place[i], by_id[j], place[j]):
                return False
    return True


def share(a: Buffer, at_a: tuple[int, int], b: Buffer, at_b: tuple[int, int]) -> bool:
    """Whether two placed buffers have a byte in common."""
    bytes_a = {(at_a[0], x) for x in range(at_a[1], at_a[1] + a.size)}
    return any((at_b[0], x) in bytes_a for x in range(at_b[1], at_b[1] + b.size))


def cost(problem: Problem, place: dict[int, tuple[int, int]]) -> int:
    """Reuse penalties paid."""
    by_id = {b.id: b for b in problem.buffers}
    return sum(
        weight
        for (i, j), weight in problem.reuse_penalties.items()
        if not alive_together(problem, by_id[i], by_id[j]) and share(by_id[i], place[i], by_id[j], place[j])
    )


def best(problem: Problem, capacity: dict[int, int]) -> tuple[int, int] | None:
    """Least (reuse cost, sum of peaks) of all placements within `capacity`, by trying every address of every buffer."""
    found: tuple[int, int] | None = None
    buffers = problem.buffers

    def extend(k: int, place: dict[int, tuple[int, int]]) -> None:
        nonlocal found
        if k == len(buffers):
            peaks = [
                max((place[b.id][1] + b.size for b in buffers if place[b.id][0] == p.id), default=0)
                for p in problem.pools
            ]
            value = cost(problem, place), sum(peaks)
            found = value if found is None else min(found, value)
            return
        b = buffers[k]
        for pool, offset in product(b.pools, range(max(capacity.values()) + 1)):
            if offset + b.size > capacity[pool]:
                continue
            place[b.id] = (pool, offset)
            if legal(problem, place, capacity):
                extend(k + 1, place)
            del place[b.id]

    extend(0, {})
    return found


@st.composite
def problems(draw: st.DrawFn, *, penalties: bool = False, pools: int = 1, most: int = 5) -> Problem:
    """Small problems with any mix of constraints; they may contradict themselves."""
    count = draw(st.integers(1, most))
    interval = st.tuples(st.integers(0, 5), st.integers(0, 4)).map(lambda p: (p[0], p[0] + p[1]))
    choice = st.lists(st.integers(0, pools - 1), min_size=1, max_size=pools, unique=True).map(
        lambda p: tuple(sorted(p))
    )
    buffers = []
    for i in range(count):
        spans = draw(st.lists(interval, min_size=1, max_size=2 if draw(st.booleans()) else 1))
        allowed = draw(choice)
        alignment = draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
        pin = (allowed[0], alignment * draw(st.integers(0, 2))) if draw(st.integers(0, 6)) == 0 else None
        buffers.append(Buffer(i, draw(st.integers(0, 4)), tuple(sorted(spans)), alignment, allowed, pin))
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    some = st.lists(st.sampled_from(pairs), max_size=2, unique=True).map(tuple) if pairs else st.just(())
    group = (
        st.lists(st.permutations(range(count)).map(lambda p: tuple(p[:2])), max_size=1).map(tuple)
        if pairs
        else st.just(())
    )
    reserved = draw(st.sampled_from([(), (), ((1, 2),), ((0, 1), (3, 5))]))
    kinds = draw(
        st.sets(st.sampled_from(["colocations", "contiguous", "separations", "exclusions", "conflicts"]), max_size=3)
    )
    return Problem(
        tuple(buffers),
        tuple(Pool(k, f"pool{k}", None, reserved if k == 0 else ()) for k in range(pools)),
        colocations=draw(group) if "colocations" in kinds else (),
        contiguous=draw(group) if "contiguous" in kinds else (),
        separations=draw(some) if "separations" in kinds else (),
        exclusions=draw(some) if "exclusions" in kinds else (),
        conflicts=frozenset(draw(some)) if "conflicts" in kinds else None,
        reuse_penalties={pair: draw(st.integers(1, 3)) for pair in draw(some)} if penalties else {},
    )
