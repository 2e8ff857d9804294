"""`memplan kv CONFIG`: the KV budget of a published language model on one die."""

from __future__ import annotations

from memplan.cli.reporting import reporting
from memplan.reports.report import Report
from memplan.requests.kv_request import KvRequest


@reporting
def command(request: KvRequest) -> Report:
    """
    Budget the KV cache of a served model, from the card's size down to blocks, tokens and sequences.

    Exits with 0 when a sequence of the context fits, 1 when none does, 2 when the input can't be used.
    """
    from memplan.deployment.cases import longest_context, memory_tier, recompute_ns, usual_effects
    from memplan.reports.kv_report import KvQuestions, kv_report

    case = request.case()
    result = case.budget()
    tiers = {name: memory_tier(case, size, link) for name, (size, link) in request.memories.items()}
    more = KvQuestions(
        batch=request.batch,
        longest=None if request.batch is None else longest_context(case, request.batch),
        tiers=tiers,
        recompute_ns=recompute_ns(case) if tiers else None,
        effects=usual_effects(case) if request.effects else (),
    )
    return kv_report(result, more)
