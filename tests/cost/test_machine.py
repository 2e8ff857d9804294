"""Every chip has a machine, every constant a source; cores and clock can be those a profile shows."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from memplan.cost import kernel_of_row, machine
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.machine import bandwidths
from memplan.hardware import chip, chips

DOCUMENT = json.loads(resources.files("memplan.cost").joinpath("machine.json").read_text("utf-8"))


@pytest.mark.parametrize("name", [item.name for item in chips()])
def test_every_chip_costs_a_kernel(name: str) -> None:
    core = machine(chip(name))
    for row in (
        ("MatMulV2", "512,512;512,512", "FLOAT16;FLOAT16", "512,512", "FLOAT16"),
        ("Add", "4096,128;4096,128", "FLOAT;FLOAT", "4096,128", "FLOAT"),
    ):
        cost = kernel_cost(kernel_of_row(*row), core)
        assert cost.duration_ns > 1000
        assert cost.duration_ns < 10_000_000


def test_a_die_that_reaches_less_of_its_hbm_streams_so_much_slower() -> None:
    die, whole = machine(chip("910C")), machine(chip("910B2"))
    reached = chip("910C").number("hbm_reached")
    assert reached is not None
    assert reached < 1
    for name in ("hbm_read_share", "hbm_nd2nz_share", "hbm_mixed_share", "hbm_write_share"):
        assert die[name] == pytest.approx(whole[name] * reached)
    assert die.hbm_bytes_per_second == whole.hbm_bytes_per_second
    assert die["l2_to_l1_bytes_per_cycle"] == whole["l2_to_l1_bytes_per_cycle"]


def test_every_constant_has_a_source() -> None:
    for entries in (*DOCUMENT["generations"].values(), DOCUMENT["all_generations"]):
        for name, entry in entries.items():
            if isinstance(entry, dict):
                assert len(entry["source"]) > 20, name


def test_peaks_of_the_machine_are_those_of_the_chip() -> None:
    for item in chips():
        core = machine(item)
        assert core.vector_peak == pytest.approx(item.vector_flops("float32"), rel=1e-9)
        assert core.cube_peak("float16") == pytest.approx(item.cube_flops("float16"), rel=1e-9)
    assert machine(chip("910B3")).cube_peak("float32") == machine(chip("910B3")).cube_peak("float16") / 4
    assert machine(chip("910B3")).cube_peak("float64") is None
    assert machine(chip("310P3")).cube_peak("float32") is None
    assert machine(chip("Ascend310")).cube_peak("float32") is None, "a generation that is not listed is given nothing"


def test_a_generation_inherits_what_it_was_not_measured_for_and_says_so() -> None:
    core = machine(chip("310P3"))
    assert core["mac_issue_cycles"] == DOCUMENT["generations"]["2201"]["mac_issue_cycles"]["value"]
    assert any("no measurements of its own" in source.note for source in core.sources)


def test_a_profile_is_held_against_stated_bandwidths_only() -> None:
    found = bandwidths()
    assert (found["Ascend910B4"], found["Ascend910B3"]) == (0.8e12, 1.6e12)
    assert "Ascend310P5" not in found


def test_a_profile_s_clock_and_cores_replace_the_database_s() -> None:
    core = machine(chip("910B4"), clock_hz=1.65e9, cubes=10)
    assert (core.clock_hz, core.vector_clock_hz, core.cubes, core.vectors) == (1.65e9, 1.65e9, 10, 20)
    assert core.macs["float16"] == 4096


def test_machines_are_equal_when_their_figures_are() -> None:
    assert machine(chip("910B3")) == machine(chip("910B3"))
    assert machine(chip("910B3")) != machine(chip("910B3"), clock_hz=1.0e9)


def test_the_first_generation_reaches_a_share_of_its_peak_by_public_training_figures() -> None:
    """2,115 images/s of ResNet-50, 269 sequences/s of BERT-Large on one 910: 0.2 to 0.25 of its peak in whole steps."""
    core = machine(chip("910A"))
    peak, rate = core.mac_rate("float16"), core.product_rate("float16")
    assert peak is not None
    assert rate is not None
    images, sequences = 2115 * 24.6e9, 269 * 237e9
    for flops in (images, sequences):
        whole_step = flops / (core.cube_peak("float16") or 1)
        assert whole_step < rate / peak < whole_step / 0.34
    assert core.hbm_basis == "third party"
    assert machine(chip("910B3")).product_rate("float16") == machine(chip("910B3")).mac_rate("float16")
