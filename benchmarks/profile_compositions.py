"""
Steps of other stages and micro-batches, put together from the kernels of one labelled profile.

Each layer's kernels and labels are those of one of the profile's; sizes of what is exchanged follow the layers, times
are measured ones. No rule was written with these steps in view but that for kernels that make positions.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import memplan
from benchmarks.profile_labels import UNPLANNED_LABELS, labelled_rows, verdicts_off
from benchmarks.profile_variants import write_rows
from memplan.align import align
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan

Row = Mapping[str, str]

_LAYERS = 14
"""Layers of the labelled stage."""
_OF_LAYERS, _OF_EMBEDDING, _OF_BOTH = 220233216, 155582464, 375815680
"""Elements of its gradients: of all layers, of the embedding with the rest of its bucket, and of both."""
_SENT, _BOTH_WAYS, _SENT_BACK, _COUNT = 441, 884, 1397, 442
"""Rows that send forward, both ways and back, and that count tokens."""


@dataclass(frozen=True, slots=True)
class Composition:
    """A stage of `stages` of a model of so many layers a stage; its first and last rows are the labelled profile's."""

    layers: int
    micro_batches: int
    stages: int
    stage: int

    def __str__(self) -> str:
        """What it is called in the table."""
        return f"stage {self.stage + 1} of {self.stages}, {self.layers} layers, {self.micro_batches} micro-batches"


_COMPOSITIONS = (
    Composition(6, 3, 2, 0),
    Composition(4, 5, 2, 0),
    Composition(6, 4, 4, 1),
    Composition(2, 8, 2, 0),
    Composition(8, 5, 3, 1),
)


class _Step:
    """Kernels and labels of a step, row by row."""

    def __init__(self, kernels: Sequence[Row], labels: Sequence[Row], what: Composition) -> None:
        self.kernels, self.labels, self.what = kernels, labels, what
        self.rows: list[tuple[Row, Row]] = []
        own = _OF_LAYERS * what.layers // _LAYERS
        self.sizes = {
            str(_OF_LAYERS): str(own),
            str(_OF_BOTH): str(own + (0 if what.stage else _OF_EMBEDDING)),
        }

    def run(self) -> list[tuple[Row, Row]]:
        """The whole step: one way forward, one way back in turn, as pipelines do."""
        what, first = self.what, self.what.stage == 0
        self._put(0)
        ahead = what.stages - 1 - what.stage
        if not first:
            for batch in range(ahead):
                self._put(_SENT, batch)
                self._forward(batch)
                self._put(_SENT, batch)
            self._put(_SENT, ahead)
        else:
            for batch in range(ahead):
                self._forward(batch)
                self._put(_SENT, batch)
        for batch in range(ahead, what.micro_batches):
            self._forward(batch)
            self._put(_BOTH_WAYS)
            self._back(batch - ahead)
            if not first:
                more = batch < what.micro_batches - 1
                self._put(_BOTH_WAYS if more else _SENT_BACK, None if more else batch - ahead)
        for batch in range(what.micro_batches - ahead, what.micro_batches):
            self._put(_SENT_BACK, batch)
            self._back(batch)
            if not first:
                self._put(_SENT_BACK, batch)
        self._updates()
        return self.rows

    def _put(self, row: int, batch: int | None = None, layer: int | None = None) -> None:
        kernel, label = dict(self.kernels[row]), dict(self.labels[row])
        for column in ("Input Shapes", "Output Shapes"):
            for old, new in self.sizes.items():
                kernel[column] = kernel[column].replace(old, new)
        if label["micro_batch"] or row in (_BOTH_WAYS, _SENT_BACK):
            label["micro_batch"] = "" if batch is None else str(batch)
        if layer is not None:
            label["layer"] = str(layer + self.what.stage * self.what.layers)
        self.rows.append((kernel, label))

    def _all(self, phase: str, batch: int, of_layer: str = "", layer: int | None = None) -> None:
        """All kernels of a phase and a labelled layer, or of none; later micro-batches are like the second one."""
        key = phase, str(min(batch, 1)), of_layer
        for row, label in enumerate(self.labels):
            if (label["phase"], label["micro_batch"], label["layer"]) == key:
                self._put(row, batch, layer)

    def _forward(self, batch: int) -> None:
        if self.what.stage == 0:
            self._all("embedding", batch)
        self._all("forward", batch)
        for layer in range(self.what.layers):
            self._all("forward", batch, str(self._like(layer)), layer)
        self._put(_COUNT, batch)

    def _back(self, batch: int) -> None:
        for layer in reversed(range(self.what.layers)):
            self._all("backward", batch, str(self._like(layer)), layer)
        if self.what.stage == 0:
            self._all("backward", batch)

    def _like(self, layer: int) -> int:
        """The labelled layer whose kernels one has: of the first or the last ones."""
        return layer if layer % 2 == 0 else _LAYERS - self.what.layers + layer

    def _updates(self) -> None:
        """Exchange and updates: the second half of the layers, and of the embedding where that is."""
        half = self.what.layers // 2
        embedding = False
        for row, label in enumerate(self.labels):
            if label["phase"] not in ("grad_sync", "optimizer", "other") or row in (0, _COUNT) or label["micro_batch"]:
                continue
            shapes = self.kernels[row]["Input Shapes"]
            # Small kernels follow the large one they are of.
            if any(str(size) in shapes for size in (_OF_EMBEDDING, _OF_EMBEDDING // 2)):
                embedding = True
            elif str(_OF_LAYERS) in shapes or label["layer"] or label["phase"] == "other":
                embedding = False
            if embedding and self.what.stage:
                continue
            if label["part"] == "param_gather" and self.what.stage and self.labels[row - 1]["part"] == "param_gather":
                continue  # that of the embedding
            if label["layer"]:
                layer = int(label["layer"]) - _LAYERS + self.what.layers
                if layer >= self.what.layers - half:
                    self._put(row, None, layer)
            else:
                self._put(row)


def composition_table(shared: Path, scratch: Path) -> Iterator[str]:
    """Lines of the table of steps that are put together."""
    profile = shared / "profiles" / "qwen3-0.6b-train-4rank" / "rank_0_ascend_pt"
    kernels, labels = (
        _read(path) for path in (next(profile.rglob("kernel_details.csv")), shared / "labels" / "qwen3_rank0.csv")
    )
    yield (
        "| step | kernels | compute time right | phase, micro-batch, layer "
        "| communication | unplanned, named | given less right |"
    )
    yield "|---|---|---|---|---|---|---|"
    for number, what in enumerate(_COMPOSITIONS):
        rows = _Step(kernels, labels, what).run()
        folder = scratch / f"composed_{number}_ascend_pt"
        folder.mkdir()
        (folder / "profiler_metadata.json").write_bytes((profile / "profiler_metadata.json").read_bytes())
        details = folder / "ASCEND_PROFILER_OUTPUT" / "kernel_details.csv"
        write_rows(details, list(_one_by_one([kernel for kernel, _ in rows])), list(kernels[0]))
        plan = composed_plan(shared, what)
        opened = memplan.open_profile(folder).rank(0).kernels()
        assert opened is not None
        verdicts = labelled_rows(plan, align(plan, opened), [label for _, label in rows])
        compute = [item for item in verdicts if not item.collective]
        total = sum(item.duration_us for item in compute)
        right, scope = (sum(item.duration_us for item in compute if getattr(item, one)) for one in ("right", "scope"))
        unplanned = [item for item in verdicts if item.part_label in UNPLANNED_LABELS]
        exchanged = [item for item in verdicts if item.collective and item.part_label not in UNPLANNED_LABELS]
        yield (
            f"| {what} | {len(rows):,} | {right / total:.2%} | {scope / total:.2%} "
            f"| {sum(item.right for item in exchanged)} of {len(exchanged)} "
            f"| {sum(item.part for item in unplanned)} of {len(unplanned)} | {verdicts_off(verdicts)} |"
        )


def composed_plan(shared: Path, what: Composition) -> Plan:
    """The plan of the model with so many layers, and of that stage."""
    model = load_config(shared / "configs" / "Qwen--Qwen3-0.6B.json")
    model = replace(model, layers=model.layers[: what.layers * what.stages])
    recipe = Recipe(sequence=4096, micro_batch=1, micro_batches=what.micro_batches)
    graph = training_graph(model, Layout(pipeline=what.stages, data=2), recipe, stage=what.stage)
    return memplan.plan(graph, chip="910B4")


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _one_by_one(rows: Sequence[Row]) -> Iterator[Row]:
    """Kernels one after the other, a microsecond apart."""
    start = 1000.0
    for row in rows:
        yield {**row, "Start Time(us)": f"{start:.3f}"}
        start += float(row["Duration(us)"]) + 1.0


__all__ = ["composition_table"]
