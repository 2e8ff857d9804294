"""Where everything lies in HBM, as a drawing."""

from __future__ import annotations

from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.placement.offsets import Buffer, Pool, Problem
from memplan.placement.offsets.problem import Assignment, PoolResult
from memplan.placement.offsets.svg import to_svg
from memplan.schema import Plan, Tier


def write_svg(plan: Plan, path: Path, progress: Progress) -> None:
    """
    Draw the placements in HBM: steps to the right, addresses upwards.

    Raises `InputError` for a plan without addresses.
    """
    use = plan.tier(Tier.HBM)
    placed = [item for item in plan.placements if item.tier is Tier.HBM and item.offset is not None]
    if use is None or not placed:
        raise InputError("the plan has no addresses in HBM to draw", remedy="export it as csv or html")
    progress(0, 1, "drawing")
    names = {tensor.index: tensor.name for tensor in plan.tensors}
    buffers = tuple(
        Buffer(id=number, size=item.size, intervals=((item.start, item.end),), name=names[item.tensor])
        for number, item in enumerate(placed)
    )
    problem = Problem(buffers=buffers, pools=(Pool(0, f"HBM of {plan.chip}", use.capacity),))
    offsets = {number: (0, item.offset or 0) for number, item in enumerate(placed)}
    result = PoolResult(0, use.peak, use.lower_bound, use.lower_bound_method)
    drawn = Assignment(
        placed=offsets,
        pools=(result,),
        reuse_cost=0,
        within_capacity=plan.fits,
        shortfall=plan.missing_bytes,
        method=plan.allocator,
    )
    with replacing_file(path) as file:
        file.write(to_svg(problem, drawn))
