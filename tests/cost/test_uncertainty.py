"""Intervals of kernel times hold as they say, by class, for sources that played no part in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cleared_kernels import SUMMED_UP, cleared_kernels
from benchmarks.kernel_intervals import (
    BASE,
    FIRST,
    OWN,
    REGISTERS,
    SEVERAL,
    ClassInterval,
    Measured,
    class_intervals,
    first_factor,
    held_by_source,
    inside,
    written,
)
from benchmarks.kernel_ratios import INTERVALS, Ratio, first_seen_ratios, kernel_ratios
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.uncertainty import UNKNOWN_CLASS, class_interval, interval_class, product_class, time_interval
from memplan.hardware import chip

CORE = machine(chip("910B3"))
BIG = Operand((4096, 4096), "bfloat16")
SEVERAL_KERNELS = 10
"""Different kernels from which on a share of them says something."""


@pytest.fixture(scope="module")
def ratios(shared_data: Path) -> list[Ratio]:
    return kernel_ratios(shared_data)


@pytest.fixture(scope="module")
def intervals(ratios: list[Ratio]) -> dict[str, dict[str, ClassInterval]]:
    measured = Measured.of(ratios)
    return {generation: class_intervals(measured, generation) for generation in OWN}


@pytest.mark.parametrize(("generation", "classes", "most"), [(BASE, 8, 0.88), (REGISTERS, 5, 0.92)])
def test_four_of_five_kernels_of_each_class_are_inside_without_their_source(
    intervals: dict[str, dict[str, ClassInterval]], generation: str, classes: int, most: float
) -> None:
    """
    And not many more: what holds nine of ten where four of five are said is too wide.

    Of 3510 a class has three to six sources, each of which weighs so much that the last step of a tail takes in more.
    """
    told = {name: one for name, one in intervals[generation].items() if len(one.left_out) >= SEVERAL}
    assert len(told) >= classes
    for name, one in told.items():
        kernels, sources = one.held()
        assert min(kernels, sources) >= 0.8 - 1e-9, name
        assert min(kernels, sources) < most, name
        assert generation != BASE or kernels < most, name


def test_four_of_five_kernels_of_all_classes_are_inside_without_their_source(
    intervals: dict[str, dict[str, ClassInterval]],
) -> None:
    """Classes of few sources as well, and operators that no constant and no formula had in view when they were seen."""
    unseen = {each.source for each in cleared_kernels() if each.half == SUMMED_UP}
    for generation, classes in intervals.items():
        told = held_by_source(classes)
        for sources in (set(told), set(told) & unseen):
            shares = [share for source, (_, share) in told.items() if source in sources]
            assert 0.7 <= sum(shares) / len(shares) <= 0.9, generation


def test_four_of_five_kernels_of_a_profile_are_inside_without_it(
    intervals: dict[str, dict[str, ClassInterval]],
) -> None:
    """A source of fewer kernels than that may be a single operator, which goes wrong as a whole or not at all."""
    operators = {each.source for each in cleared_kernels()}
    for classes in intervals.values():
        for source, (kernels, share) in held_by_source(classes).items():
            if kernels >= SEVERAL_KERNELS and source not in operators:
                assert share >= 0.7, source
            if kernels >= 2 * SEVERAL_KERNELS:
                assert share >= 0.75, source
            if kernels >= 10 * SEVERAL_KERNELS:
                assert share <= 0.88, source


def test_a_source_weighs_once_however_many_kernels_it_has() -> None:
    """One profile with a thousand kernels speaks for itself alone; so does a kernel that ran a thousand times."""
    kernels = [Kernel("Mul", (BIG,), (Operand((size, 64), "bfloat16"),)) for size in range(1, 42)]
    few = [Ratio(BASE, f"source {place}", "elementwise", 1.0 + place / 10, kernels[0]) for place in range(4)]
    many = [Ratio(BASE, "source 0", "elementwise", 1.0, kernel) for kernel in kernels]
    once, often = (class_intervals(Measured.of(own), BASE)["elementwise"] for own in (few, [*few, *many, *many]))
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=0.02)


def test_the_shipped_intervals_are_those_of_the_measurements(
    intervals: dict[str, dict[str, ClassInterval]],
) -> None:
    shipped = json.loads(INTERVALS.read_text("utf-8"))["generations"]
    made = written(intervals)
    assert {generation: set(classes) for generation, classes in shipped.items()} == {
        generation: set(classes) for generation, classes in made.items()
    }
    for generation, classes in made.items():
        for name, entry in classes.items():
            assert shipped[generation][name] == pytest.approx(entry, abs=0.01), name


def test_an_interval_holds_the_prediction_of_its_kernel_and_says_what_it_rests_on() -> None:
    kernel = Kernel("MatMul", (BIG, BIG), (BIG,))
    cost = kernel_cost(kernel, CORE)
    found = time_interval(kernel, cost, CORE)
    assert found is not None
    assert found.low_ns < cost.duration_ns < found.high_ns
    assert (found.class_name, found.share) == ("products", 0.8)
    assert found.kernels >= 70
    assert found.sources >= 12


@pytest.mark.parametrize(
    "name",
    [
        "FFN", "MatmulAllReduce", "NMSWithMask", "DynamicRNN", "AlltoAllvGroupedMatMul", "RoiAlign", "TreeEnsemble",
        "EmbeddingHashTableLookupOrInsert", "MoeDistributeCombineAddRmsNorm", "FusionOp_Conv2D_RoiAlign",
    ],
)  # fmt: skip
def test_what_is_counted_in_part_has_no_interval(name: str) -> None:
    """Went wrong once: a kernel of two products, or with an exchange behind one, had the interval of its first."""
    kernel = Kernel(name, (BIG, BIG), (BIG,))
    cost = kernel_cost(kernel, CORE)
    assert cost.assumed
    assert time_interval(kernel, cost, CORE) is None


def test_what_the_model_does_not_know_has_no_interval() -> None:
    kernel = Kernel("NobodyKnowsThis", (BIG,), (BIG,))
    cost = kernel_cost(kernel, CORE)
    assert interval_class(kernel, cost) == UNKNOWN_CLASS
    assert time_interval(kernel, cost, CORE) is None


@pytest.mark.parametrize("name", ["910A", "310P3"])
def test_a_generation_of_which_nothing_was_measured_has_a_wider_one(name: str) -> None:
    other = class_interval("products", 100_000, machine(chip(name)))
    here = class_interval("products", 100_000, CORE)
    assert other is not None
    assert here is not None
    assert other.widened
    assert other.low_ns < here.low_ns < here.high_ns < other.high_ns


def test_the_first_generation_is_as_much_wider_as_its_profiles_as_first_seen_need(
    intervals: dict[str, dict[str, ClassInterval]], ratios: list[Ratio]
) -> None:
    """
    By what the model said before it had been held against them; as predicted now more are inside.

    Three networks choose the factor, in steps of 0.05: without one of them it is two steps off at most.
    """
    shipped = json.loads(INTERVALS.read_text("utf-8"))["wider"]["value"][FIRST]
    assert shipped == first_factor(intervals[BASE])
    for name, own in first_seen_ratios().items():
        without = first_factor(intervals[BASE], own[0].source)
        assert abs(without - shipped) < 0.101, name
        assert 0.75 <= inside(intervals[BASE], own, without)[1] <= 0.95, name
    assert inside(intervals[BASE], [ratio for ratio in ratios if ratio.generation == FIRST], shipped)[1] <= 0.95


@pytest.mark.parametrize(("dtype", "columns"), [("int8", 4096), ("float32", 4096), ("bfloat16", 4096), ("int8", 1)])
def test_a_product_told_by_its_sizes_has_the_class_of_its_kernel(dtype: str, columns: int) -> None:
    """Went wrong once: products of whole numbers had the interval of ordinary ones where no kernel was told."""
    factors = Operand((4096, 8192), dtype), Operand((8192, columns), dtype)
    kernel = Kernel("MatMul", factors, (Operand((4096, columns), dtype),))
    assert product_class([dtype], columns) == interval_class(kernel, kernel_cost(kernel, CORE))


def test_a_short_kernel_has_the_interval_of_short_ones_whatever_it_does() -> None:
    found = class_interval("products", 3000, CORE)
    assert found is not None
    assert found.class_name == "short"


def test_a_class_that_a_generation_lacks_is_that_of_910b() -> None:
    found, base = (class_interval("reductions", 100_000, machine(chip(name))) for name in ("Ascend950PR_9589", "910B3"))
    assert found == base
    own, other = (class_interval("elementwise", 100_000, machine(chip(name))) for name in ("Ascend950PR_9589", "910B3"))
    assert own is not None
    assert other is not None
    assert own.high_ns < other.high_ns
