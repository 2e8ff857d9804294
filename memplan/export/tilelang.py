"""
The on-chip addresses of a plan's kernels as TileLang-Ascend takes them: `T.annotate_address({buffer: byte offset})`.

Buffers are named after what they hold (`a_slice_0_l1`). Each distinct layout is one dictionary per memory, and each
kernel says which layout it has. An annotated kernel allocates a buffer under each of the names, with the sizes
given beside them.
"""

from __future__ import annotations

import re
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.schema import OnChipBuffer, OnChipPlan, Plan


def write_tilelang(plan: Plan, path: Path, progress: Progress) -> None:
    """Write a Python module with the constants `LAYOUTS` and `KERNELS`; raises `InputError` for a plan without any."""
    if not plan.onchip:
        raise InputError("the plan says nothing of buffers on chip", remedy="plan the graph again")
    with replacing_file(path) as file:
        file.write(f'"""On-chip buffers of {_comment(plan.origin.graph)} on {_comment(plan.chip)}."""\n\n')
        file.write(
            "# T.annotate_address({name: address}) of each layout; addresses and sizes are bytes.\nLAYOUTS = [\n"
        )
        for done, layout in enumerate(plan.onchip):
            progress(done, len(plan.onchip), "layouts")
            file.write(_layout(done, layout))
        file.write("]\n\n# Of each distinct kernel: its type, its tile, and the number of its layout.\nKERNELS = [\n")
        for tiling in plan.tilings:
            if tiling.onchip is not None:
                tile = {size.name: size.value for size in tiling.tile}
                file.write(f"    ({plan.kernels[tiling.kernel].type!r}, {tile!r}, {tiling.onchip}),\n")
        file.write("]\n")


def _layout(number: int, layout: OnChipPlan) -> str:
    fits = "" if layout.fits else f", {layout.shortfall} bytes too many"
    lines = (
        f"        {_name(buffer)!r}: {buffer.offset},  # {buffer.tier.value}, {buffer.size} bytes"
        for buffer in layout.buffers
    )
    return "\n".join((f"    {{  # {number}{fits}", *lines, "    },\n"))


def _name(buffer: OnChipBuffer) -> str:
    return re.sub(r"[^0-9a-z]+", "_", f"{buffer.name} {buffer.tier.value}".casefold()).strip("_")


def _comment(text: str) -> str:
    """`text` as it may stand in a docstring."""
    return "".join(sign for sign in text if sign.isprintable() and sign not in '"\\')
