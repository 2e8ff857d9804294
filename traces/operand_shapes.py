"""Shapes of a kernel's operands, as profilers print them in one column."""

from __future__ import annotations


def operand_shapes(text: str) -> tuple[tuple[int, ...], ...]:
    """
    The shapes of `4096,1024;1024;`, a scalar's being empty; none where the column is left out (`N/A`).

    A dimension that is no number counts as 1, one that is not known yet (negative) by its amount.
    """
    text = text.strip().strip('"')
    if text in ("", "N/A"):
        return ()
    return tuple(
        tuple(abs(int(dim)) if dim.strip().lstrip("-").isdigit() else 1 for dim in operand.split(",") if dim.strip())
        for operand in text.split(";")
    )
