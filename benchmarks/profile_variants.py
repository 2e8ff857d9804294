"""
Other shapes of one labelled profile: cut at either end, several steps, a warm-up before, no shapes, `op_summary`.

Each is written as files, planned `--like` itself and matched, so that nothing of the whole profile is known to it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import memplan
from benchmarks.profile_labels import UNPLANNED_LABELS, labelled_rows, verdicts_off
from memplan.align import align
from memplan.core.errors import InputError
from memplan.requests.plan_request import PlanRequest

Row = Mapping[str, str]

_SHAPES = ("Input Shapes", "Input Data Types", "Input Formats", "Output Shapes", "Output Data Types", "Output Formats")
_LEVEL0 = (
    "Step Id", "Name", "Type", "Accelerator Core", "Start Time(us)", "Duration(us)", "Wait Time(us)", "Block Dim",
)  # fmt: skip
_MSPROF = {
    "Name": "Op Name", "Type": "OP Type", "Accelerator Core": "Task Type", "Start Time(us)": "Task Start Time(us)",
    "Duration(us)": "Task Duration(us)", "Wait Time(us)": "Task Wait Time(us)",
}  # fmt: skip
_STEP_US = 900_000
"""More than the step takes, so that repeated steps don't overlap."""


@dataclass(frozen=True, slots=True)
class ProfileVariant:
    """A profile folder, and which labels its kernels have, in order."""

    name: str
    folder: Path
    labels: tuple[Row, ...]


def profile_variants(profile: Path, labels: Path, scratch: Path) -> Iterator[ProfileVariant]:
    """Variants of the one-step rank `profile` with one label a kernel, each a folder in `scratch`."""
    with next(profile.rglob("kernel_details.csv")).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with labels.open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    metadata = profile / "profiler_metadata.json"
    count = len(rows)

    def variant(name: str, kept: Sequence[Row], labelled: Sequence[Row], columns: Sequence[str]) -> ProfileVariant:
        folder = scratch / f"{name.replace(' ', '-')}_ascend_pt"
        folder.mkdir()
        (folder / "profiler_metadata.json").write_bytes(metadata.read_bytes())
        write_rows(folder / "ASCEND_PROFILER_OUTPUT" / "kernel_details.csv", kept, columns)
        return ProfileVariant(name, folder, tuple(labelled))

    whole = list(rows[0])
    without_step = [name for name in whole if name != "Step Id"]
    yield variant("whole", rows, told, whole)
    for name, begin, end in (
        ("begins in the first way forward", 0.03, 1.0),
        ("begins in the second way forward", 0.3, 1.0),
        ("ends in the second way back", 0.0, 0.6),
        ("ends among the updates", 0.0, 0.9),
        ("begins and ends inside", 0.1, 0.7),
    ):
        window = slice(int(begin * count), int(end * count))
        yield variant(name, rows[window], told[window], whole)
    yield variant("two steps", [*rows, *_later(rows, 1)], [*told, *told], without_step)
    late, early = slice(int(0.55 * count), count), slice(0, int(0.45 * count))
    yield variant(
        "end of a step, two steps, a beginning",
        [*_later(rows[late], -1), *rows, *_later(rows, 1), *_later(rows[early], 2)],
        [*told[late], *told, *told, *told[early]],
        without_step,
    )
    yield variant("no shapes", rows, told, [name for name in whole if name not in _SHAPES])
    planned = [
        row if row["Type"].startswith("hcom") else {**row, "Type": "N/A", "Accelerator Core": "N/A"} for row in rows
    ]
    yield variant("profiling level 0", planned, told, [name for name in _LEVEL0 if name in whole])
    folder = scratch / "PROF_000001_20250101000000000_ABCDEFGH"
    names = [_MSPROF.get(name, name) for name in without_step]
    renamed = [{_MSPROF.get(name, name): value for name, value in row.items()} for row in rows]
    write_rows(folder / "mindstudio_profiler_output" / "op_summary_20250101000000.csv", renamed, names)
    yield ProfileVariant("op_summary of msprof", folder, tuple(told))


def _later(rows: Sequence[Row], steps: int) -> list[Row]:
    """The rows so many steps later; times are decimals of more digits than a float holds."""
    moved: list[Row] = []
    for row in rows:
        whole, _, rest = row["Start Time(us)"].strip().partition(".")
        moved.append({**row, "Start Time(us)": f"{int(whole) + steps * _STEP_US}.{rest}"})
    return moved


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """A table of such `columns` as a profiler writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def variant_table(shared: Path, scratch: Path) -> Iterator[str]:
    """Lines of the table of variants of the labelled profile."""
    config = shared / "configs" / "Qwen--Qwen3-0.6B.json"
    profile = shared / "profiles" / "qwen3-0.6b-train-4rank" / "rank_0_ascend_pt"
    yield (
        "| profile | kernels | compute time right | phase, micro-batch, layer "
        "| communication | unplanned, named | given less right |"
    )
    yield "|---|---|---|---|---|---|---|"
    for variant in profile_variants(profile, shared / "labels" / "qwen3_rank0.csv", scratch):
        try:
            plan = PlanRequest(config, like=str(variant.folder)).plan()
        except InputError as error:
            yield f"| {variant.name} | {len(variant.labels):,} | {error} | | | | |"
            continue
        opened = memplan.open_profile(variant.folder)
        kernels = opened.rank(next(iter(opened.ranks))).kernels()
        assert kernels is not None
        verdicts = labelled_rows(plan, align(plan, kernels), variant.labels)
        compute = [item for item in verdicts if not item.collective]
        total = sum(item.duration_us for item in compute)
        right, scope = (sum(item.duration_us for item in compute if getattr(item, test)) for test in ("right", "scope"))
        exchanged = [item.right for item in verdicts if item.collective]
        named = [item.part for item in verdicts if item.part_label in UNPLANNED_LABELS]
        yield (
            f"| {variant.name} | {len(variant.labels):,} | {right / total:.2%} | {scope / total:.2%} "
            f"| {sum(exchanged)} of {len(exchanged)} | {sum(named)} of {len(named)} | {verdicts_off(verdicts)} |"
        )
