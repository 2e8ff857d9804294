"""Plans left behind by MindSpore and CANN read as Plans, with their own figures and a true bound beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.imports import read_plan
from memplan.schema import Tier, load_plan, memory_curve
from memplan.schema.check import violations

DATA = Path(__file__).with_name("data")

GE_LINES = """\
[INFO] GE(1,atc):2024-01-01 [graph_mem_assigner.cc:1] [IMAS]Set g name[a] optype[Conv2D] output[0] offset to [0] \
streamid[0] memtype[2] size[1024] realsize[1000] noalignsize[1000] life time begin[1] life time end[3] \
child[0:0:0:0:0] isref[0] batch[], block_type[x]
[INFO] GE(1,atc):2024-01-01 [graph_mem_assigner.cc:1] [IMAS]Set g name[a] optype[Conv2D] workspace[0] offset to [1024] \
streamid[0] memtype[2] size[512] realsize[512] noalignsize[512] life time begin[1] life time end[1] \
child[0:0:0:0:0] isref[0] batch[], block_type[x]
[INFO] GE(1,atc):2024-01-01 [graph_mem_assigner.cc:1] [IMAS]Set g name[b] optype[Relu] output[0] offset to [1024] \
streamid[0] memtype[2] size[2048] realsize[2000] noalignsize[2000] life time begin[3] life time end[4294967295] \
child[0:0:0:0:0] isref[0] batch[], block_type[x]
[INFO] GE(1,atc):2024-01-01 [graph_mem_assigner.cc:1] [IMAS]Set g name[c] optype[Assign] output[0] offset to [0] \
streamid[0] memtype[2] size[1024] realsize[1000] noalignsize[1000] life time begin[4] life time end[4] \
child[0:0:0:0:0] isref[1] batch[], block_type[x]
[EVENT] GE(1,atc):2024-01-01 [graph_mem_assigner.cc:2] [IMAS]AfterAssignMemory : g memoffset[3072], memtype[2], \
theory_min[3072], zero_copy[0], total_size[3072], no_reuse[3584], streams[1]
"""


def test_a_ge_log_gives_its_addresses(tmp_path: Path) -> None:
    path = tmp_path / "plog.log"
    path.write_text("something else\n" + GE_LINES)
    plan = read_plan(path)
    assert violations(plan) == ()
    assert plan.tiers[0].peak == 3072
    placed = {(plan.ops[p.start].name, p.offset, p.size, p.start, p.end) for p in plan.placements}
    assert placed == {("a", 0, 1024, 1, 4), ("a", 1024, 512, 1, 2), ("b", 1024, 2048, 3, 4)}
    assert {tensor.kind for tensor in plan.tensors} == {"activation", "workspace"}
    assert any("3072 bytes, and 3072 as least" in note for note in plan.notes)
    assert any("1 outputs are references" in note for note in plan.notes)


@pytest.mark.parametrize("offset", ["x", "9" * 5000])
def test_a_broken_ge_line_is_named(offset: str, tmp_path: Path) -> None:
    path = tmp_path / "plog.log"
    path.write_text(GE_LINES.replace("offset to [0]", f"offset to [{offset}]"))
    with pytest.raises(InputError, match="line 1"):
        read_plan(path)


@pytest.mark.parametrize("field", ["size", "somas_offset", "somas_aligned_size", "to_input_index", "output_index"])
@pytest.mark.parametrize("digits", ["9" * 19, "9" * 5000])
def test_a_number_that_no_memory_has_is_named(field: str, digits: str, tmp_path: Path) -> None:
    """Went wrong: a damaged actor set ended in a traceback."""
    path = tmp_path / "0_actor_set_kernel_graph_0.ir"
    path.write_text(re.sub(rf"\b{field}:\d+", f"{field}:{digits}", (DATA / "actor_set_cnn.ir").read_text()))
    with pytest.raises(InputError, match=r"line \d+: not a row of an actor set: '9{28,29}|9{19}"):
        read_plan(path)


def test_static_op_mem_of_a_real_profile(shared_data: Path) -> None:
    table = next((shared_data / "profiles" / "gpt3-2023-handcut").rglob("static_op_mem.csv"))
    plan = read_plan(table)
    rows = [row.split(",") for row in table.read_text().splitlines()[1:]]
    tensors = [row for row in rows if row[1] != "TOTAL"]
    size = {graph: sum(float(row[6]) for row in tensors if row[3] == graph) for graph in {row[3] for row in rows}}
    chosen = max(size, key=lambda graph: (size[graph], graph))
    assert len(plan.tensors) == sum(row[3] == chosen for row in tensors)
    total = next(float(row[6]) for row in rows if row[1] == "TOTAL" and row[3] == chosen)
    assert f"the table's own total is {round(total * 1024)} bytes" in plan.notes
    assert any("graphs left out" in note for note in plan.notes) == (len(size) > 1)
    assert plan.tiers[0].peak == memory_curve(plan).values.max()
    assert all(placement.offset is None and placement.tier is Tier.HBM for placement in plan.placements)


def test_static_op_mem_gives_bytes_and_lifetimes_of_the_largest_graph(tmp_path: Path) -> None:
    path = tmp_path / "static_op_mem.csv"
    path.write_text(
        "Device_id,Op Name,Model Name,Graph ID,Node Index Start,Node Index End,Size(KB)\n"
        "0,a,net,7,0,2,4\n0,b,net,7,1,3,1.5\n0,c,net,7,3,4294967295,2\n0,TOTAL,net,7,0,0,8\n0,d,net,8,0,1,0.5\n"
    )
    plan = read_plan(path)
    assert [(tensor.name, tensor.nbytes) for tensor in plan.tensors] == [("a", 4096), ("b", 1536), ("c", 2048)]
    assert plan.tiers[0].peak == memory_curve(plan).values.max() == 5632
    assert "the table's own total is 8192 bytes" in plan.notes
    assert any("graphs left out" in note and "8" in note for note in plan.notes)
    assert all(placement.offset is None for placement in plan.placements)


def test_static_op_mem_rows_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "static_op_mem.csv"
    path.write_text("Op Name,Node Index Start,Node Index End,Size(KB)\na,0,1,4\nb,5,2,4\n")
    with pytest.raises(InputError, match="row 3"):
        read_plan(path)


def test_the_somas_cache_gives_the_same_addresses_as_the_dump(tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "graph_id": 3,
        "hash_id": "x",
        "reused_memory_size": 1536,
        "tensors": [
            {"tensor_id": 0, "size": 1024, "ori_size": 1000, "lifelong_value": 0, "life_start": 0, "life_end": 1,
             "offset": 0},
            {"tensor_id": 1, "size": 512, "ori_size": 4, "lifelong_value": 0, "life_start": 1, "life_end": 2,
             "offset": 1024},
            {"tensor_id": 2, "size": 512, "ori_size": 4, "lifelong_value": 0, "life_start": 2, "life_end": 2,
             "offset": 0},
        ],
    }  # fmt: skip
    path = tmp_path / "somas_graph_3_x.json"
    path.write_text(json.dumps(document))
    plan = read_plan(path)
    assert violations(plan) == ()
    assert plan.tiers[0].peak == 1536
    assert [(p.offset, p.size, p.start, p.end) for p in plan.placements] == [
        (0, 1024, 0, 2), (1024, 512, 1, 3), (0, 512, 2, 3)
    ]  # fmt: skip
    document["tensors"][1]["offset"] = -1
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"tensors\[1\]"):
        read_plan(path)


@pytest.mark.parametrize("name", ["somas_cnn.ir", "actor_set_cnn.ir"])
def test_a_foreign_plan_can_be_saved_and_compared_like_ours(name: str, tmp_path: Path) -> None:
    plan = read_plan(DATA / name)
    assert violations(plan) == ()
    path = tmp_path / "plan.json"
    plan.save(str(path))
    assert load_plan(path) == plan


def test_files_that_hold_no_plan_are_refused() -> None:
    for name in ("control_flow.mindir", "graph_kernel.ir"):
        with pytest.raises(InputError, match="holds no plan"):
            read_plan(DATA / name)


def test_the_import_command_writes_a_plan_that_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "somas.json"
    assert main(["import", str(DATA / "somas_cnn.ir"), "-o", str(path)]) == 0
    assert main(["show", str(path)]) == 0
    assert "MindSpore SOMAS" in capsys.readouterr().out
    assert main(["import", str(DATA / "control_flow.mindir")]) == 2
