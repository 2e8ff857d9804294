"""How an allocator rounds sizes: data by chip generation, applied to every tensor in HBM."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.resources import table
from memplan.core.units import round_up


@dataclass(frozen=True, slots=True)
class Rounding:
    """`size` becomes a multiple of `alignment` after `pad` bytes were added to it."""

    name: str
    pad: int
    alignment: int
    source: str

    def __call__(self, size: int) -> int:
        """Bytes taken by a tensor of `size` bytes; nothing for an empty one."""
        return round_up(size + self.pad, self.alignment) if size else 0


def rounding(npu_arch: str) -> Rounding:
    """The rule for chips of generation `npu_arch`, such as `2201`."""
    for rule in table("memplan.placement", "allocators.json")["rules"]:
        if npu_arch in rule["npu_arch"] or "*" in rule["npu_arch"]:
            return Rounding(rule["name"], rule["pad"], rule["alignment"], rule["source"])
    raise AssertionError("the last rule matches everything")
