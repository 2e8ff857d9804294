"""The findings of a profile: every rule asked in order, findings ranked by what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memplan.core.errors import InputError, MemplanError
from memplan.core.lazy_names import from_above
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.findings.claims import COMPUTING
from memplan.findings.finding import Finding
from memplan.findings.job_case import JobCase, RankFacts, job_case, rank_facts_of
from memplan.findings.rank_case import case_at_step, rank_case
from memplan.findings.rules.affinity_rules import affinity_findings
from memplan.findings.rules.beside_rules import beside_findings
from memplan.findings.rules.block_rules import block_findings
from memplan.findings.rules.cache_rules import cache_findings
from memplan.findings.rules.chain_rules import chain_findings
from memplan.findings.rules.clock_rules import clock_findings
from memplan.findings.rules.communication_rules import communication_findings
from memplan.findings.rules.expert_rules import expert_findings
from memplan.findings.rules.failure_rules import failure_findings
from memplan.findings.rules.host_rules import host_findings
from memplan.findings.rules.kernel_rules import bound_findings, kernel_findings
from memplan.findings.rules.late_rules import late_findings
from memplan.findings.rules.memory_rules import memory_findings
from memplan.findings.rules.packet_rules import packet_findings
from memplan.findings.rules.path_rules import path_findings
from memplan.findings.rules.plan_rules import plan_findings
from memplan.findings.rules.rank_rules import rank_findings
from memplan.findings.rules.recompute_rules import recompute_findings
from memplan.findings.rules.sequence_rules import sequence_findings
from memplan.findings.rules.sleep_rules import sleep_findings
from memplan.findings.rules.slow_step_rules import slow_step_findings
from memplan.findings.rules.stage_rules import stage_findings
from memplan.findings.rules.step_rules import step_findings
from memplan.findings.rules.turn_rules import turn_findings
from memplan.findings.software import software_of
from memplan.traces.directory import Profile

if TYPE_CHECKING:
    from memplan.compare import Comparison
    from memplan.cost import Machine
    from memplan.schema import Plan

FindingRule = Callable[[JobCase], Iterable[Finding]]

RULES: tuple[FindingRule, ...] = (
    path_findings,
    clock_findings,
    rank_findings,
    slow_step_findings,
    host_findings,
    expert_findings,
    turn_findings,
    late_findings,
    step_findings,
    stage_findings,
    packet_findings,
    communication_findings,
    affinity_findings,
    beside_findings,
    kernel_findings,
    recompute_findings,
    plan_findings,
    chain_findings,
    bound_findings,
    sequence_findings,
    block_findings,
    failure_findings,
    memory_findings,
    cache_findings,
    sleep_findings,
)
"""Families of rules in the order in which they claim time: what is more particular goes first."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    Findings by cost, the dearest first, those without a cost last, and the steps that they explain.

    `chip` is what kernels were held against, `None` where neither profile nor caller names one.
    """

    findings: Sequence[Finding]
    job: JobCase
    chip: str | None

    def _repr_html_(self) -> str:
        return str(from_above("memplan.reports.diagnosis.diagnosis_page:diagnosis_html")(self))

    def explained_ns(self, rank: int) -> int:
        """What the findings of `rank` cost together; never more than its steps took."""
        own = sum(one.cost_ns or 0 for one in self.findings if one.rank == rank)
        return own + sum(length for one in self.findings for other, length in one.waits_ns if other == rank)

    def working_ns(self, rank: int) -> int:
        """Computing of `rank` that no finding objects to."""
        return self.job.ranks[rank].claims.left(COMPUTING)

    def unexplained_ns(self, rank: int) -> int:
        """Time of `rank` that is neither work nor a finding: many small things, each below what is reported."""
        return self.job.ranks[rank].length_ns - self.explained_ns(rank) - self.working_ns(rank)


def diagnose(
    profile: Profile,
    *,
    ranks: Sequence[int] | None = None,
    chip: str | None = None,
    plan: Plan | None = None,
    step: int | None = None,
    compared: Comparison | None = None,
    progress: Progress = silent,
) -> Diagnosis:
    """
    What costs time or memory in `profile`, on `ranks` (all by default) in all steps, or in `step` alone.

    Kernels are held against `plan` where it names them, else against the cost model of `chip`, of the plan's chip, or
    of the one that the profile names. `compared` is what `memplan.compare` found of the plan and a rank of the profile,
    which is not aligned again then. Raises `InputError` for a rank or step that is not there, a chip that is not known,
    or a profile that tells of no time at all.
    """
    chosen = list(profile.ranks) if ranks is None else list(ranks)
    absent = [rank for rank in chosen if rank not in profile.ranks]
    if absent:
        have = ", ".join(map(str, list(profile.ranks)[:10]))
        raise InputError(
            "the profile has no rank {}", absent[0], path=profile.path, remedy=Sentence("it has {}", (have,))
        )
    found: dict[int, RankFacts] = {}
    for done, number in enumerate(chosen):
        progress(done, len(chosen), "ranks")
        case = rank_case(profile.rank(number), progress)
        found[number] = rank_facts_of(case if step is None else case_at_step(case, step))
    name = (
        chip
        or (plan.chip if plan else None)
        or next((told for number in chosen if (told := profile.rank(number).chip)), None)
    )
    known = {} if compared is None or compared.aligned is None else {compared.rank: compared.aligned.alignment}
    return ranked(job_case(found, _machine(name, asked=chip is not None), plan, progress, known), name)


def ranked(job: JobCase, chip: str | None) -> Diagnosis:
    """The findings of `job`, by cost."""
    # A rule claims what a finding explains right before it yields it.
    software = {rank: software_of(facts.case) for rank, facts in job.ranks.items()}
    common = frozenset.intersection(*software.values()) if software else frozenset[str]()
    findings = [
        replace(
            finding,
            path_ns=job.on_path_ns(finding),
            software=common if finding.rank is None else software.get(finding.rank, common),
        )
        for rule in RULES
        for finding in rule(job)
    ]
    # What ended the run goes before whatever slowed it.
    findings.sort(
        key=lambda one: (
            not one.kind.startswith("oom."), -(one.cost_ns or 0), -(one.cost_bytes or 0), one.kind, one.rank or 0
        )
    )  # fmt: skip
    return Diagnosis(findings, job, chip)


def _machine(name: str | None, *, asked: bool) -> Machine | None:
    """The cost model of chip `name`; `None` where the profile names one that is not known."""
    if name is None:
        return None
    # The cost model is loaded where there is a chip to hold kernels against.
    from memplan.cost import machine
    from memplan.hardware import chip as find_chip

    try:
        return machine(find_chip(name))
    except MemplanError:
        if asked:
            raise
        return None
