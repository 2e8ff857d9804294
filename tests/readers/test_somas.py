"""SOMAS: its own figures are reproduced from its dump, and under its own conflicts ours is never larger."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from memplan.graph import Graph
from memplan.graph.antichain import heaviest_antichain
from memplan.graph.conflicts import precedence
from memplan.imports import read_plan
from memplan.placement.offsets.problem import Buffer, Problem
from memplan.placement.offsets.solve import assign
from memplan.readers import read_graph
from memplan.readers.mindspore.somas import SomasDump, offsets_by_storage, parse_somas, somas_graph
from memplan.schema.check import violations

SAMPLES = ("llama_train", "llama_infer", "cnn", "mlp", "cnn_train")


@dataclass(frozen=True)
class Compiled:
    """Dumps of one compilation and what SOMAS printed about it."""

    folder: Path
    printed: dict[str, int]

    @property
    def dump(self) -> SomasDump:
        path = self.folder / "CPU_somas_tensor_offset_0.ir"
        return parse_somas(path.read_text(), path)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compiled]:
    """A sample compiled with SOMAS on, in a process of its own; each once."""
    pytest.importorskip("mindspore")
    seen: dict[str, Compiled] = {}

    def run(name: str) -> Compiled:
        if name not in seen:
            folder = tmp_path_factory.mktemp(name)
            script = Path(__file__).with_name("mindspore_dump.py")
            log = subprocess.run(
                [sys.executable, str(script), name, str(folder)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "GLOG_v": "1"},
            ).stderr
            figures = {
                key: int(value)
                for key, value in re.findall(r"(\(Upper Bound\)|\(Lower Bound\)|\(Allocate Size\)):\s+(\d+)", log)
            }
            seen[name] = Compiled(folder, figures)
        return seen[name]

    return run


@pytest.mark.mindspore
@pytest.mark.parametrize("name", SAMPLES)
def test_bounds_and_result_are_those_that_somas_prints(name: str, compiled: Callable[[str], Compiled]) -> None:
    found = compiled(name)
    assert found.dump.upper_bound == found.printed["(Upper Bound)"]
    assert found.dump.printed_lower_bound == found.printed["(Lower Bound)"]
    assert found.dump.result == found.dump.total == found.printed["(Allocate Size)"]


@pytest.mark.mindspore
@pytest.mark.parametrize("name", SAMPLES)
def test_ours_is_never_larger_under_the_same_conflicts(name: str, compiled: Callable[[str], Compiled]) -> None:
    found = compiled(name)
    graph = somas_graph(found.dump)
    order = precedence(graph)
    pairs = order.pairs()
    _somas_keeps_apart(graph, found.dump, pairs)
    size = dict(zip(order.storages, order.nbytes, strict=True))
    problem = Problem(
        buffers=tuple(
            Buffer(id=item, size=size[item], intervals=((0, 1),), alignment=512)
            for item in order.storages
            if size[item]
        ),
        conflicts=frozenset((a, b) for a, b in pairs if size[a] and size[b]),
    )
    ours = assign(problem).pools[0].peak
    bound = heaviest_antichain(order)
    print(f"{name}: ours {ours}, SOMAS {found.dump.result}, {bound.method} {bound.nbytes}, "
          f"SOMAS prints {found.printed['(Lower Bound)']} as lower bound")  # fmt: skip
    assert bound.nbytes <= ours <= found.dump.result


def _somas_keeps_apart(graph: Graph, dump: SomasDump, pairs: frozenset[tuple[int, int]]) -> None:
    """The relation is no stricter than SOMAS's own: its answer is valid under it."""
    offset = offsets_by_storage(dump, graph)
    for a, b in pairs:
        if a in offset and b in offset:
            end_a, end_b = offset[a] + graph.tensors[a].nbytes, offset[b] + graph.tensors[b].nbytes
            assert end_a <= offset[b] or end_b <= offset[a]


@pytest.mark.mindspore
@pytest.mark.parametrize("name", SAMPLES)
def test_the_plan_in_the_dump_is_valid_and_states_the_true_bound(
    name: str, compiled: Callable[[str], Compiled]
) -> None:
    found = compiled(name)
    plan = read_plan(found.folder / "CPU_somas_tensor_offset_0.ir")
    assert violations(plan) == ()
    assert plan.tiers[0].peak == found.printed["(Allocate Size)"]
    assert plan.tiers[0].lower_bound == heaviest_antichain(precedence(somas_graph(found.dump))).nbytes
    actors = read_plan(next((found.folder / "actor_set").glob("0_*kernel_graph_0.ir")))
    assert violations(actors) == ()
    assert actors.tiers[0].peak == plan.tiers[0].peak


@pytest.mark.mindspore
@pytest.mark.parametrize("name", SAMPLES)
def test_kernel_graph_runs_in_the_order_of_its_actors(name: str, compiled: Callable[[str], Compiled]) -> None:
    folder = compiled(name).folder
    actors = read_graph(next((folder / "actor_set").glob("0_*kernel_graph_0.ir")))
    kernels = read_graph(next(folder.glob("graph_build_0_*.ir")))
    names = [op.name for op in actors.ops]
    known = set(names)
    assert [op.name for op in kernels.ops if op.name in known] == names
