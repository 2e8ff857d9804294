"""The op types of memplan's tables that PyTorch's operators compute."""

from __future__ import annotations

from functools import cache

from memplan.core.resources import table


@cache
def op_type(name: str) -> str:
    """The type of `aten.addmm` or another operator: from the table, else its own name, `_fused_sgd_` as `FusedSgd`."""
    plain = name.rpartition(".")[2] if name.startswith("aten.") else name
    stem = plain.strip("_")
    known = table("memplan.readers.torch", "op_types.json")["types"].get(stem)
    return known or "".join(part.capitalize() for part in stem.split("_"))
