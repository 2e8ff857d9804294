"""A job from its plan to its end: what was planned, how it ran, what its profile tells, and the verdict for a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any

from memplan.core.sentence import Sentence, Text
from memplan.core.version import MEMPLAN_VERSION
from memplan.reports.report import Figure, Figures, Quantity, Remark, Report, ReportSection, Severity, section
from memplan.runtime.job_process import JobProcess

JOB_FORMAT = "memplan-job"


@dataclass(frozen=True, slots=True)
class JobPart:
    """A report that is a part of the job's: what it is called, and whether a `no` of it is the job's."""

    name: str
    report: Report
    decides: bool


def job_report(process: JobProcess | None, parts: Sequence[JobPart], refused: Text | None = None) -> Report:
    """
    The report of a job: `process` is how it ran, `None` where it was not started, `refused` why not.

    The answer is yes where it ran to its end and no part that decides says no.
    """
    reasons: list[Text] = [] if refused is None else [refused]
    if process is not None and process.exit_code:
        reasons.append(_failure(process))
    failed = [part for part in parts if part.decides and not part.report.answer]
    reasons += [Sentence("{}: {}", (part.name, part.report.headline or part.report.title)) for part in failed]
    sections: list[ReportSection] = []
    if process is not None:
        figures = (
            Figure("exit code", process.exit_code, Quantity.COUNT),
            Figure("duration", process.duration_ns, Quantity.DURATION),
            Figure("most resident memory of a process", process.peak_resident_bytes, Quantity.BYTES),
        )
        last = ["\n".join(process.last_lines[-20:])] if process.exit_code and process.last_lines else []
        sections.append(section("The run", " ".join(process.words), Figures(figures), *last))
    for part in parts:
        sections += [
            replace(item, title=f"{part.name}: {item.title}" if item.title else part.name)
            for item in part.report.sections
        ]
    notes = [note for part in parts for note in part.report.notes]
    return Report(
        title="Job",
        headline=reasons[0] if reasons else Sentence("the job ran to its end and keeps what was asked of it"),
        sections=tuple(sections),
        notes=(*(Remark(reason, Severity.ERROR) for reason in reasons), *notes),
        answer=not reasons,
        document=lambda: _document(process, parts, reasons),
    )


def _document(process: JobProcess | None, parts: Sequence[JobPart], reasons: Sequence[Text]) -> dict[str, Any]:
    ran: Mapping[str, Any] | None = None
    if process is not None:
        ran = {
            "command": list(process.words),
            "exit_code": process.exit_code,
            "duration_ns": process.duration_ns,
            "peak_resident_bytes": process.peak_resident_bytes,
            "out_of_memory": process.out_of_memory,
        }
    return {
        "format": JOB_FORMAT,
        "schema_version": 1,
        "memplan_version": MEMPLAN_VERSION,
        "passed": not reasons,
        "reasons": list(map(str, reasons)),
        "run": ran,
        "checks": [
            {
                "name": part.name,
                "passed": part.report.answer,
                "decides": part.decides,
                "title": str(part.report.title),
                "headline": str(part.report.headline),
                "details": None if part.report.document is None else part.report.document(),
            }
            for part in parts
        ],
    }


def _failure(process: JobProcess) -> Text:
    """How a job failed, in words."""
    code = str(process.exit_code)
    if process.out_of_memory:
        return Sentence("the job ended with {}: out of memory", (code,))
    if process.exit_code < 0:
        number = -process.exit_code
        return Sentence(
            "the job was ended by {}", (next((s.name for s in Signals if s == number), f"signal {number}"),)
        )
    return Sentence("the job ended with {}", (code,))
