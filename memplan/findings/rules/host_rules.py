"""Idle devices: what kept the host from giving them work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_difference, interval_intersection, interval_total, interval_union
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.claims import COPYING, TRANSFER, idle_part
from memplan.findings.exposed_communication import awaited_copies
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.rank_case import NOTHING, RankCase
from memplan.findings.rules.rank_rules import peers_of_ranks
from memplan.findings.stall_waits import StallWaits, claimed_stall, waits_for_stalls
from memplan.findings.step_breakdown import IDLE_CAUSES, idle_by_cause, laid_bare, waits_for_host

_MOST_GAPS = 5
_TITLES = {
    "garbage": "The device idles {} ({}) while Python collects garbage",
    "compile": "The device idles {} ({}) while ops are compiled",
    "capture": "The device idles {} ({}) while graphs are captured",
    "dataloader": "The device idles {} ({}) while the host waits for data",
    "checkpoint": "The device idles {} ({}) while a checkpoint is saved",
    "allocate": "The device idles {} ({}) while device memory is allocated or freed",
    "synchronise": "The device idles {} ({}) after calls that waited for it",
    "stalled": "The device idles {} ({}) while the host's process stands still: garbage collection, most likely",
    "between": "The device idles {} ({}) between steps",
    "host": "Host bound: the device idles {} ({}) until the host launches the next kernel",
    "dispatch": "The device idles {} ({}) between a launch and the start of its kernel",
    "unexplained": "The device idles {} ({}) for a reason that the profile doesn't tell",
}


def host_findings(job: JobCase) -> Iterator[Finding]:
    """A finding for every cause of idle time that is worth one, and one for copies that nothing hides."""
    waits = waits_for_stalls(job)
    late = {rank: facts.claims.left(idle_part("host")) for rank, facts in job.ranks.items()}
    peers, alike = peers_of_ranks(job), threshold("alike_hosts_factor")
    for rank, facts in job.ranks.items():
        others = [late[other] for other in peers.get(rank, ()) if other != rank]
        yield from _idle(job, facts, waits, one_host=bool(others) and late[rank] > alike * min(others))
        yield from _copies(job, facts)
    first = next(iter(job.ranks.values()), None)
    if first is not None:
        yield from _environment(first)


def _environment(facts: RankFacts) -> Iterator[Finding]:
    """Environment variables that are advised to be otherwise; what that would bring, the profile doesn't tell."""
    told = facts.case.profile.environment
    host_bound = waits_for_host(facts.case) >= threshold("host_bound_kernels")
    found = []
    for name, rule in table("memplan.findings", "environment.json").items():
        value = told.get(name)
        if value is None or (rule.get("host_bound") and not host_bound) or value == rule["advised"]:
            continue
        if value in rule["bad"] or ("*" in rule["bad"] and value):
            wanted = rule["advised"] or "not set"
            found.append(
                Evidence(f"{name}={value or 'not set'}", f"advised: {wanted}; {rule['why']} ({rule['source']})")
            )
    if found:
        yield Finding(
            kind="settings.environment",
            title=Sentence(
                "{} environment [variable is|variables are] advised to be set otherwise", (str(len(found)),)
            ),
            rank=facts.case.rank,
            cost_ns=None,
            cost_bytes=None,
            bound="",
            formula="ENV_VARIABLES of profiler_metadata.json against environment.json",
            confidence=Confidence.ASSUMED,
            evidence=tuple(found),
        )


def _idle(job: JobCase, facts: RankFacts, waits: StallWaits, *, one_host: bool) -> Iterator[Finding]:
    """A finding for each cause of idle time; a peer's host has no such trouble where `one_host`."""
    gaps = idle_by_cause(facts.case) if facts.case.windows else {}
    bare = laid_bare(facts.case) if gaps else {}
    for cause in IDLE_CAUSES:
        if cause in ("dispatch", "between"):
            # What any queue takes from one kernel to the next is nobody's, from step to step as well.
            start, end = gaps.get(cause, NOTHING)
            facts.claims.excuse(idle_part(cause), int((end - start)[end - start <= threshold("queue_gap_ns")].sum()))
        idle = facts.claims.left(idle_part(cause))
        alone = min(interval_total(*bare.get(cause, NOTHING)), facts.claims.left(TRANSFER))
        # What is too little to be told by itself stays with communication, whose sum other tools tell too.
        alone = alone if facts.worth(alone) else 0
        total = idle + alone
        if not idle or not facts.worth(total):
            continue
        start, end = gaps.get(cause, NOTHING)
        evidence = [Evidence("idle", idle, "ns")]
        if len(start):
            evidence += [Evidence("gaps", len(start), "count"), Evidence("longest gap", int((end - start).max()), "ns")]
        if alone:
            evidence.append(Evidence("communication that ran alone meanwhile, for nothing was launched", alone, "ns"))
        if cause == "host":
            evidence.append(Evidence("kernels that wait longer than they run", waits_for_host(facts.case), "share"))
        sure = cause not in ("unexplained", "stalled") and (facts.case.has_host or cause == "between")
        yield Finding(
            kind=f"idle.{cause}",
            title=Sentence(_TITLES[cause], (format_duration(total), format_share(total / facts.length_ns))),
            rank=facts.case.rank,
            cost_ns=facts.claims.take(idle_part(cause), idle) + facts.claims.take(TRANSFER, alone),
            cost_bytes=None,
            bound="a device that always has a kernel to run",
            formula=_FORMULAS.get(cause, "idle time under host events of this kind"),
            confidence=Confidence.MEASURED if sure else Confidence.ASSUMED,
            waits_ns=claimed_stall(job, facts.case.rank, cause, waits),
            places=_longest_gaps(job, facts.case, start, end),
            evidence=tuple(evidence),
            signs=_signs(facts.case, cause, one_host=one_host),
        )


def _signs(case: RankCase, cause: str, *, one_host: bool) -> frozenset[str]:
    """What tells remedies of idle time apart: whether each kernel is waited for, or one host of several is late."""
    calls = len(case.host.get("synchronise", NOTHING)[0])
    each = cause in ("synchronise", "dispatch") and calls >= threshold("awaited_kernels") * len(case.computing_rows)
    return frozenset(["each kernel"] * each + ["one host"] * (cause == "host" and one_host))


_FORMULAS = {
    "stalled": "gaps in which the host calls next to nothing of the runtime",
    "between": "from the last kernel of a step to the first of the next",
    "host": "from the end of the kernel before to the host's launch of the next one",
    "dispatch": "from the host's launch to the start of the kernel, beyond what any queue takes",
    "synchronise": "gaps that begin when a synchronising call comes back",
    "unexplained": "idle time less what has a cause",
}


def _copies(job: JobCase, facts: RankFacts) -> Iterator[Finding]:
    case, copying = facts.case, facts.claims.left(COPYING)
    beside = interval_total(*interval_intersection(awaited_copies(case), case.communicating))
    beside = min(beside, facts.claims.left(TRANSFER)) if facts.worth(beside) else 0
    total = copying + beside
    if facts.worth(total):
        hiding = (case.computing, case.communicating)
        starts, ends = (np.concatenate([part[side] for part in hiding]) for side in (0, 1))
        start, end = interval_difference(case.copying, interval_union(starts, ends))
        yield Finding(
            kind="copy.exposed",
            title=Sentence(
                "Copies between host and device take {} ({}) that no computing hides",
                (format_duration(total), format_share(total / facts.length_ns)),
            ),
            rank=facts.case.rank,
            cost_ns=facts.claims.take(COPYING, copying) + facts.claims.take(TRANSFER, beside),
            cost_bytes=None,
            bound="copies wholly hidden behind computing",
            formula="copy intervals less computing and communication intervals; communication beside a copy that"
            " computing waits for",
            confidence=Confidence.MEASURED,
            places=_longest_gaps(job, case, start, end),
            evidence=(
                Evidence("copies", len(case.copying[0]), "count"),
                Evidence("they take, hidden or not", interval_total(*case.copying), "ns"),
                Evidence("beside communication that computing would hide without them", beside, "ns"),
                Evidence("times that the device waits for one", len(start), "count"),
                Evidence("longest wait", int((end - start).max(initial=0)), "ns"),
            ),
            signs=frozenset(["within"] * _within(case, start, end)),
        )


def _within(case: RankCase, start: Int64s, end: Int64s) -> bool:
    """Whether most of what a rank waits for copies lies later in its steps than inputs are awaited."""
    if not case.windows:
        return False
    place = np.maximum(case.begun_at(start), 0)
    spans = np.array([(window.start_ns, window.busy_until_ns) for window in case.windows], dtype=np.int64)[place]
    late = start - spans[:, 0] > threshold("inputs_share") * (spans[:, 1] - spans[:, 0])
    return bool(2 * (end - start)[late].sum() > (end - start).sum())


def _longest_gaps(job: JobCase, case: RankCase, start: Int64s, end: Int64s) -> tuple[Place, ...]:
    """The longest gaps in what a device does, with the step that each lies in and what runs after it."""
    begins = NOTHING[0] if case.kernels is None else case.kernels.start_ns[case.computing_rows]
    worst = np.argsort(start - end, kind="stable")[:_MOST_GAPS]
    return tuple(
        Place((case.rank,), case.step_at(begin), (begin, stop), ops=_what_follows(job, case, begins, stop))
        for begin, stop in zip(start[worst].tolist(), end[worst].tolist(), strict=True)
    )


def _what_follows(job: JobCase, case: RankCase, begins: Int64s, time_ns: int) -> tuple[str, ...]:
    """
    The kernel or communication that begins first at `time_ns` or later; empty where there is none.

    `begins` is when computing kernels do.
    """
    kernel = int(np.searchsorted(begins, time_ns))
    met = bisect_left(case.communications, time_ns, key=lambda one: one.start_ns)
    communication = case.communications[met] if met < len(case.communications) else None
    if kernel < len(begins) and (communication is None or begins[kernel] <= communication.start_ns):
        return job.kernel_place(case.rank, kernel).ops
    return () if communication is None else (communication.name,)
