"""What a plan of an inference graph can honestly tell an engine: the KV cache that fits beside it, what it offloads."""

from __future__ import annotations

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.units import GIB, MIB, format_bytes
from memplan.export.settings import PlannedFact
from memplan.export.training_facts import TRAINING_KINDS
from memplan.graph import TensorKind
from memplan.schema import Plan, Tier


def plan_serving_facts(plan: Plan) -> dict[str, PlannedFact]:
    """
    What follows from `plan` for an engine that serves its model.

    The KV cache gets the HBM that the plan may use less the plan's peak and what the engine keeps for itself, rounded
    down to MiB; weights that spend time on the host are offloaded.

    Raises `InputError` for a plan of a training step, one that does not fit or whose HBM is unknown, and one that
    leaves nothing.
    """
    training = sorted({tensor.kind for tensor in plan.tensors} & TRAINING_KINDS)
    if training:
        raise InputError(
            "the plan is of a training step (it holds tensors of kind {}): engines only serve inference",
            " and ".join(training),
            remedy="export a plan of the inference graph",
        )
    if not plan.fits:
        raise InputError(
            "the plan does not fit, {} are missing",
            format_bytes(plan.missing_bytes),
            remedy="plan for a larger chip or more parallel devices",
        )
    hbm = plan.tier(Tier.HBM)
    if hbm is None or hbm.capacity is None:
        raise InputError("the plan does not know how much HBM there is", remedy="plan again with --hbm")
    redundancy = table("memplan.export", "engine_redundancy.json")
    kept = int(redundancy["bytes"])
    cache = (hbm.capacity - hbm.peak - kept) // MIB * MIB
    if cache <= 0:
        raise InputError(
            "the plan leaves {} of HBM, of which the engine keeps {}: nothing is left for a KV cache",
            format_bytes(max(hbm.capacity - hbm.peak, 0)),
            format_bytes(kept),
            remedy="plan for a larger chip or more parallel devices",
        )
    reason = (
        f"{format_bytes(hbm.capacity)} of HBM less the plan's peak of {format_bytes(hbm.peak)} and "
        f"{format_bytes(kept)} that the engine keeps ({redundancy['source']}), rounded down to MiB; what is outside of "
        "the plan (HCCL buffers, captured graphs) has to come out of it: lower it by what the engine logs for that"
    )
    facts = {"cache_bytes": PlannedFact(cache, reason)}
    moved = {placement.tensor for placement in plan.placements if placement.tier is Tier.HOST}
    away = [tensor for tensor in plan.tensors if tensor.index in moved]
    weights = sum(tensor.nbytes for tensor in away if tensor.kind == TensorKind.WEIGHT.value)
    if weights:
        reason = f"{format_bytes(weights)} of weights spend time on the host; the engine itself chooses which"
        facts["offloaded_gib"] = PlannedFact(-(-weights // GIB), reason)
    for kind in sorted({tensor.kind for tensor in away} - {TensorKind.WEIGHT.value}):
        size = sum(tensor.nbytes for tensor in away if tensor.kind == kind)
        facts[f"moved_{kind}"] = PlannedFact(format_bytes(size), "spends time on the host in the plan")
    told = {setting.name: setting.value for setting in plan.settings}
    for name, fact in (("tp", "tensor_parallel"), ("pp", "pipeline_parallel"), ("dp", "data_parallel")):
        if name in told:
            facts[fact] = PlannedFact(int(told[name]), "the layout that was planned", usual=told[name] == "1")
    return facts
