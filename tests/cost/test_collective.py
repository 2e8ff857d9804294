"""Collectives cost steps times latency plus bytes over the link, by the cheapest algorithm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.collective import collective_time
from memplan.hardware import Link, chip
from memplan.hardware.chip import SourcedValue

LINK = Link("test", 100e9, 2000, "a test", ("*",))


def test_a_ring_all_reduce_moves_the_buffer_almost_twice() -> None:
    time = collective_time("all_reduce", 1e9, 8, LINK)
    assert time is not None
    assert time.transfer == pytest.approx(2 * 7 / 8 * 1e9 / 100e9 * 1e9)


def test_a_mesh_uses_all_links_of_a_rank() -> None:
    one, seven = (collective_time("all_gather", 1e9, 8, LINK, mesh_links=links) for links in (1, 7))
    assert one is not None
    assert seven is not None
    assert seven.algorithm == "mesh"
    assert seven.transfer == pytest.approx(one.transfer / 7)


def test_small_messages_take_the_algorithm_of_few_steps() -> None:
    time = collective_time("reduce_scatter", 8, 64, LINK)
    assert time is not None
    assert time.algorithm == "mesh"
    assert time.latency == 2000


@pytest.mark.parametrize(
    "kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_receive"]
)
def test_one_rank_needs_no_link_and_an_unknown_rate_gives_no_time(kind: str) -> None:
    alone = collective_time(kind, 1e9, 1, LINK, head_ns=5.0)
    assert alone is not None
    assert alone.duration == 5.0
    assert collective_time(kind, 1e9, 8, Link("x", None, None, "", ("*",))) is None


def test_a_collective_kernel_says_what_it_assumed() -> None:
    data = Operand((1 << 24,), "float16")
    core = machine(chip("910C"))
    eight = kernel_cost(Kernel("AllReduce", (data,), (data,), (("group_size", 8),)), core)
    assert eight.bound == "link"
    assert "ub" in eight.assumed
    two = kernel_cost(Kernel("AllReduce", (data,), (data,), (("group_size", 2),)), core)
    assert two.duration_ns < eight.duration_ns
    assert "ranks is not known" in kernel_cost(Kernel("AllReduce", (data,), (data,)), core).assumed


def test_a_link_that_sources_differ_on_says_how_much_longer_it_may_take() -> None:
    data = Operand((1 << 24,), "float16")
    kernel = Kernel("AllGather", (data,), (data,), (("rank_size", 2),))
    core = machine(chip("910B4"))
    agreed = Link("hccs", 20e9, None, "", ("*",), also=(SourcedValue(19e9, "B/s", "another"),))
    unsure = replace(agreed, also=(SourcedValue(10e9, "B/s", "another"),))
    assert "2.0 times as long" in kernel_cost(kernel, replace(core, interconnect=(unsure,))).assumed
    assert "times as long" not in kernel_cost(kernel, replace(core, interconnect=(agreed,))).assumed


def test_what_adds_up_is_slower_on_a_link_whose_copies_wait_for_the_sums() -> None:
    """Scattering reduced data takes `1 / reduce_share` of gathering it, reducing for all the sum of both."""
    slow = Link("hccs", 20e9, None, "", ("*",), reduce_share=0.8)
    time = {}
    for kind in ("all_gather", "reduce_scatter", "all_reduce"):
        found = collective_time(kind, 1e9, 8, slow)
        assert found is not None
        time[kind] = found.transfer
    assert time["reduce_scatter"] == pytest.approx(time["all_gather"] / 0.8)
    assert time["all_reduce"] == pytest.approx(time["all_gather"] + time["reduce_scatter"])


def test_chips_of_a_server_have_a_link_to_each_other_chip_and_servers_share_one() -> None:
    """One direction of an HCCS link carries 18.4 GB/s; eight chips drive seven of them, sixteen are not joined so."""
    data = Operand((1 << 28,), "float16")
    core = machine(chip("910B3"))
    times = {
        ranks: kernel_cost(Kernel("AllGather", (data,), (data,), (("rank_size", ranks),)), core).duration_ns
        for ranks in (2, 8, 16)
    }
    assert times[2] == pytest.approx(data.nbytes / 2 / 18.4e9 * 1e9, rel=0.01)
    assert times[8] == pytest.approx(data.nbytes / 8 / 18.4e9 * 1e9, rel=0.01)
    assert times[16] == pytest.approx(data.nbytes * 15 / 16 / 18.4e9 * 1e9, rel=0.01)
