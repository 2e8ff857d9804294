"""A comparison in one paragraph: what was matched, why the step took as long, why the peak is as high."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from memplan.align import mean_probability
from memplan.align.classes.lowering import in_words
from memplan.compare import CauseKind, Comparison, StepCause, StepCauses
from memplan.core.sentence import Sentence, joined
from memplan.core.units import format_bytes, format_change, format_duration, format_share, format_signed
from memplan.holders import PeakHolders
from memplan.traces.process_memory import ProcessMemory, ProcessPart

_CAUSES = 3
_NOTABLE = 0.01
"""Share of the peak below which a difference is left to the tables."""


def comparison_words(result: Comparison, names: Mapping[int, str]) -> str:
    """The paragraph; `names` are those of the planned ops by index."""
    sentences = [_matched(result), *_step(result), *_peak(result, names)]
    if result.process is not None:
        sentences.append(process_words(result.process))
    return " ".join(sentence for sentence in sentences if sentence)


def _matched(result: Comparison) -> str:
    summary = result.summary
    if not summary.matched_ops:
        return f"None of {summary.planned_ops:,} planned ops was found among {summary.measured_kernels:,} kernels."
    time, everything = format_share(summary.compute_coverage), format_share(summary.measured_coverage)
    both = "" if time == everything else f" ({everything} with communication)"
    found = (
        f"{summary.matched_ops:,} of {summary.planned_ops:,} planned ops were found in {summary.measured_kernels:,} "
        f"kernels and are {time} of their compute time{both}"
    )
    if result.aligned is None:
        how = "by name" if summary.matched_by_name * 2 >= summary.matched_ops else "by type and order"
        return f"{found}; matched {how}."
    sure = format_share(mean_probability(result.aligned.alignment, result.aligned.computing, result.aligned.rows))
    said = [f"{found}; matched by order, families and sizes, as names tell nothing, and {sure} likely right."]
    if untold := int(result.aligned.untold.sum()):
        said.append(f"Not told apart are {untold:,} kernels, {format_share(summary.untold_share)} of that time.")
    return " ".join(said)


def _step(result: Comparison) -> Iterator[str]:
    causes = result.causes
    if causes is None:
        return
    change = format_change(causes.measured / causes.planned - 1) if causes.planned else "unknown"
    yield (
        f"The step took {format_duration(causes.measured)}, planned were {format_duration(causes.planned)} ({change})."
    )
    largest = leading_causes(causes)
    if largest:
        yield f"Most of it: {'; '.join(str(cause_words(cause)) for cause in largest)}."


def leading_causes(causes: StepCauses) -> list[StepCause]:
    """Those that make a step longer if it is, shorter if it is not: a few, the largest first."""
    sign = 1 if causes.measured >= causes.planned else -1
    return [cause for cause in causes.causes if cause.delta * sign > 0][:_CAUSES]


def cause_words(cause: StepCause) -> Sentence:
    """What it is, by how much it differs from the plan, how long it is, and which parts of the model it is most in."""
    what = Sentence(cause.kind.value)
    if cause.kind is CauseKind.IDLE:
        what = Sentence("idle, nothing on the device")
    elif cause.kind is CauseKind.KERNELS:
        what = Sentence(f"{cause.family} kernels")
    said = Sentence("{} {}", (what, format_signed(format_duration, cause.delta)))
    if cause.kind is not CauseKind.UNPLANNED:
        said = Sentence("{}, {} in all", (said, format_duration(cause.measured)))
    where = [in_words(name) if cause.kind is CauseKind.UNPLANNED else name for name, _ in cause.where]
    return Sentence("{} ({})", (said, joined(where, "{}, {}"))) if where else said


def _peak(result: Comparison, names: Mapping[int, str]) -> Iterator[str]:
    summary = result.summary
    if summary.measured_peak is None or result.memory is None:
        yield f"The planned peak is {format_bytes(summary.planned_peak)}; the profile has no memory curve."
        return
    change = "" if summary.peak_change is None else f" ({format_change(summary.peak_change)})"
    yield (
        f"The peak of {result.memory.component} was {format_bytes(summary.measured_peak)}, planned were "
        f"{format_bytes(summary.planned_peak)}{change}."
    )
    if result.holders is not None:
        yield from holders_words(result.holders, names)


def holders_words(holders: PeakHolders, names: Mapping[int, str]) -> Iterator[str]:
    """Sentences on what explains a measured peak, and what makes it another than planned."""
    share = format_share(holders.explained / holders.measured if holders.measured else 0.0)
    before = ""
    if holders.before > _NOTABLE * holders.measured:
        explained = format_share(holders.before_explained / holders.before)
        before = (
            f", of them {format_bytes(holders.before)} from before the profile began ({explained} are weights, "
            "gradients and states of the plan, told by their sum)"
        )
    yield f"Planned tensors explain {share} of it{before}."
    least = _NOTABLE / 4 * holders.measured
    reasons = []
    if holders.op is not None and holders.planned_step is not None and abs(holders.op - holders.planned_step) > 1:
        reasons.append(f"it is reached at {names.get(holders.op, '?')}, planned {names.get(holders.planned_step, '?')}")
    reasons += [
        f"{kind.replace('_', ' ')} {format_signed(format_bytes, holder.measured - holder.planned)}"
        for kind, holder in sorted(holders.kinds.items(), key=lambda entry: -abs(entry[1].measured - entry[1].planned))
        if abs(holder.measured - holder.planned) > least
    ][:_CAUSES]
    reasons += [
        f"{format_bytes(row.nbytes)} of {row.what} held longer than until {names.get(row.op or 0, '?')}"
        for row in holders.held_longer[:_CAUSES]
        if row.nbytes > least
    ]
    if reasons:
        yield f"It differs from the plan: {'; '.join(reasons)}."


def process_words(process: ProcessMemory) -> str:
    """What the process holds beyond its allocator, in a sentence."""
    beyond = [item for item in process.items if item.part in (ProcessPart.ALLOCATOR, ProcessPart.MODULE)]
    listed: Sequence[str] = [f"{item.name} {format_bytes(item.nbytes)}" for item in beyond if item.nbytes > 0]
    listed = (
        [*listed, f"{format_bytes(process.rest)} that nothing in the profile names"] if process.rest > 0 else listed
    )
    return (
        f"The process held {format_bytes(process.held)}, {format_bytes(process.gap)} beyond the "
        f"{format_bytes(process.reserved)} of {process.component}{': ' if listed else ''}{', '.join(listed)}."
    )
