"""How far each kernel is from what bounds it: the cost model where the chip is known, else its own busiest pipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Bools, Floats, Int64s
from memplan.core.distinct import distinct, first_rows
from memplan.core.errors import MemplanError
from memplan.core.medians import median_of, weighted_median
from memplan.core.resources import table
from memplan.findings.finding import Evidence, threshold
from memplan.graph.op_names import op_family
from memplan.traces.decimals import ABSENT
from memplan.traces.dictionary_array import DictionaryArray, dictionary_encoded
from memplan.traces.profile import Kernels

if TYPE_CHECKING:
    from memplan.cost import Machine
    from memplan.findings.job_case import JobCase

_LAUNCH, _MEMORY, _NO_PIPE, _NOT_COUNTED = "launch", "memory", "no pipe", "not counted"


@dataclass(frozen=True, slots=True)
class KernelBounds:
    """
    For each row: the ns that its kernel would take at its bound (its own duration where nothing tells it), what bounds
    it (index into `limits`), and whether the cost model says so. `busy` is how much of it its busiest pipe works.
    """

    bound_ns: Floats
    limit: NDArray[np.int8]
    limits: Sequence[str]
    modelled: NDArray[np.bool_]
    busy: Floats


def kernel_bounds(
    kernels: Kernels, rows: Int64s, machine: Machine | None, planned: Floats | None = None
) -> KernelBounds:
    """
    Bounds of the kernels in `rows`.

    A pipe that is busy for `bound_ratio` of the time bounds its kernel; so does the model's time divided by that ratio,
    as kernels reach no more of a chip's rates. Where `planned` has a time for a kernel, not NaN, that goes before the
    model's. The ratio says whether kernels fall short of the model, not by how much: where most of what one thing
    bounds take longer, those that do are held against the model's whole rate.
    """
    ratio = threshold("bound_ratio")
    duration = kernels.duration_ns[rows].astype(np.float64)
    pipes = table("memplan.findings", "kernel_kinds.json")["pipes"]
    names = [name for name in pipes if name not in ("source", "memory in", "memory out")]
    busy = [_busiest(kernels, rows, pipes[name]) for name in names]
    into, out = _busiest(kernels, rows, pipes["memory in"]), _busiest(kernels, rows, pipes["memory out"])
    # Vector kernels stream: what goes in and out shares the memory. Products overlap the two with their work.
    cubes = np.zeros(len(rows), dtype=bool)
    for header in pipes["cube"]:
        if header in kernels.pmu:
            cubes |= np.nan_to_num(kernels.pmu[header][rows]) > 0
    memory = np.where(cubes, np.maximum(into, out), np.minimum(into + out, 1.0))
    shares = np.vstack([*busy, memory])
    best = shares.argmax(axis=0)
    most = shares.max(axis=0)
    counted = most > 0
    bound = np.where(counted, duration * np.minimum(most / ratio, 1.0), duration)
    limits = [*names, _MEMORY, _LAUNCH, _NO_PIPE, _NOT_COUNTED]
    limit = np.where(counted & (most >= ratio), best, limits.index(_NO_PIPE)).astype(np.int8)
    limit[~counted] = limits.index(_NOT_COUNTED)
    limit[counted & (duration < threshold("launch_bound_ns"))] = limits.index(_LAUNCH)
    modelled = np.zeros(len(rows), dtype=bool)
    if machine is not None or planned is not None:
        predicted = np.full(len(rows), np.nan) if machine is None else _predicted(kernels, rows, machine)
        if planned is not None:
            predicted = np.where(np.isnan(planned), predicted, planned)
        modelled = ~np.isnan(predicted)
        bound = np.where(modelled, np.minimum(predicted / ratio, duration), bound)
        bound = np.where(_short_of_model(duration, predicted, limit), np.minimum(predicted, duration), bound)
        if planned is not None:
            # What most planned kernels reach can be reached: they are held against that where it is less.
            reached, slow = _reached(kernels, rows, planned, limit)
            near = (duration < threshold("planned_spread") * reached) & ~slow
            bound = np.where(np.isnan(planned), bound, np.where(near, duration, np.minimum(reached, duration)))
    return KernelBounds(bound, limit, limits, modelled, most)


def _short_of_model(duration: Floats, predicted: Floats, limit: NDArray[np.int8]) -> Bools:
    """Which kernels take longer than the model over the ratio, as most of the time of what bounds them does."""
    usual = duration / np.maximum(predicted, 1.0)
    most = 1 / threshold("bound_ratio")
    found = usual > most
    for code in np.unique(limit).tolist():
        mine = limit == code
        if weighted_median(usual[mine], np.nan_to_num(predicted[mine])) <= most:
            found &= ~mine
    return np.asarray(found, dtype=bool)


def recurring_of_rank(job: JobCase, rank: int, kernels: Kernels) -> Floats:
    """`recurring_ns` of the computing kernels of `rank`: runs of a planned op, or of a kernel on the same operands."""
    rows = job.ranks[rank].case.computing_rows
    _, number = signatures(kernels, rows)
    planned = job.planned.get(rank)
    if planned is not None:
        number = np.where(planned.op >= 0, planned.op + len(rows), number)
    return recurring_ns(kernels.duration_ns[rows].astype(np.float64), number)


def bounds_of_rank(job: JobCase, rank: int, kernels: Kernels) -> KernelBounds:
    """Bounds of the computing kernels of `rank`, by the plan where it has them."""
    planned = job.planned.get(rank)
    times = None if planned is None else planned.planned_ns
    return kernel_bounds(kernels, job.ranks[rank].case.computing_rows, job.machine, times)


def column_codes(column: Sequence[str]) -> DictionaryArray:
    """A column of texts as codes into its distinct values."""
    return column if isinstance(column, DictionaryArray) else dictionary_encoded(list(column))


def longest_types(kernels: Kernels, rows: Int64s, length_ns: Floats | Int64s, most: int) -> tuple[Evidence, ...]:
    """At most so many types of the kernels in `rows` by what they take of `length_ns`, the longest first."""
    coded = column_codes(kernels.type)
    sums = np.bincount(coded.codes[rows], weights=length_ns, minlength=len(coded.values))
    order = np.argsort(-sums, kind="stable")[:most].tolist()
    return tuple(Evidence(coded.values[code], int(sums[code]), "ns") for code in order if sums[code] > 0)


def kernels_listed(kernels: Kernels, names: str) -> Bools:
    """Which kernels are of the types that `kernel_kinds.json` lists under `names`, versions of an op alike."""
    families = {op_family(name) for name in table("memplan.findings", "kernel_kinds.json")[names]["names"]}
    coded = column_codes(kernels.type)
    wanted = np.array([op_family(text) in families for text in coded.values], dtype=bool)
    return np.asarray(wanted[coded.codes], dtype=bool)


def rows_of_type(types: Sequence[str], rows: Int64s, wanted: re.Pattern[str]) -> Int64s:
    """Those of the kernels in `rows` in whose type `wanted` is found."""
    coded = column_codes(types)
    named = np.array([bool(wanted.search(text)) for text in coded.values], dtype=bool)
    return np.asarray(rows[named[coded.codes[rows]]], dtype=np.int64)


def unlike_work() -> re.Pattern[str]:
    """Types of kernels that have unlike work on equal operands."""
    return re.compile(table("memplan.findings", "kernel_kinds.json")["unlike_work"]["pattern"])


def signatures(kernels: Kernels, rows: Int64s) -> tuple[Int64s, Int64s]:
    """Kernels of one type, core and operands have one number: the first row of each number, and the number of each."""
    columns = [kernels.type, kernels.core, kernels.input_shapes, kernels.input_dtypes, kernels.output_shapes]
    columns += [formats for formats in (kernels.input_formats, kernels.output_formats) if formats]
    key = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        coded = column_codes(column)
        key = key * (len(coded.values) + 1) + coded.codes[rows]
        found, key = distinct(key)
    return first_rows(key, len(found)), key


def operands_told(kernels: Kernels, rows: Int64s) -> Bools:
    """Of which of the kernels in `rows` the profile tells operands: others of one type may have unlike work."""
    shapes = column_codes(kernels.input_shapes)
    told = np.array([text.strip() not in ABSENT for text in shapes.values], dtype=bool)
    return np.asarray(told[shapes.codes[rows]], dtype=bool)


def recurring_ns(duration_ns: Floats, run_of: Int64s) -> Floats:
    """
    What each kernel took, up to the second longest of its kind, which `run_of` numbers (-1: of no kind).

    A kernel that once took far longer than ever else is chance, whose cost no knob changes. Kernels that ran once are
    left as they are.
    """
    order = np.lexsort((duration_ns, run_of))
    kind = run_of[order]
    last = np.append(kind[1:] != kind[:-1], True)
    repeated = np.append(False, kind[1:] == kind[:-1]) & (kind >= 0)
    found = duration_ns.copy()
    longest = np.flatnonzero(last & repeated)
    found[order[longest]] = duration_ns[order[longest - 1]]
    return found


def _busiest(kernels: Kernels, rows: Int64s, headers: Sequence[str]) -> Floats:
    found = np.zeros(len(rows))
    for header in headers:
        if header in kernels.pmu:
            found = np.fmax(found, np.nan_to_num(kernels.pmu[header][rows]))
    return np.clip(found, 0.0, 1.0)


def usual_reach(duration_ns: Floats, planned_ns: Floats) -> float:
    """
    Measured over planned time of most planned kernels, at least 1. Where that is more than counts as reaching a bound,
    most are slow, and the plan is what can be reached.
    """
    most_reach = median_of(duration_ns / np.maximum(planned_ns, 1.0))
    return max(most_reach, 1.0) if most_reach <= 1 / threshold("bound_ratio") else 1.0


def _reached(kernels: Kernels, rows: Int64s, planned_ns: Floats, limit: NDArray[np.int8]) -> tuple[Floats, Bools]:
    """
    The ns that each planned kernel can reach, and which are bound by what slows all that it bounds. Where most kernels
    are not, these alone tell what can be reached: what slows a third of them moves the median of all.
    """
    duration = kernels.duration_ns[rows].astype(np.float64)
    reached = planned_ns * usual_reach(duration, planned_ns)
    slow = _slow_together(kernels, rows, reached, limit)
    told = ~np.isnan(planned_ns)
    others = told & ~slow
    if slow.any() and 2 * others.sum() > told.sum():
        reached = planned_ns * usual_reach(duration[others], planned_ns[others])
    return reached, slow


def _slow_together(kernels: Kernels, rows: Int64s, reached_ns: Floats, limit: NDArray[np.int8]) -> NDArray[np.bool_]:
    """
    Which kernels are bound by what slows all that it bounds: together these take longer than chance lets them.

    A kernel on its operands scatters by `planned_spread` around its plan, what n equally long ones reach by a root of n
    less. The type with the greatest excess is left out: one that is slow alone has a cause of its own.
    """
    found = np.zeros(len(limit), dtype=bool)
    spread = threshold("planned_spread") - 1
    duration, type_of = kernels.duration_ns[rows], column_codes(kernels.type).codes[rows]
    kind = signatures(kernels, rows)[1]
    for code in np.unique(limit).tolist():
        mine = (limit == code) & ~np.isnan(reached_ns)
        excess = np.bincount(type_of[mine], weights=(duration - reached_ns)[mine])
        others = mine & (type_of != np.argmax(excess)) if len(excess) else mine
        weight = np.bincount(kind[others], weights=reached_ns[others])
        expected = float(weight.sum())
        if expected <= 0:
            continue
        alike = expected**2 / float((weight**2).sum())
        if float(duration[others].sum()) / expected > 1 + spread / np.sqrt(alike):
            found |= mine
    return found


def _predicted(kernels: Kernels, rows: Int64s, machine: Machine) -> Floats:
    """
    The model's ns for each kernel, NaN where its operands don't tell enough: of attention and experts they don't,
    for masks, lengths and routing divide the work. Experts whose weights take longest to read read no more than all.
    """
    from memplan.cost import kernel_cost
    from memplan.cost.kernels.kernel_columns import kernel_at

    first, number = signatures(kernels, rows)
    found = np.full(len(first), np.nan)
    unlike = set(rows_of_type(kernels.type, rows[first], unlike_work()).tolist())
    pattern = table("memplan.findings", "kernel_kinds.json")["grouped"]["pattern"]
    grouped = set(rows_of_type(kernels.type, rows[first], re.compile(pattern)).tolist())
    for place, row in enumerate(rows[first].tolist()):
        if not kernels.input_dtypes[row] or kernels.input_dtypes[row] == "N/A":
            continue
        try:
            kernel = kernel_at(kernels, row)
            cost = kernel_cost(kernel, machine)
        except MemplanError:
            continue
        if row in unlike and (row not in grouped or cost.bound != "hbm"):
            continue
        if cost.known and kernel.operands:
            found[place] = cost.duration_ns
    return found[number]
