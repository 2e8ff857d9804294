"""The amounts of two profiles that can be set against each other: kernels, communication, steps, memory."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.compare.measured import operation_tracks
from memplan.core.progress import Progress, silent
from memplan.gui.model.amount_names import step_name, step_number
from memplan.gui.model.compare.ab_differences import AbAmount, AbGroup, AbLedger, AmountUnit
from memplan.gui.model.compare.viewport_link import matched_steps
from memplan.gui.model.memory.memory_curves import measured_curves
from memplan.gui.model.session.session import Session
from memplan.gui.model.slices.shown_steps import ShownStep, steps
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.op_totals import largest_totals
from memplan.traces.profile import Kernels, OpTotal, StepTimes, TrackKind

if TYPE_CHECKING:
    from memplan.traces.rank import RankProfile

EVERY = 1 << 30
PARTS = {
    "Computing": "computing_ns",
    "Communication": "communication_ns",
    "Communication(Not Overlapped)": "communication_not_overlapped_ns",
    "Free": "free_ns",
}
"""How device time divides, under the names of the trace's own tracks."""

_COLLECTIVE = re.compile(r"(hcom_\w+?)__(\d+)_(\d+(?:_\d+)*)$")
_COLLECTIVE_CORES = ("COMMUNICATION", "HCCL")


def profile_ledgers(first: Session, second: Session, progress: Progress = silent) -> list[AbLedger]:
    """
    Everything that both profiles, or one of them, tell amounts of.

    Long for large profiles; raises `CancelledError` when `progress` says so.
    """
    one, other = first.document.rank, second.document.rank
    if one is None or other is None:
        return []
    for rank in (one, other):
        for part in (rank.kernels, rank.timeline, rank.steps, rank.memory_curves, rank.allocations):
            part(progress)
    ledgers = []
    work = ("kernels", "op types", "communication", "steps", "device time", "memory", "blocks")
    for place, what in enumerate(work):
        progress(place, len(work), what)
        if what == "kernels":
            ledgers.append(
                AbLedger(AbGroup.KERNEL, AmountUnit.TIME, amounts_by_name(one, False), amounts_by_name(other, False))
            )
        elif what == "op types":
            ours, theirs = by_type(one), by_type(other)
            pairs = collective_pairs(ours or (), theirs or ())
            ledgers.append(AbLedger(AbGroup.TYPE, AmountUnit.TIME, ours, theirs, pairs=pairs))
        elif what == "communication":
            ours, theirs = amounts_by_name(one, True), amounts_by_name(other, True)
            pairs = collective_pairs(ours or (), theirs or ())
            ledgers.append(AbLedger(AbGroup.COMMUNICATION, AmountUnit.TIME, ours, theirs, pairs=pairs))
        elif what == "steps":
            ledgers.append(_steps(first, second))
        elif what == "device time":
            parts, others = device_time(one), device_time(other)
            whole = _device_total(parts)
            ledgers.append(AbLedger(AbGroup.PART, AmountUnit.TIME, parts, others, whole=whole))
        elif what == "blocks":
            ledgers.append(AbLedger(AbGroup.HELD, AmountUnit.BYTES, held_at_peak(first), held_at_peak(second)))
        else:
            ledgers.append(AbLedger(AbGroup.MEMORY, AmountUnit.BYTES, _peaks(one), _peaks(other), adds_up=False))
    return ledgers


def is_collective(kernels: Kernels) -> NDArray[np.bool_]:
    """Which kernels of the table are collectives: by the core that ran them, else by their name."""
    names, cores = dictionary_encoded(kernels.name), dictionary_encoded(kernels.core)
    by_core = np.array([core.upper() in _COLLECTIVE_CORES for core in cores.values], dtype=bool)
    named = np.array([name.lower().startswith("hcom_") for name in names.values], dtype=bool)
    if not len(kernels):
        return np.zeros(0, dtype=bool)
    return np.asarray(by_core[cores.codes] | named[names.codes])


def collective_pairs(first: Iterable[str], second: Iterable[str]) -> dict[str, str]:
    """
    Collectives of two runs that belong together although their names differ, first's to second's.

    A name such as `hcom_allReduce__868_0_1` holds a number of its group of ranks that is another one in every run.
    Groups that share most of the rest of their names go together.
    """
    ours, theirs = _by_group(first), _by_group(second)
    shared = Counter(
        {
            (group, other): len(set(names) & set(others))
            for group, names in ours.items()
            for other, others in theirs.items()
            if group not in theirs and other not in ours
        }
    )
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for (group, other), common in sorted(shared.items(), key=lambda item: -item[1]):
        if common and group not in taken and other not in taken:
            taken |= {group, other}
            pairs |= {name: theirs[other][stem] for stem, name in ours[group].items() if stem in theirs[other]}
    return pairs


def _by_group(names: Iterable[str]) -> dict[str, dict[tuple[str, str], str]]:
    """Names of collectives by the number of their group, then by what is left of them without it."""
    found: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for name in names:
        match = _COLLECTIVE.match(name)
        if match is not None:
            found[match.group(2)][match.group(1), match.group(3)] = name
    return found


def amounts_by_name(rank: RankProfile, collectives: bool) -> dict[str, AbAmount] | None:
    """
    Count and time by name: of the collectives, or of all other kernels; `None` where the profile holds neither.

    From the kernel table; without one, or without collectives in it, from the tracks of the device.
    """
    kernels = rank.kernels()
    totals: dict[str, AbAmount] = {}
    if kernels is not None and len(kernels):
        chosen = is_collective(kernels) == collectives
        names = dictionary_encoded(kernels.name)
        _add(
            totals,
            largest_totals(names.codes[chosen].astype(np.int64), kernels.duration_ns[chosen], names.values, EVERY),
        )
        if totals or not collectives:
            return totals
    for track in operation_tracks(rank)[1]:
        if (track.kind is TrackKind.COMMUNICATION) == collectives:
            slices = rank.slices(track.id)
            _add(totals, largest_totals(slices.name.astype(np.int64), slices.duration_ns, slices.names, EVERY))
    if totals:
        return totals
    return {} if kernels is not None and len(kernels) else None


def by_type(rank: RankProfile) -> dict[str, AbAmount] | None:
    """Count and device time by op type, as the profile sums them up; `None` where it holds no kernels."""
    totals: dict[str, AbAmount] = {}
    _add(totals, rank.top_ops(EVERY))
    return totals or None


def _add(totals: dict[str, AbAmount], found: Iterable[OpTotal]) -> None:
    for item in found:
        before = totals.get(item.type)
        count, time = (before.count or 0, before.total) if before is not None else (0, 0)
        totals[item.type] = AbAmount(count + item.count, time + item.total_ns)


def measured_steps(session: Session) -> dict[str, AbAmount] | None:
    """
    The time of every step, as the profiler's summary has it or else from first to last kernel, by number.

    A summary without numbers is numbered from 0; `None` where the profile tells of no steps.
    """
    rank = session.document.rank
    summary: Sequence[StepTimes] = rank.steps() if rank is not None else ()
    if summary:
        totals: dict[str, AbAmount] = {}
        for place, times in enumerate(summary):
            name = step_name(times.step if times.step is not None else place)
            # A number that comes again, in the summary of another capture, keeps its longest time.
            amount = AbAmount(None, times.length_ns or 0)
            totals[name] = max(totals.get(name, AbAmount(None, 0)), amount, key=_total)
        return totals
    spans = steps(session)
    return {step_name(step.number): AbAmount(None, round(step.end - step.start)) for step in spans} or None


def _total(amount: AbAmount) -> int:
    return amount.total


def _steps(first: Session, second: Session) -> AbLedger:
    one, other = measured_steps(first), measured_steps(second)
    pairs: Mapping[str, str] = {}
    if one and other and not set(one) & set(other):
        found = matched_steps(_numbered(one), _numbered(other))
        pairs = {step_name(step.number): step_name(with_it.number) for step, with_it in found}
    return AbLedger(AbGroup.STEP, AmountUnit.TIME, one, other, pairs=pairs)


def _numbered(amounts: Mapping[str, AbAmount]) -> tuple[ShownStep, ...]:
    return tuple(ShownStep(number, 0.0, 0.0) for number in sorted(step_number(name) for name in amounts))


def device_time(rank: RankProfile) -> dict[str, AbAmount] | None:
    """How device time divides, from the trace's own tracks or else from the summary of all steps."""
    overlap = rank.overlap()
    if overlap is not None:
        return {name: AbAmount(None, int(getattr(overlap, field))) for name, field in PARTS.items()}
    summary = [step for step in rank.steps() if step.computing_ns is not None]
    if not summary:
        return None
    return {
        name: AbAmount(None, sum(int(getattr(step, field) or 0) for step in summary)) for name, field in PARTS.items()
    }


def _device_total(parts: Mapping[str, AbAmount] | None) -> int | None:
    """All device time: every part but `Communication`, which overlaps with others."""
    if parts is None:
        return None
    return sum(amount.total for name, amount in parts.items() if name != "Communication")


def held_at_peak(session: Session) -> dict[str, AbAmount] | None:
    """Blocks and bytes held when the allocator gave out most, by who asked; `None` where blocks aren't listed."""
    blocks = session.blocks if session.blocks_read else session.find_blocks()
    if blocks is None:
        return None
    totals: dict[str, AbAmount] = {}
    for row in blocks.alive(blocks.peak_ns).tolist():
        name, size = blocks.name(row), int(blocks.high[row] - blocks.low[row])
        before = totals.get(name, AbAmount(0, 0))
        totals[name] = AbAmount((before.count or 0) + 1, before.total + size)
    return totals


def _peaks(rank: RankProfile) -> dict[str, AbAmount] | None:
    curves = measured_curves(rank)
    return {curve.name: AbAmount(None, curve.peak[1]) for curve in curves} or None
