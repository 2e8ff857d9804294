"""The host as a tier: its size, its link, and rates as they are given, measured or shared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.hardware import LinkRates, chip, host_tier, link
from memplan.hardware.copy_rates import copy_rates
from memplan.hardware.dmi_bandwidth import read_dmi_rates
from memplan.traces.host_copies import HostCopy

TEXT = """This test will affect the business on this server. Do you want to continue?(Y/N)y
Host to Device Test
Device 0: Ascend 910B3.
-------------------------------------------------------------------
ID   Size(Bytes)   Execute Times   Bandwidth(GB/s)   Elapsed Time(us)
-------------------------------------------------------------------
0    2             5               0.000500          4.00
0    1048576       5               12.500000         83.89
0    33554432      5               24.500000         1369.57
-------------------------------------------------------------------
Device to Host Test
Device 0: Ascend 910B3.
ID   Size(Bytes)   Execute Times   Bandwidth(GB/s)   Elapsed Time(us)
0    33554432      5               22.250000         1508.06
Device to Device Test
ID   Size(Bytes)   Execute Times   Bandwidth(GB/s)   Elapsed Time(us)
0    33554432      5               1200.500000       27.95
"""


def test_rates_of_both_directions_are_read_from_text(tmp_path: Path) -> None:
    file = tmp_path / "bw.log"
    file.write_text(TEXT)
    rates = read_dmi_rates(file)
    assert (rates.to_device, rates.to_host) == (24.5e9, 22.25e9)
    assert rates.latency_ns == 4000
    assert "bw.log" in rates.source


def test_rates_are_read_from_json_with_units_in_text(tmp_path: Path) -> None:
    file = tmp_path / "bw.json"
    rows = [{"size": "536870912", "bandwidth": "42.8 GB/s", "elapsed_time": "12543 us"}]
    file.write_text(json.dumps({"type": "d2h", "bandwidths": [{"device_id": 2, "results": rows}]}))
    assert read_dmi_rates(file) == LinkRates(42.8e9, None, None, "ascend-dmi --bw, bw.json")


def test_the_slowest_device_counts_where_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bw.log"
    rows = "".join(f"{device} 33554432 5 {rate} 100.0\n" for device, rate in ((0, "24.0"), (1, "18.0"), (2, "25.0")))
    file.write_text("Host to Device Test\n" + rows)
    assert read_dmi_rates(file).to_device == 18e9
    assert read_dmi_rates(file, device=2).to_device == 25e9


NO_RATES = ("", "nothing of the kind", "{", '{"bandwidths": []}', "Device to Device Test\n0 1 2 3 4",
            '{"size": ' + "9" * 5000 + "}", '{"type": "d2h", "bandwidth": Infinity}',
            '{"type": "h2d", "bandwidth": NaN}',
            '{"type": "h2d", "bandwidth": 1e999}', "Host to Device Test\n0 1 2 " + "9" * 5000 + " 4")  # fmt: skip


@pytest.mark.parametrize("text", NO_RATES)
def test_what_tells_no_rate_is_one_clear_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bw.log"
    file.write_text(text)
    with pytest.raises(InputError, match="bw"):
        read_dmi_rates(file)


def test_no_link_is_free_of_latency() -> None:
    for name in ("910B3", "910C", "310P3"):
        tier = host_tier(chip(name))
        assert tier.out_link.latency_ns
        assert tier.in_link.latency_ns
    assert link(chip("910B3"), "h2d").latency_ns is None


def test_dies_of_one_host_share_its_memory() -> None:
    tier = host_tier(chip("910C"))
    assert tier.in_link.bytes_per_second == 442e9 / 16
    assert tier.out_link.bytes_per_second == link(chip("910C"), "d2h").bytes_per_second
    assert any("16 dies" in note for note in tier.notes)
    # What was given or measured is what one die gets.
    assert host_tier(chip("910C"), rates=LinkRates(to_device=50e9)).in_link.bytes_per_second == 50e9


def test_sizes_and_rates_are_above_nothing() -> None:
    with pytest.raises(InputError):
        host_tier(chip("910B3"), capacity=0)
    with pytest.raises(InputError):
        host_tier(chip("910B3"), rates=LinkRates(to_host=0.0))


def test_rates_of_measured_copies_leave_their_latency_out() -> None:
    """Copies that take 3 us and 25 (40) GB/s tell exactly that, whatever their sizes and an odd one."""
    copies = [HostCopy("h2d", size, 3000 + size / 25) for size in (1 << 20, 5 << 20, 19_267_584)]
    copies += [HostCopy("d2h", size, 3000 + size / 40) for size in (2 << 20, 64 << 20)]
    copies += [HostCopy("h2d", 8, 3000.0), HostCopy("d2h", 256, 3000.0), HostCopy("h2d", 1 << 20, 9e9)]
    rates = copy_rates(copies, "run")
    assert rates.to_host == pytest.approx(40e9, rel=1e-3)
    assert rates.to_device == pytest.approx(25e9, rel=0.02)
    assert rates.latency_ns == 3000
    assert rates.source.startswith("run: 2 d2h, 4 h2d copies of 1.00 MiB to 64.00 MiB")


def test_a_direction_that_was_not_measured_stays_the_chips_own() -> None:
    rates = copy_rates([HostCopy("h2d", 1 << 24, 1e6)], "run")
    tier = host_tier(chip("910B3"), rates=rates)
    assert (rates.to_host, rates.latency_ns) == (None, None)
    assert tier.in_link.bytes_per_second == pytest.approx((1 << 24) / 1e-3)
    assert tier.out_link == host_tier(chip("910B3")).out_link


def test_copies_too_small_to_tell_a_rate_are_refused() -> None:
    with pytest.raises(InputError, match="none of its 1 copies"):
        copy_rates([HostCopy("h2d", 4096, 2000.0)], "run")
