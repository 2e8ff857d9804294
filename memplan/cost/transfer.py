"""
Time of moving bytes between GM and the cores: HBM and L2 shares, sizes of instructions, rows, alignment.

`T = first touch / HBM rate + rest / L2 rate` is the vendor's own formula (asc-devkit matmul README); what each rate is
worth for a path and a size of transfer comes from `machine.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memplan.cost.machine import Machine
from memplan.cost.operand_rows import alignment_share

Path = Literal["ub", "l1"]


@dataclass(frozen=True, slots=True)
class Copy:
    """
    Bytes that all cores together move in (`read`, of which `hot` are in L2) and out (`written`, of which `kept` stay
    in L2), in instructions of `instruction` bytes with rows of `row` contiguous bytes that begin `stride` bytes apart.

    `written_run` are the bytes of a run that is written, 0 for runs as long as they can be. Rows that lie `apart` bring
    the rest of their lines from HBM along. Where L2 was `clean` before, what is read and what is written pass at one
    rate, whether or not it goes on to HBM.
    """

    read: float
    written: float = 0.0
    hot: float = 0.0
    kept: float = 0.0
    instruction: float = 32768.0
    row: float = 32768.0
    stride: float = 0.0
    path: Path = "ub"
    converts: bool = False
    written_run: float = 0.0
    apart: bool = False
    clean: bool = False


@dataclass(frozen=True, slots=True)
class CopyTime:
    """Nanoseconds of a copy: reads alone, writes alone, and both together, which share the way to GM."""

    read_ns: float
    write_ns: float
    together_ns: float
    hbm_bytes: float


def copy_time(copy: Copy, machine: Machine, cores: int) -> CopyTime:
    """How long `cores` cores take for `copy`; `cores` are vector cores for the path to UB, cube cores for L1."""
    clock = machine.vector_clock_hz if copy.path == "ub" else machine.clock_hz
    port = machine["l2_to_ub_bytes_per_cycle" if copy.path == "ub" else "l2_to_l1_bytes_per_cycle"] * clock * cores
    hbm = machine.hbm_bytes_per_second
    from_hbm, to_hbm = max(copy.read - copy.hot, 0.0), max(copy.written - copy.kept, 0.0)
    if copy.apart and 0 < copy.row < machine["alignment"]:
        from_hbm *= machine["alignment"] / copy.row
    read_rate = hbm * machine["hbm_nd2nz_share" if copy.converts else "hbm_read_share"]
    write_rate = hbm * machine["hbm_write_share"]
    out = copy.written if copy.clean else to_hbm
    both = min(from_hbm, out) > machine["mixed_traffic_from"] * (from_hbm + out)
    shared_rate = hbm * machine["hbm_mixed_share"] if both else 0.0
    size = max(copy.instruction, machine["small_transfer_from_bytes"])
    lost = size / (size + machine["small_transfer_bytes"])
    lost *= alignment_share(copy.stride, machine, "unaligned_ub_share" if copy.path == "ub" else "unaligned_l1_share")
    # What one core can have under way bounds it, whatever the others do.
    own = machine["hbm_core_bytes_per_cycle" if copy.converts else "hbm_core_nz_bytes_per_cycle"] * clock * cores
    read = (from_hbm / min(read_rate, port, own) + min(copy.hot, copy.read) / port) / lost
    into_l2 = machine["l2_write_bytes_per_cycle"] * machine.vector_clock_hz * cores
    write = copy.written / into_l2 if copy.kept >= copy.written else max(copy.written / into_l2, to_hbm / write_rate)
    if copy.written_run:
        runs = copy.written / copy.written_run * machine["mte2_instruction_cycles"] / clock / cores
        write = max(write, copy.written / into_l2 + runs)
    issue = copy.read / max(copy.instruction, 1) * machine["mte2_instruction_cycles"] / clock / cores
    if copy.converts:
        rows = copy.read / max(copy.row, 1) * machine["mte2_row_cycles"] / clock / cores
        issue = max(issue, rows)
    # On a core's own way an instruction's cycles come on top of those of its bytes, beside what all cores share.
    read = max(read, copy.read / port / lost + issue)
    beside = (from_hbm + to_hbm) / shared_rate / lost if shared_rate else 0.0
    if machine["l2_one_way"] or (shared_rate and not copy.clean):
        beside += min(copy.hot, copy.read) / port / lost + min(copy.kept, copy.written) / into_l2
    together = max(beside, read, write)
    return CopyTime(read * 1e9, write * 1e9, together * 1e9, from_hbm + to_hbm)


def dirty_in_l2(read: float, written: float, l2_bytes: int, *, bypass: bool = False) -> float:
    """
    Bytes that a kernel run alone leaves in L2 unwritten: the last that passed through it, reads included unless they
    bypass it. `read` is what is not written over.
    """
    through = written + (0.0 if bypass else read)
    return written if through <= l2_bytes else l2_bytes * written / through
