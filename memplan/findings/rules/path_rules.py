"""What the critical path of the job is made of: a fact to know, and the scale on which findings matter."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.core.sentence import Sentence, joined
from memplan.core.units import format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, Place
from memplan.findings.job_case import JobCase

_MOST = 3


def path_findings(job: JobCase) -> Iterator[Finding]:
    """One finding without a cost: the critical path by what it is made of and by rank."""
    path = job.path
    if path is None or not path.length_ns:
        return
    parts = path.composition
    by_rank = {rank: sum(found.values()) for rank, found in path.parts.items() if found}
    words = joined(
        (
            Sentence("{} {}", (format_share(length / path.length_ns, 0), Sentence(part)))
            for part, length in list(parts.items())[:_MOST]
        ),
        "{}, {}",
    )
    evidence = [Evidence(part, length, "ns") for part, length in parts.items()]
    if len(job.ranks) > 1:
        evidence += [
            Evidence(Sentence("on rank {}", (rank,)), length, "ns") for rank, length in sorted(by_rank.items())
        ]
        evidence.append(Evidence("residual of the clocks' alignment", job.meetings.residual_ns, "ns"))
    yield Finding(
        kind="path.composition",
        title=Sentence("The critical path of {} is {}", (format_duration(path.length_ns), words)),
        rank=None,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula="back from what ends last: to what each kernel waited for, on its stream, another, the host or a rank",
        confidence=Confidence.DERIVED,
        places=(Place(tuple(sorted(by_rank, key=lambda rank: -by_rank[rank]))),),
        evidence=tuple(evidence),
    )
