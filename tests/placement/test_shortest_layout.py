"""Where bytes fit but find no addresses, less room is planned with, and the plan is one for the room that was given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.core.errors import CancelledError
from memplan.graph import Graph
from memplan.hardware import chip, host_tier
from memplan.placement.host import HostMoves
from memplan.placement.memory_layout import HbmRoom, MemoryLayout, lay_out_graph
from memplan.placement.rounding import rounding
from memplan.placement.shortest_layout import shortest_layout
from memplan.schema.storages import planned_tensors
from tests.planner.graphs import forward_and_back

LAYERS, SIZE, DURATION_NS = 4, 8 << 20, 100_000
CHIP = chip("910B3")


def laid_out(capacity: int, fills: float) -> MemoryLayout:
    """The layout of a training step for `capacity` bytes where only packings of at most the part `fills` succeed."""
    graph = forward_and_back(LAYERS, SIZE - 32)
    durations, round_size, host = [DURATION_NS] * len(graph.ops), rounding(CHIP.npu_arch or ""), host_tier(CHIP)

    def place(which: Graph, where: HbmRoom, chosen: HostMoves | None, least_ns: int | None) -> MemoryLayout:
        found = lay_out_graph(
            which, planned_tensors(which), durations, where, round_size, host=host, chosen=chosen, least_ns=least_ns
        )
        return found if (where.capacity or 0) <= capacity * fills else replace(found, missing=1)

    kept = [False] * len(graph.ops)
    return shortest_layout(graph, durations, kept, HbmRoom(capacity), round_size, host=host, place=place).layout


@pytest.mark.parametrize("fills", [1.0, 0.985, 0.975, 0.95])
def test_what_finds_no_addresses_is_planned_in_less_room(fills: float) -> None:
    capacity = (LAYERS + 1) * SIZE
    layout = laid_out(capacity, fills)
    assert layout.missing == 0
    assert layout.schedule.moves
    assert layout.hbm.peak <= capacity * fills
    assert layout.room.capacity == capacity
    # What bounds the step is the room that there is, not the one that was planned with.
    assert layout.bound_ns == laid_out(capacity, 1.0).bound_ns


def test_what_finds_none_in_much_less_room_is_said_to_miss_bytes() -> None:
    assert laid_out((LAYERS + 1) * SIZE, 0.5).missing


def test_choosing_moves_can_be_given_up() -> None:
    """Went wrong once: for twelve seconds of planning nobody heard whether it was cancelled."""
    heard: list[str] = []

    def stop(done: int, total: int, what: str) -> None:
        heard.append(what)
        if heard.count("choosing moves") > 1:
            raise CancelledError("cancelled")

    graph, round_size, host = forward_and_back(LAYERS, SIZE - 32), rounding(CHIP.npu_arch or ""), host_tier(CHIP)
    durations = [DURATION_NS] * len(graph.ops)

    def place(which: Graph, where: HbmRoom, chosen: HostMoves | None, least_ns: int | None) -> MemoryLayout:
        return lay_out_graph(
            which, planned_tensors(which), durations, where, round_size, host=host, chosen=chosen, least_ns=least_ns
        )

    with pytest.raises(CancelledError):
        shortest_layout(
            graph, durations, [False] * len(graph.ops), HbmRoom(3 * SIZE), round_size,
            host=host, place=place, progress=stop,
        )  # fmt: skip
    assert heard == ["choosing moves", "choosing moves"]
