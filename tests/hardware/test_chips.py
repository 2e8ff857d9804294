"""The chip database: names, figures with sources, and what the vendor's own arithmetic says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.cost import machine
from memplan.hardware import Chip, chip, chips, link, links


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "value" in node and "source" in node:
            yield ".".join(path), node
        else:
            for name, child in node.items():
                yield from leaves(child, (*path, name))


def test_every_value_of_the_collection_is_kept_with_its_source_and_what_disagrees(shared_data: Path) -> None:
    collection = json.loads((shared_data / "hardware" / "chips.json").read_text(encoding="utf-8"))
    assert {item.name for item in chips()} >= set(collection)
    for name, soc in collection.items():
        values = chip(name).values
        for key, entry in leaves(soc):
            if key == "hbm_bw_vendor" and entry["value"] is None:
                continue  # what no source states is estimated
            if name == "Ascend910_95" and key in ("cube_tflops_fp8", "cube_tflops_fp4"):
                continue  # its platform file has no such shape of the cube
            key = {"hbm_bw_vendor": "hbm_bw"}.get(key, key)
            kept = [values[key], *values[key].also]
            for told in (entry, *entry.get("also", ())):
                value = tuple(told["value"]) if isinstance(told["value"], list) else told["value"]
                source = re.sub(r", \w+ id \d+\)", ")", told["source"])  # a number to look up says nothing to others
                assert any((v.value, v.unit, v.source) == (value, told["unit"], source) for v in kept), key


def test_the_table_is_made_for_hands_one_figure_a_line() -> None:
    lines = resources.files("memplan.hardware").joinpath("chips.json").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) < 600
    figures = sum(len(record["figures"]) for record in table("memplan.hardware", "chips.json")["chips"].values())
    assert figures < len(lines) < 2 * figures


def edited(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Chip, ...]:
    """The chips of a table in which `changes` are records of its own."""
    document = table("memplan.hardware", "chips.json")
    changed = {**document, "chips": {**document["chips"], **changes}}
    monkeypatch.setattr("memplan.hardware.database.table", lambda _package, _name: changed)
    return chips.__wrapped__()


def test_one_record_adds_a_chip_that_can_be_computed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    new = {"like": "Ascend910B4", "figures": {"cube_freq": {"value": 1600, "source": "{ini}"}, "hbm_bw": None}}
    found = {item.name: item for item in edited(monkeypatch, Ascend910B5=new)}["Ascend910B5"]
    assert (found.family, found.aic_count, found.l2_bytes, found.clock_hz) == ("Ascend910B", 20, 96 << 20, 1.6e9)
    assert found.values["cube_freq"].source.endswith("cann/Ascend910B5.ini")
    assert found.values["cube_tflops_fp16"].value == 262.14
    assert (found.values["hbm_bw"].basis, found.hbm_bytes_per_second) == ("estimate", 20 * 32 * 1.6e9)
    assert machine(found).cubes == 20
    assert found.fabric is not None
    assert found.fabric.link == "hccs"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"like": "Ascend910B9"}, "X.like: names 'Ascend910B9'"),
        ({"like": "X"}, "X.like: names 'X'"),
        ({"like": "Ascend910B4", "figures": {"speed": {"value": 1, "source": "s"}}}, "X.speed: has no unit"),
        ({"like": "Ascend910B4", "figures": {"l2_size": {"value": 1}}}, "X.l2_size: lacks a value or a source"),
        ({"like": "Ascend910B4", "figures": {"l2_size": {"value": 1, "source": "{inn}"}}}, "X.l2_size: rests on {inn}"),
        (
            {"like": "Ascend910B4", "figures": {"l2_size": {"value": 1, "source": "s", "nte": ""}}},
            "X.l2_size: holds nte",
        ),
        ({"figures": {}}, "X.Short_SoC_version: is missing"),
    ],
)
def test_a_bad_record_is_named(monkeypatch: pytest.MonkeyPatch, record: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"chips.json: {said}")):
        edited(monkeypatch, X=record)


@pytest.mark.parametrize("name", [item.name for item in chips()])
def test_every_chip_has_one_hbm_rate_that_says_what_it_rests_on(name: str) -> None:
    """Went wrong once: chip and machine each had an HBM rate of their own, and they differed."""
    found = chip(name)
    stated = found.values["hbm_bw"]
    assert isinstance(stated.value, int | float)
    assert found.hbm_bytes_per_second == machine(found).hbm_bytes_per_second == stated.value * 1e9
    assert stated.source
    assert stated.basis in ("", "third party", "estimate")
    assert (stated.basis != "") == any(stated.source == source.note for source in machine(found).sources)


def test_the_910b4_has_half_the_bandwidth_by_a_third_party_and_what_its_file_says_beside_it() -> None:
    stated = chip("910B4").values["hbm_bw"]
    assert (stated.value, stated.unit, stated.basis) == (800, "GB/s", "third party")
    assert [(other.value, other.basis) for other in stated.also] == [(960, "estimate")]


def test_a_910b4_1_has_the_bandwidth_that_two_pages_tell_and_not_that_of_a_910b4() -> None:
    """Went wrong once: it had the rate of the part with half the memory, and tokens came out up to 70 % too slow."""
    stated = chip("910B4-1").values["hbm_bw"]
    assert (stated.value, stated.unit, stated.basis) == (1600, "GB/s", "third party")
    assert [(other.value, other.basis) for other in stated.also] == [(1500, "third party"), (960, "estimate")]


@pytest.mark.parametrize("name", ["910B3", "Ascend910B3", "910b3", "ascend910b3", "Ascend 910B3", "Ascend-910B3"])
def test_names_are_found_whatever_the_case_and_with_or_without_the_vendor(name: str) -> None:
    assert chip(name).name == "Ascend910B3"


def test_every_chip_is_found_under_its_full_name() -> None:
    assert all(chip(item.name) is item for item in chips())


@pytest.mark.parametrize(
    ("name", "listed"),
    [("910B", "910B4-1"), ("A3", "910_9382"), ("950PR", "950PR_9589"), ("310P", "310P3"), ("910_93", "910_9362")],
)
def test_a_name_that_several_chips_share_lists_them(name: str, listed: str) -> None:
    with pytest.raises(InputError, match=listed):
        chip(name)


def test_an_unknown_name_shows_the_nearest_ones() -> None:
    with pytest.raises(InputError, match="nearest: 910B3"):
        chip("910B33")
    with pytest.raises(InputError, match="no chip is called 'H100'"):
        chip("H100")


def test_a_910c_package_is_two_dies_and_stands_for_one_of_them() -> None:
    die = chip("910C")
    assert (die.name, die.aic_count, die.hbm_bytes) == ("Ascend910_9382", 24, 64 * 2**30)


def test_figures_of_the_910b3() -> None:
    found = chip("910B3")
    assert (found.aic_count, found.aiv_count, found.clock_hz) == (20, 40, 1_800_000_000)
    assert (found.hbm_bytes, found.l2_bytes, found.l1_bytes, found.ub_bytes) == (2**36, 192 * 2**20, 2**19, 196_608)
    assert (found.l0a_bytes, found.l0b_bytes, found.l0c_bytes) == (65_536, 65_536, 131_072)
    assert found.hbm_bytes_per_second == 1.6e12
    assert [other.value for other in found.values["hbm_bw"].also] == [1800]
    assert found.hbm_reserved_bytes == 3350 * 2**20


def test_both_readings_of_the_usable_ub_are_kept() -> None:
    usable = chip("910B3").values["ub_usable"]
    assert usable.value == 188_160
    assert [(other.value, "dsa-solver" in other.source) for other in usable.also] == [(188_416, True)]


def test_cube_and_vector_rates_are_apart_and_add_up_to_what_the_vendor_prints() -> None:
    die = chip("910_9382")
    cube, vector = die.cube_flops("float16"), die.vector_flops("float16")
    assert cube == 24 * 16**3 * 2 * 1.8e9
    assert vector == 48 * 128 * 2 * 1.8e9
    assert round((cube + vector) / 1e12) == die.values["vendor_tflops_fp16_per_die"].value == 376


def test_rates_agree_with_the_table_the_platform_files_give(shared_data: Path) -> None:
    collection = json.loads((shared_data / "hardware" / "chips.json").read_text(encoding="utf-8"))
    for name, soc in collection.items():
        found = chip(name)
        assert found.cube_flops("float16") == pytest.approx(soc["cube_tflops_fp16"]["value"] * 1e12, abs=6e9)
        assert found.vector_flops("float32") == pytest.approx(soc["vector_tflops_fp32"]["value"] * 1e12, abs=6e8)


def test_what_the_cube_does_not_take_or_no_source_gives_is_none() -> None:
    assert chip("910A").cube_flops("bfloat16") is None
    assert chip("910B3").cube_flops("float32") is None
    assert chip("910B3").cube_flops("int4") == 20 * 16 * 64 * 16 * 2 * 1.8e9
    assert chip("950PR_9589").cube_flops("int4") is None
    assert chip("950PR_9589").cube_flops("float8_e4m3") == 32 * 16 * 32 * 16 * 2 * 1.65e9
    assert chip("910B3").vector_flops("bfloat16") is None
    assert chip("910A").hbm_bytes is None


def test_what_joins_the_dies_and_how_dispatch_is_sized_are_the_chip_s_own_with_a_source() -> None:
    assert {item.family for item in chips() if item.fabric} == {"Ascend910B", "Ascend910_93", "Ascend950"}
    assert all(len(item.fabric.source) > 20 for item in chips() if item.fabric)
    assert all(len(item.dispatch_buffer.source) > 20 for item in chips() if item.dispatch_buffer)
    server = chip("910B3").fabric
    assert server is not None
    assert (server.rate(8), server.rate(9)) == (128.8e9, 24.4e9)
    assert server.rate(2) == pytest.approx(18.4e9)
    assert chip("310P3").fabric is None
    rules = {item.family: item.dispatch_buffer.rule for item in chips() if item.dispatch_buffer}
    assert rules == {"Ascend910B": "full mesh", "Ascend910_93": "two halves"}


def test_reserved_hbm_is_never_guessed_from_a_die_of_another_size() -> None:
    assert chip("910_9382").hbm_reserved_bytes == 2**36 - 65_452_113_920
    assert chip("910_9363").hbm_bytes == 32 * 2**30
    assert chip("910_9363").hbm_reserved_bytes is None


def test_a_910b4_1_has_the_memory_that_its_driver_shows() -> None:
    """Went wrong once: its platform file has that of a 910B4, so that models were refused that ran on it."""
    size = chip("910B4-1").values["hbm_size"]
    assert (size.value, [other.value for other in size.also]) == (64 * 2**30, [chip("910B4").hbm_bytes])
    assert chip("910B4-1").hbm_reserved_bytes == 3200 * 2**20


def test_links_carry_their_source_and_a_familys_own_figure_goes_first() -> None:
    for item in chips():
        assert {entry.name for entry in links(item)} >= {"d2h", "h2d"}
        assert all(entry.source for entry in links(item))
    assert (link(chip("910B3"), "d2h").bytes_per_second, link(chip("910B3"), "h2d").bytes_per_second) == (20e9, 55e9)
    assert link(chip("910C"), "d2h").also[0].value == 151e9
    assert link(chip("910C"), "ub").latency_ns == 1200
    with pytest.raises(InputError, match="it has d2h, h2d"):
        link(chip("310P3"), "hccs")
