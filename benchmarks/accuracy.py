"""
Every public figure at hand beside its prediction, in one table: `python -m benchmarks.accuracy [-o PAGE]`.

A row says where its figure was published, on which chip, whether a constant of the model came from it, and, where
constants came from no row of its publication, the error again as that of a source left out. Medians are over rows from
which no constant came. The page is generated; a test predicts its rows again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.aicore import PROFILES, kernels_of, time_weighted, utilisation_rows
from benchmarks.aicore_published import published_rows
from benchmarks.cleared_kernels import CLEARED_HEADER, cleared_table
from benchmarks.engine_hosts import measured_engine_rows
from benchmarks.engine_rows import engine_rows, refused_rows
from benchmarks.first_generation import (
    LENET,
    OLDER,
    RESNET,
    RESNET_BACK,
    first_generation_rows,
    first_generation_total,
    told_rows,
    told_total,
)
from benchmarks.first_generation_tables import table_totals
from benchmarks.framework_memory import framework_rows
from benchmarks.markdown import section, table
from benchmarks.measured_row import MeasuredRow
from benchmarks.public_kernels import public_kernel_rows
from benchmarks.serving import exchange_rows, serving_rows
from benchmarks.training_rows import logged_steps, published_steps, training_rows
from benchmarks.training_step_rows import training_step_rows

HERE = Path(__file__).parent
SOURCES = HERE / "accuracy_sources.json"
HEADER = ("kind", "source", "chip", "what", "predicted", "measured", "unit", "error", "a constant came from it",
          "error, its source left out")  # fmt: skip
SERVED = ("decode", "prefill", "served by vllm-ascend", "served by MindIE")
TOGETHER = ", ".join(SERVED)
"""Kinds of rows that are times of serving, which have a line of their own besides."""
_NONE = "-"


def accuracy_rows(data: Path, *, serving_every: int = 1) -> Iterator[MeasuredRow]:
    """
    Every public row, kind by kind; of serving rows, which take longest, each `serving_every`-th alone, and where that
    is not 1 none of those by which the host's time of a step was found.

    `data` is the shared data folder.
    """
    validation, configs = data / "hardware" / "validation.json", data / "configs"
    told = json.loads(SOURCES.read_text("utf-8"))
    before = (
        *published_rows(validation),
        *public_kernel_rows(),
        *first_generation_rows(data),
        *told_rows(OLDER),
        *told_rows(LENET),
        *told_rows(RESNET),
        *told_rows(RESNET_BACK),
        *utilisation_rows(data),
        *exchange_rows(validation),
    )
    serving = (
        *serving_rows(validation, configs, every=serving_every),
        *(measured_engine_rows(engine_rows(data)) if serving_every == 1 else ()),
        *refused_rows(data),
    )
    behind = (
        *training_rows(configs),
        *framework_rows(configs),
        *training_step_rows(data),
        *logged_steps(configs),
        *published_steps(configs),
    )

    def is_source(row: MeasuredRow) -> bool:
        return row.is_source or any(item["kind"] == row.kind and item["words"] in row.name for item in told["rows"])

    # Rows of serving, some of which may be left out, have their publications told.
    gave = {_publication(row) for row in (*before, *behind) if is_source(row)}
    for row in (*before, *serving, *behind):
        shared = _publication(row) in gave or any(item["source"] in row.source for item in told["sources"])
        yield replace(row, is_source=is_source(row), shares_source=shared)


def _publication(row: MeasuredRow) -> tuple[str, str]:
    """What a constant is taken from: no constant of memory makes a time, so that these are apart."""
    return row.kind.split(":")[0], row.source


def figure(value: float | None) -> str:
    """A figure with four digits that count."""
    return _NONE if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def signed(share: float | None) -> str:
    """A signed share as text."""
    return _NONE if share is None else f"{share:+.1%}"


def cells(row: MeasuredRow) -> tuple[str, ...]:
    """The cells of one row of the table."""
    apart = None if row.is_source or row.shares_source else row.error
    if row.left_out is not None:
        apart = row.left_out / row.measured - 1
    what = row.name if row.predicted is not None else f"{row.name} ({row.why or 'no prediction'})"
    return (row.kind, row.source, row.chip, what.replace("|", "/"), figure(row.predicted), figure(row.measured),
            row.unit, signed(row.error), "yes" if row.is_source else "no", signed(apart))  # fmt: skip


def _share(text: str) -> float:
    return float(text.rstrip("%")) / 100


def _summed(name: str, errors: Sequence[float]) -> tuple[str, ...]:
    if not errors:
        return (name, "0", _NONE, _NONE, _NONE)
    sizes = [abs(error) for error in errors]
    return (name, str(len(errors)), f"{median(sizes):.1%}", f"{max(sizes):.1%}", f"{median(errors):+.1%}")


def summary(rows: Iterable[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """
    One line a kind and one for all of serving, from the cells of the table as they are written: rows, how many are
    predicted, and errors of those from which no constant came and of those whose source gave none.
    """
    kinds: dict[str, list[Sequence[str]]] = {}
    for row in rows:
        kinds.setdefault(row[0], []).append(row)
    kinds[f"{TOGETHER} together"] = [row for kind in SERVED for row in kinds.get(kind, ())]
    for kind, found in kinds.items():
        free = [_share(row[7]) for row in found if row[7] != _NONE and row[8] == "no"]
        apart = [_share(row[9]) for row in found if row[9] != _NONE]
        predicted = sum(row[7] != _NONE for row in found)
        _, count, middle, worst, bias = _summed(kind, free)
        yield (kind, f"{predicted} of {len(found)}", count, middle, worst, bias, *_summed(kind, apart)[1:])


_OF_OTHERS = "none: cube_share is here that of the other three networks"
_BLOCKS = "word_block_cycles; blocks of TransData chosen with it in view"
_ONE_WAY = "cube_share (a quarter), word_block_cycles, l2_one_way; blocks of TransData chosen with it in view"
_SECOND = "none; prices changed since, for tables of the same network, with it in view; first seen 30.6 %"
_TABLES = "none: those to which its network gave are here without; what its library's kernels do chosen with it in view"
_IN_VIEW = "none; that L2 has one way, and what a pixel's block takes, kept with it in view; first seen 60.4 %"


def profile_cells(data: Path) -> Iterator[tuple[str, ...]]:
    """Time-weighted error over the compute kernels of each profile at hand, without calibration."""
    notes = {
        "qwen3-0.6b-train-4rank": "kernel_floor in alignment's prices, code_fetch_ns_per_vector_core; "
        "short_row_elements and starts of rows one at a time chosen with it in view",
        "alexnet-ddp-2rank, level 2": "head_ns, head_ns_per_cube_core, core_start_ns, hf32_share, "
        "turned_word_fractal_cycles; cuts of TransData, rows of windows and images dealt out to cores chosen with it "
        "in view",
        "fixture: advisor_backend": "hbm_mixed_share, hbm_write_share, head_ns, head_ns_per_vector_core",
    }
    for name, folder, rank, chip_name in PROFILES:
        columns = kernels_of(data / folder, rank)
        if columns is None:
            continue
        yield _profile_cell(name, chip_name, time_weighted(columns, chip_name), notes.get(name, "none"))
    yield _profile_cell("mindspore-alexnet-2023, shapes known", "910A", first_generation_total(data), _OF_OTHERS)
    for name, path, constants in (
        ("alexnet-2020", OLDER, _ONE_WAY),
        ("lenet", LENET, f"{_BLOCKS}; starts of products too"),
    ):
        yield _profile_cell(f"mindspore-{name}, cores known", "910A", told_total(path, products=True), constants)
        yield _profile_cell("the same without products", "910A", told_total(path, products=False), constants)
    resnet = told_total(RESNET, products=True)
    yield _profile_cell("mindspore-resnet, first stage, shapes by its order", "910A", resnet, _IN_VIEW)
    back = told_total(RESNET_BACK, products=True)
    yield _profile_cell("the same, second stage back", "910A", back, _SECOND)
    for name, total in table_totals(left_out=True).items():
        yield _profile_cell(f"{name}, totals of types", "910A", total, _TABLES)


def _profile_cell(name: str, chip_name: str, total: tuple[int, float, float, float], constants: str) -> tuple[str, ...]:
    count, error, plain, bias = total
    return name, chip_name, f"{count:,}", f"{error:.1%}", signed(bias), f"{plain:.1%}", constants


_CLEARED = "Kernels of a benchmark that clears caches, first seen -> now"


def page(
    rows: Sequence[Sequence[str]], profiles: Sequence[Sequence[str]], cleared: Sequence[Sequence[str]]
) -> Iterator[str]:
    """The lines of `accuracy.md` from the cells of its tables."""
    yield "# Predictions against public figures"
    yield ""
    yield "Made by `python -m benchmarks.accuracy -o benchmarks/accuracy.md`, not by hand: a test predicts them again."
    yield ""
    yield (
        "`a constant came from it`: the row itself was used to find a constant. `error, its source left out`: given "
        "where no constant came from any row of its publication (memory and times apart), or where constants were "
        "found again without it; `benchmarks/accuracy_sources.json` says what they rest on. "
        "Medians are over rows from which none came; bias is the median of the signed errors. "
        "Rows that can't be predicted are kept and say why."
    )
    yield ""
    yield "## By kind"
    yield ""
    errors = ("median", "worst", "bias")
    header = ("kind", "predicted", "rows without constants", *errors, "rows of sources left out", *errors)
    yield from table(header, list(summary(rows)))
    yield from section(
        "Kernels of profiles, uncalibrated",
        "Errors are sums of absolute deviations over the time measured. The roofline has peak rates and moves every "
        "operand once.",
    )
    profile_header = ("profile", "taken as", "kernels", "error", "bias", "roofline's error", "constants from it")
    yield from table(profile_header, profiles)
    yield from section(
        _CLEARED,
        "Without kernels of which a constant came, and without such that launching may decide "
        "(`benchmarks/cleared_kernels.json`). Half of the sources was worked with, the other only summed up, until "
        "three of these were opened on 28 November 2026 (the sums of the others apart stand in docs/cost.md); what "
        "shares its source or the shapes of its inputs with kernels that gave one, on whichever chip, stands apart "
        "below. Intervals of now are made of both halves; with each source left out they hold what "
        "`python -m benchmarks.kernel_intervals` prints. A later set, from which no constant and no interval comes, is "
        "dealt into halves of its own, kernel by kernel: they share their sources. A third set "
        "(`benchmarks/library_kernels.json`), of the library's kernels alone, is dealt into halves by source; a fourth "
        "(`benchmarks/fourth_kernels.json`), of pages of five repositories, is judged whole.",
    )
    yield from table(CLEARED_HEADER, cleared)
    yield "## Every row"
    yield ""
    yield from table(HEADER, rows)


def parse(text: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The cells of the rows, of the profiles and of the kernels summed up that a page holds."""
    found: dict[str, list[tuple[str, ...]]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("## "):
            name = line[3:]
        elif line.startswith("| "):
            found.setdefault(name, []).append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return found["Every row"][1:], found["Kernels of profiles, uncalibrated"][1:], found[_CLEARED][1:]


def main() -> None:
    """Print the page, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="the shared data folder")
    parser.add_argument("-o", "--output", type=Path, help="write the page here")
    options = parser.parse_args()
    rows = [cells(row) for row in accuracy_rows(options.data)]
    text = "\n".join(page(rows, list(profile_cells(options.data)), cleared_table()))
    if options.output:
        options.output.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
