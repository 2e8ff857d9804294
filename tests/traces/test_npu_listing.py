"""The chip of a run by the listing of the driver's tools that lies beside its profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.traces import open_profile
from memplan.traces.logs.npu_listing import listed_chip
from memplan.traces.notes import Notebook

HEAD = """+------------------------------------------------------------------------------------------------+
| npu-smi 25.2.0                   Version: 25.2.0                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
ROW = """| {number}     {name:<19} | OK            | 91.2        41                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3318 / 65536         |
+===========================+===============+====================================================+
"""


def info(*names: str) -> str:
    return HEAD + "".join(ROW.format(number=number, name=name) for number, name in enumerate(names))


BOARD = "\tNPU ID                         : 3\n\tChip ID                        : 0\n\tChip Name : Ascend 910B1\n"
MAP = "\tNPU ID     Chip ID     Chip Logic ID     Chip Name\n\t0    0    0    Ascend 310P3\n\t0   1   -   Mcu\n"


@pytest.mark.parametrize(
    ("text", "chip"),
    [
        (info("910B3", "910B3"), "910B3"),
        (info("910B4-1"), None),
        (info("Ascend910"), None),
        (info("910B3", "310P3"), None),
        (BOARD, "910B1"),
        (MAP, "310P3"),
        ("910B3 is a fine chip\n| a | b |\n", None),
        ("", None),
    ],
)
def test_a_listing_names_the_chip_where_it_is_one(tmp_path: Path, text: str, chip: str | None) -> None:
    path = tmp_path / "listing.txt"
    path.write_text(text)
    assert listed_chip(path, Notebook(tmp_path)) == chip


@pytest.mark.parametrize("name", ["npu-smi.txt", "node1_npu_smi_info.txt", "run.log"])
def test_a_listing_beside_a_profile_tells_its_chip(tmp_path: Path, name: str) -> None:
    (tmp_path / "kernel_details.csv").write_text("Name,Type,Start Time(us),Duration(us)\nMatMul,MatMul,1,2\n")
    assert open_profile(tmp_path).rank(0).chip is None
    (tmp_path / name).write_text(info("910B2"))
    assert open_profile(tmp_path).rank(0).chip == "910B2"
