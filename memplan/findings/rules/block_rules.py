"""Shapes that don't suit the chip: axes that its cores read in odd pieces, kernels that leave cores without work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes, signatures
from memplan.traces.decimals import ABSENT
from memplan.traces.profile import Kernels

_MOST, _OFTEN = 6, 0.1
_CUBES, _VECTORS = ("AI_CORE", "MIX_AIC"), ("AI_VECTOR_CORE", "MIX_AIV")


def block_findings(job: JobCase) -> Iterator[Finding]:
    """Facts without a cost: what other shapes would bring, no profile tells."""
    for facts in job.ranks.values():
        kernels = facts.case.kernels
        if kernels is not None and len(facts.case.computing_rows):
            yield from _odd_axes(facts, kernels)
            yield from _idle_cores(job, facts, kernels)


def _odd_axes(facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    rows = facts.case.computing_rows
    first, number = signatures(kernels, rows)
    odd = np.array([_is_odd(kernels, row) for row in rows[first].tolist()], dtype=bool)
    mine = odd[number]
    total = int(kernels.duration_ns[rows[mine]].sum())
    if not facts.worth(total):
        return
    yield Finding(
        kind="kernel.unaligned",
        title=Sentence(
            "{} [product or attention|products and attentions] with axes that fill no whole blocks: {} ({})",
            (f"{int(mine.sum()):,}", format_duration(total), format_share(total / facts.length_ns)),
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula=Sentence(
            "time of products whose inner axes are no multiples of {}, and of attention whose head size is none of {}",
            (f"{threshold('product_axis'):g}", f"{threshold('head_axis'):g}"),
        ),
        confidence=Confidence.ASSUMED,
        evidence=_by_operands(kernels, rows, first, np.where(mine, kernels.duration_ns[rows], 0), number),
    )


def _is_odd(kernels: Kernels, row: int) -> bool:
    """Whether the cube unit reads operands of this kernel in pieces that are no whole blocks, as far as shapes tell."""
    kind = kernels.type[row].casefold()
    text = kernels.input_shapes[row].strip().strip('"')
    if text in ABSENT or not ("matmul" in kind or kind.startswith("flashattention")):
        return False
    try:
        shapes = [[int(size) for size in one.split(",")] for one in text.split(";")[:2]]
    except ValueError:
        return False
    if "matmul" not in kind:
        return bool(shapes[0][-1] % int(threshold("head_axis")))
    formats = kernels.input_formats[row].split(";") if kernels.input_formats else []
    tiled = [place < len(formats) and formats[place].strip('" ') == "FRACTAL_NZ" for place in range(len(shapes))]
    inner = [one[-4] * one[-1] if nz and len(one) >= 4 else one[-1] for one, nz in zip(shapes, tiled, strict=True)]
    return len(shapes) == 2 and any(size % int(threshold("product_axis")) for size in inner)


def _idle_cores(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    """Kernels longer than a launch whose last turn of blocks leaves cores without work."""
    rows = facts.case.computing_rows
    blocks, length = kernels.block_count[rows], kernels.duration_ns[rows]
    coded = column_codes(kernels.core)
    idle = np.zeros(len(rows))
    for names, there in ((_CUBES, job.machine.cubes if job.machine else 0), (_VECTORS, _vectors(job))):
        named = np.array([text.upper() in names for text in coded.values], dtype=bool)
        mine = named[coded.codes[rows]] & (blocks > 0)
        cores = there or _usual_most(blocks[mine])
        if cores > 1:
            turns = -(-blocks[mine] // cores)
            idle[mine] = 1 - blocks[mine] / (turns * cores)
    lost = np.where(length >= threshold("launch_bound_ns"), idle, 0.0) * length
    total = int(lost.sum())
    if not facts.worth(total):
        return
    first, number = signatures(kernels, rows)
    yield Finding(
        kind="kernel.blocks",
        title=Sentence(
            "{} [kernel has|kernels have] fewer blocks than cores: as much as {} of all cores is idle ({})",
            (f"{int((lost > 0).sum()):,}", format_duration(total), format_share(total / facts.length_ns)),
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula=Sentence(
            "duration x cores without a block in the last turn / cores, of kernels of {} us and more",
            (f"{threshold('launch_bound_ns') / 1000:g}",),
        ),
        confidence=Confidence.ASSUMED,
        evidence=_by_operands(kernels, rows, first, lost, number),
    )


def _usual_most(blocks: Int64s) -> int:
    """
    How many cores there are, where no chip tells: kernels that fill them have as many blocks.

    A few have more than there are cores, which then take turns, so the most counts that a tenth of the kernels have.
    """
    counts = np.bincount(blocks) if len(blocks) else np.zeros(1, dtype=np.int64)
    return int(np.flatnonzero(counts >= max(_OFTEN * len(blocks), 1)).max(initial=0))


def _vectors(job: JobCase) -> int:
    return job.machine.vectors if job.machine else 0


def _by_operands(
    kernels: Kernels, rows: Int64s, first: Int64s, time: Int64s | Floats, number: Int64s
) -> tuple[Evidence, ...]:
    """The kernels, with their operands, that `time` is spent in, the longest first."""
    sums, count = np.bincount(number, weights=time), np.bincount(number, weights=np.asarray(time) > 0)
    found = []
    for kind in np.argsort(-sums, kind="stable")[:_MOST].tolist():
        if sums[kind] > 0:
            row = int(rows[first[kind]])
            words = f"{kernels.type[row]} {kernels.input_shapes[row]:.60}"
            found.append(Evidence(f"{int(count[kind])} x {words}", int(sums[kind]), "ns"))
    return tuple(found)
