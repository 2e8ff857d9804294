"""What a plan can honestly tell vllm-ascend: the KV cache that fits beside it, and the weights it keeps on the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.core.resources import table
from memplan.core.units import GIB, MIB, format_bytes
from memplan.schema import Plan, Tier


def vllm_ascend_settings(plan: Plan) -> dict[str, Any]:
    """
    Flags for `vllm serve` that follow from `plan`, as JSON values with the figures and sources they rest on.

    The KV cache gets the HBM that the plan may use less the plan's peak and what the engine keeps for itself, rounded
    down to MiB; weights that spend time on the host become `--cpu-offload-gb`, rounded up to GiB.

    Raises `InputError` for a plan of a training step, one that does not fit or whose HBM is unknown, and one that
    leaves nothing.
    """
    facts = table("memplan.export", "vllm_ascend.json")
    training = sorted({tensor.kind for tensor in plan.tensors} & set(facts["training_kinds"]))
    if training:
        raise InputError(
            f"the plan is of a training step (it holds tensors of kind {' and '.join(training)}): "
            "vllm-ascend only serves inference",
            remedy="export a plan of the inference graph",
        )
    if not plan.fits:
        raise InputError(
            f"the plan does not fit, {format_bytes(plan.missing_bytes)} are missing",
            remedy="plan for a larger chip or more parallel devices",
        )
    hbm = plan.tier(Tier.HBM)
    if hbm is None or hbm.capacity is None:
        raise InputError("the plan does not know how much HBM there is", remedy="plan again with --hbm")
    kept = int(facts["redundancy_bytes"]["value"])
    cache = (hbm.capacity - hbm.peak - kept) // MIB * MIB
    if cache <= 0:
        raise InputError(
            f"the plan leaves {format_bytes(max(hbm.capacity - hbm.peak, 0))} of HBM, of which the engine keeps "
            f"{format_bytes(kept)}: nothing is left for a KV cache",
            remedy="plan for a larger chip or more parallel devices",
        )
    flags: dict[str, int] = {facts["flags"]["kv"]["name"]: cache}
    sources = {facts["flags"]["kv"]["name"]: facts["flags"]["kv"]["source"]}
    notes = [
        "memory outside of the plan (HCCL buffers, captured graphs) has to come out of the KV cache: lower "
        f"{facts['flags']['kv']['name']} by what the engine logs for it",
    ]
    moved = {placement.tensor for placement in plan.placements if placement.tier is Tier.HOST}
    weights = sum(tensor.nbytes for tensor in plan.tensors if tensor.index in moved and tensor.kind == "weight")
    others = sorted({tensor.kind for tensor in plan.tensors if tensor.index in moved and tensor.kind != "weight"})
    if weights:
        name = facts["flags"]["offload"]["name"]
        flags[name] = -(-weights // GIB)
        sources[name] = facts["flags"]["offload"]["source"]
        notes.append(f"{format_bytes(weights)} of weights spend time on the host; the engine itself chooses which")
    if others:
        notes.append(f"the engine has no setting for the host moves of kind {', '.join(others)}")
    return {
        "engine": facts["engine"],
        "graph": plan.origin.graph,
        "chip": plan.chip,
        "flags": flags,
        "command_line": " ".join(f"{name} {value}" for name, value in flags.items()),
        "additional_config": {},
        "rests_on": {
            "hbm_capacity_bytes": hbm.capacity,
            "plan_peak_bytes": hbm.peak,
            "engine_redundancy_bytes": kept,
            "sources": {**sources, "engine_redundancy_bytes": facts["redundancy_bytes"]["source"]},
        },
        "notes": notes,
    }


def write_vllm_ascend(plan: Plan, path: Path, progress: Progress) -> None:
    """Write `vllm_ascend_settings(plan)` as JSON; `command_line` is ready to be pasted behind `vllm serve MODEL`."""
    settings = vllm_ascend_settings(plan)
    progress(0, 1, "settings")
    with replacing_file(path) as file:
        json.dump(settings, file, indent=2, ensure_ascii=False)
        file.write("\n")
