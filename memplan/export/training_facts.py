"""What a plan of a training step decides that a training framework has to be told."""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.units import GIB, MIB, format_bytes
from memplan.export.settings import PlannedFact
from memplan.graph import TensorKind
from memplan.models.parallel import Layout, stage_spans
from memplan.models.training.recipe_choices import Sharding
from memplan.schema import Plan, PlannedTensor, Tier

TRAINING_KINDS = frozenset({TensorKind.GRADIENT.value, TensorKind.OPTIMIZER_STATE.value})
"""Kinds of tensors that only a training step has."""

_COUNTS = {"tp": "tensor_parallel", "pp": "pipeline_parallel", "dp": "data_parallel", "cp": "context_parallel",
           "ep": "expert_parallel", "etp": "expert_tensor_parallel", "micro-batch": "micro_batch",
           "micro-batches": "micro_batches", "sequence": "sequence", "chunks": "chunks"}  # fmt: skip
_USUALLY_ONE = frozenset({"context_parallel", "expert_parallel", "chunks", "pipeline_parallel"})
_SWITCHES = ("sequence-parallel", "recompute-cheap", "recompute-norms", "recompute-activations", "recompute-attention",
             "swap-optimizer", "reuse-fp32", "half-gradients", "half-moments", "dropout")  # fmt: skip
_NUMBERED = re.compile(r"(?:^|\.)(?:\w*layers?|\w*blocks?|h)\.(\d+)$")


def training_facts(plan: Plan) -> dict[str, PlannedFact]:
    """
    The facts of `plan`: layout and recipe of a model's plan, what is recomputed, what leaves HBM, how much there is.

    Raises `InputError` for a plan of something else than a training step and for one that does not fit.
    """
    kinds = {tensor.kind for tensor in plan.tensors}
    if not kinds & TRAINING_KINDS:
        raise InputError("the plan is of no training step", remedy="export a plan of --phase train or a training graph")
    if not plan.fits:
        raise InputError(
            "the plan does not fit, {} are missing",
            format_bytes(plan.missing_bytes),
            remedy="plan for a larger chip, more parallel devices or with --recompute auto",
        )
    facts = {**_recipe(plan), **_recomputed(plan), **_moved(plan)}
    use = plan.tier(Tier.HBM)
    if use is not None and use.capacity is not None:
        reason = f"HBM that the plan may use; its peak is {format_bytes(use.peak)}"
        facts["device_bytes"] = PlannedFact(use.capacity, reason, usual=True)
        facts["device_gib"] = PlannedFact(f"{int(use.capacity / GIB * 100) / 100:g}", reason, usual=True)
    if plan.program is not None:
        facts["framework"] = PlannedFact(plan.program.framework, "what the planned program is written in", usual=True)
    return facts


def _recipe(plan: Plan) -> dict[str, PlannedFact]:
    told = {setting.name: setting for setting in plan.settings}

    def why(name: str) -> str:
        setting = told[name]
        return f"{setting.certainty}: {setting.evidence}" if setting.evidence else f"planned so ({setting.certainty})"

    facts: dict[str, PlannedFact] = {}
    for name, fact in _COUNTS.items():
        if name in told:
            count = int(told[name].value)
            facts[fact] = PlannedFact(count, why(name), usual=count == 1 and fact in _USUALLY_ONE)
    for name in _SWITCHES:
        if name in told and told[name].value == "yes":
            facts[name.replace("-", "_")] = PlannedFact(True, why(name))
    for name in ("sharding", "schedule", "loss"):
        if name in told:
            facts[name] = PlannedFact(told[name].value, why(name))
    if "swap_optimizer" in facts:
        facts["swap_optimizer_share"] = replace(facts["swap_optimizer"], value=1.0, usual=True)
    if "lora-rank" in told:
        facts["lora_rank"] = PlannedFact(int(told["lora-rank"].value), why("lora-rank"))
    if {"micro_batch", "micro_batches", "data_parallel"} <= facts.keys():
        size = facts["micro_batch"].value * facts["micro_batches"].value
        reason = "micro-batch x micro-batches"
        facts["local_batch"] = PlannedFact(size, reason, usual=True)
        facts["global_batch"] = PlannedFact(size * facts["data_parallel"].value, f"{reason} x data-parallel ranks")
    if "stage-layers" in told:
        facts["stage_layers"] = PlannedFact(told["stage-layers"].value, why("stage-layers"))
    if "sharding" in facts and "data_parallel" in facts:
        facts |= _shared_ranks(facts["data_parallel"], facts["sharding"])
    count = int(told["recompute-layers"].value) if "recompute-layers" in told else 0
    if count:
        reason = f"{why('recompute-layers')}: so many layers of each pipeline stage keep their input only"
        facts["recompute_layers"] = PlannedFact(count, reason)
        stages = facts["pipeline_parallel"].value if "pipeline_parallel" in facts else 1
        facts["recompute_by_stage"] = PlannedFact([count] * stages, reason, usual=True)
        layers = _recomputed_numbers(plan, count)
        if layers is not None:
            facts["recompute_numbers"] = PlannedFact(_ranges(layers), reason, usual=True)
            if len(layers) == int(told["layers"].value):
                facts["recompute_all"] = PlannedFact(True, reason, usual=True)
    return facts


def _shared_ranks(ranks: PlannedFact, sharding: PlannedFact) -> dict[str, PlannedFact]:
    """Data-parallel ranks as FSDP counts them: those that share weights and those that copy them."""
    shared = sharding.value != Sharding.NONE.value
    reason = f"sharding {sharding.value}: {sharding.reason}"
    facts = {
        "sharded_ranks": PlannedFact(ranks.value if shared else 1, reason, usual=True),
        "replicated_ranks": PlannedFact(1 if shared else ranks.value, reason, usual=True),
    }
    if shared:
        facts["reshards"] = PlannedFact(Sharding(sharding.value).gathers, reason, usual=True)
    return facts


def _recomputed_numbers(plan: Plan, count: int) -> list[int] | None:
    """The first `count` layers of every stage; `None` where the plan does not say how many layers there are."""
    told = {setting.name: setting.value for setting in plan.settings}
    if "layers" not in told:
        return None
    counts = told["stage-layers"].split(",") if "stage-layers" in told else []
    given = tuple(int(part) if part else None for part in counts)
    layout = Layout(pipeline=int(told.get("pp", "1")), stage_layers=given)
    return [layer for span in stage_spans(int(told["layers"]), layout) for layer in span[:count]]


def _ranges(numbers: list[int]) -> list[str]:
    """`numbers` in order as ranges with both their ends, such as `0-3`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in spans]


def _recomputed(plan: Plan) -> dict[str, PlannedFact]:
    """Whole modules that a program's plan makes anew, and ops that run a second time."""
    facts: dict[str, PlannedFact] = {}
    modules = plan.program.recomputed if plan.program is not None else ()
    if modules:
        reason = f"the plan makes anew the activations of {', '.join(modules[:4])}{' ...' if len(modules) > 4 else ''}"
        numbers = sorted(int(match[1]) for name in modules if (match := _NUMBERED.search(name)))
        if len(numbers) == len(modules):
            facts["recompute_numbers"] = PlannedFact(_ranges(numbers), reason)
        else:
            facts["recompute_modules"] = PlannedFact(list(modules), reason)
    again = [op for op in plan.ops if op.repeats is not None]
    if again:
        types = ", ".join(f"{count} {name}" for name, count in Counter(op.type for op in again).most_common(4))
        facts["repeated_ops"] = PlannedFact(len(again), f"single ops that the plan runs a second time: {types}")
    return facts


def _moved(plan: Plan) -> dict[str, PlannedFact]:
    """What leaves HBM: layers whose activations mostly do, how early they are back, states of the optimiser."""
    out = [move for move in plan.transfers if move.source is Tier.HBM and move.target is Tier.HOST]
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    facts: dict[str, PlannedFact] = {}
    pooled = {move.tensor for move in plan.transfers if Tier.REMOTE in (move.source, move.target)}
    if pooled:
        size = -(-sum(tensors[index].nbytes for index in pooled) // MIB)
        reason = "the plan keeps so many MiB in pooled memory for a while, which no setting of a framework does"
        facts["pooled_mib"] = PlannedFact(size, reason)
    for link in plan.links:
        facts[f"{link.name}_gbps"] = PlannedFact(round(link.bytes_per_second / 1e9, 3), link.source.value, usual=True)
    times = [op.duration_ns for op in plan.ops if op.launches and op.duration_ns]
    if plan.timed and times:
        reason = "median time of the plan's kernels"
        facts["kernel_us"] = PlannedFact(round(statistics.median(times) / 1000, 1), reason, usual=True)
    moved: Counter[str] = Counter()
    for index in {move.tensor for move in out}:
        moved[tensors[index].kind] += tensors[index].nbytes
    states = sum(t.nbytes for t in plan.tensors if t.kind == TensorKind.OPTIMIZER_STATE.value)
    optimizer = moved.pop(TensorKind.OPTIMIZER_STATE.value, 0)
    if optimizer:
        shares = f"{format_bytes(optimizer)} of {format_bytes(states)} of its states"
        reason = f"the plan keeps {shares} on the host for a while"
        facts["swap_optimizer"] = PlannedFact(True, reason)
        facts["swap_optimizer_share"] = PlannedFact(round(optimizer / states, 3), reason, usual=True)
    for kind in (TensorKind.WEIGHT.value, TensorKind.GRADIENT.value):
        if moved.get(kind):
            size = -(-moved[kind] // MIB)
            facts[f"moved_{kind}_mib"] = PlannedFact(size, "the plan keeps so many MiB on the host for a while")
    if moved.get(TensorKind.ACTIVATION.value):
        facts |= _swapped_layers(plan)
    return facts


def kept_activations(plan: Plan) -> dict[int, list[PlannedTensor]]:
    """What the layers of a model keep for the way back, by layer; empty where the plan knows no layers."""
    scopes = {op.index: (op.layer, op.phase) for op in plan.ops}
    backward = {index for index, (_, phase) in scopes.items() if phase == "backward"}
    kept: defaultdict[int, list[PlannedTensor]] = defaultdict(list)
    for tensor in plan.tensors:
        if tensor.kind != TensorKind.ACTIVATION.value or tensor.producer is None or tensor.producer in backward:
            continue
        layer = scopes[tensor.producer][0]
        if layer is not None and not backward.isdisjoint(tensor.uses):
            kept[layer].append(tensor)
    return dict(kept)


def _swapped_layers(plan: Plan) -> dict[str, PlannedFact]:
    starts = [op.start_ns for op in plan.ops]
    out = {move.tensor for move in plan.transfers if move.source is Tier.HBM and move.target is Tier.HOST}
    by_layer = kept_activations(plan)
    kept = {layer: sum(tensor.nbytes for tensor in tensors) for layer, tensors in by_layer.items()}
    gone = {
        layer: sum(tensor.nbytes for tensor in tensors if tensor.index in out) for layer, tensors in by_layer.items()
    }
    layers = {tensor.index: layer for layer, tensors in by_layer.items() for tensor in tensors}
    ahead: defaultdict[int, list[int]] = defaultdict(list)
    for move in plan.transfers:
        if move.tensor in layers and move.source is Tier.HOST and move.before_step is not None:
            running = max(0, bisect_right(starts, move.start_ns) - 1)
            steps = plan.ops[running : move.before_step]
            ahead[layers[move.tensor]].append(max(1, sum(1 for op in steps if op.launches)))
    total = sum(gone.values())
    whole = sorted(layer for layer, nbytes in gone.items() if 2 * nbytes >= kept[layer])
    reason = f"the plan moves {format_bytes(total)} of what layers keep for the way back to the host, tensor by tensor"
    facts = {"swapped_activations_mib": PlannedFact(-(-total // MIB), reason, usual=bool(whole))}
    if whole:
        early = max((max(ahead[layer]) for layer in whole if ahead[layer]), default=1)
        timing = "at most so many kernels before its first use a tensor starts to come back"
        facts["layer_swap"] = PlannedFact(
            [{"backward_prefetch": early, "layers": whole}], f"{reason}; of these layers at least half; {timing}"
        )
        facts["prefetch_ops"] = PlannedFact(early, timing, usual=True)
    return facts


def training_figures(plan: Plan) -> dict[str, int]:
    """What must come out."""
    use = plan.tier(Tier.HBM)
    figures = {"step_ns": plan.step_ns} if plan.timed else {}
    return figures if use is None else {"peak_bytes": use.peak, **figures}
