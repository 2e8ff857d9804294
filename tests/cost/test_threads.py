"""Kernels of threads that go to memory on their own: what they wait for, and what they read."""

from __future__ import annotations

import pytest

from memplan.cost import Kernel, KernelCost, Operand, kernel_cost, machine
from memplan.cost.kernels.thread_rules import thread_rule
from memplan.hardware import chip

A5 = machine(chip("950PR_9589"))
START, ACCESS = A5["thread_start_ns"], A5["thread_access_ns"]


def _loss(rows: int, classes: int, *, summed: bool) -> KernelCost:
    one, each = Operand((1,), "float32"), Operand((rows,), "float32")
    inputs = Operand((rows, classes), "float32"), Operand((rows,), "int64"), Operand((classes,), "float32")
    return kernel_cost(Kernel("NLLLoss", inputs, (one if summed else each, one)), A5)


def test_a_picked_loss_waits_for_three_accesses_whatever_the_vocabulary() -> None:
    """Went wrong once: all scores were read, forty times what it takes."""
    small, large = (_loss(4096, classes, summed=False) for classes in (512, 16384))
    assert small.duration_ns == pytest.approx(large.duration_ns, rel=0.05)
    assert small.duration_ns == pytest.approx(A5.head_ns(0, 8) + START + 3 * ACCESS, rel=0.1)
    assert large.gm_bytes < 4096 * 16384


def test_a_sum_over_all_elements_takes_a_second_start_and_a_step_for_each_halving_of_the_cores() -> None:
    each, summed = (_loss(16 * 512, 1024, summed=summed) for summed in (False, True))
    assert summed.duration_ns - each.duration_ns == pytest.approx(START + 4 * 6 * ACCESS, rel=0.05)
    one = _loss(512, 1024, summed=True)
    assert one.duration_ns == pytest.approx(A5.head_ns(0, 1) + 2 * START + 3 * ACCESS, rel=0.1)


def test_threads_take_rounds() -> None:
    """Of twice as many elements as all threads of all cores each takes two."""
    indices = [Operand((1024 * A5.vectors * rounds,), "int32") for rounds in (8, 16)]
    table = Operand((1024,), "float16")
    costs = [kernel_cost(Kernel("GatherElements", (table, each), (each,)), A5) for each in indices]
    assert costs[1].duration_ns - costs[0].duration_ns == pytest.approx(8 * 3 * ACCESS, rel=0.1)


def test_elements_that_are_gathered_bring_their_blocks_alone() -> None:
    """Went wrong once: of a token's score in each row of a vocabulary all of it was read, 8 ms for 3 us."""
    places, one = Operand((4096, 1), "int64"), Operand((4096, 1), "float32")
    small, large = (
        kernel_cost(Kernel("GatherElementsV2", (Operand((4096, size), "float32"), places), (one,)), A5)
        for size in (1024, 131072)
    )
    assert small.duration_ns == large.duration_ns
    assert large.gm_bytes < 64 * 4096


def test_gradients_of_an_image_are_added_up_one_after_the_other() -> None:
    """A window of 25 takes 26 accesses; what is as large is copied, without threads."""
    image, same = Operand((1, 3, 5, 5), "float32"), Operand((2, 8, 32, 32), "float32")
    grown = kernel_cost(Kernel("ResizeNearestNeighborV2Grad", (Operand((1, 3, 25, 25), "float32"),), (image,)), A5)
    assert grown.duration_ns == pytest.approx(A5.head_ns(0, 64) + START + 26 * ACCESS, rel=0.05)
    copied = kernel_cost(Kernel("ResizeNearestNeighborV2Grad", (same,), (same,)), A5)
    assert copied.duration_ns < A5.head_ns(0, 64) + START


@pytest.mark.parametrize("generation", ["2201", "1001", ""])
def test_other_generations_start_no_threads(generation: str) -> None:
    assert thread_rule("NLLLoss", generation) is None
    assert thread_rule("NLLLoss", "3510") is not None
