"""Every known defect by its kind, one as asked for, and a job with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from memplan.core.errors import InputError
from memplan.simulator.faults.fault import Fault
from memplan.simulator.faults.field_faults import FIELD_FAULTS
from memplan.simulator.faults.plain_faults import PLAIN_FAULTS
from memplan.simulator.job_settings import FaultyJob

STRENGTHS = {"weak": 0.06, "medium": 0.12, "strong": 0.3}
"""Time of a fault as a share of a step's computing; of memory, bytes as a share of the peak."""
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {**PLAIN_FAULTS, **{kind: replace(fault, background=True) for kind, fault in FIELD_FAULTS.items()}}
)
"""Every fault by its kind; those of the field are planted among noise."""


@dataclass(frozen=True, slots=True)
class ChosenFault:
    """A fault as asked for, `KIND` or `KIND:STRENGTH`."""

    kind: str
    fault: Fault
    strength: float


def chosen_fault(text: str) -> ChosenFault:
    """The fault that `KIND[:STRENGTH]` names; STRENGTH is weak, medium, strong or a share such as 0.2."""
    kind, _, given = text.partition(":")
    if kind not in FAULTS:
        raise InputError(f"fault {kind!r:.40} is not known", remedy=f"write one of {', '.join(FAULTS)}")
    try:
        strength = STRENGTHS[given or "medium"] if (given or "medium") in STRENGTHS else float(given)
    except ValueError:
        strength = 0.0
    if not 0 < strength <= 2:
        raise InputError(
            f"{given!r:.20} is no strength of a fault", remedy=f"write {', '.join(STRENGTHS)} or a share up to 2"
        )
    return ChosenFault(kind, FAULTS[kind], strength)


def planted(job: FaultyJob, chosen: ChosenFault) -> FaultyJob:
    """`job` with the fault; raises `InputError` where it takes more ranks than there are, or would change nothing."""
    if len(job.programs) < chosen.fault.ranks:
        raise InputError(
            f"{chosen.kind} takes {chosen.fault.ranks} ranks at least", remedy=f"add --ranks {chosen.fault.ranks}"
        )
    done = chosen.fault.plant(job, chosen.strength)
    if done == job and chosen.kind in FAULTS and chosen.fault.batches is None:
        raise InputError(
            f"{chosen.kind} changes nothing in a job of this plan", remedy="plan what it could slow, or plant another"
        )
    return done
