"""A prefill or decode step from its kernels: tokens, sequences, and how products are divided among ranks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.likeness.kernel_kinds import KernelKind, KernelSteps
from memplan.likeness.layout_like import place_in_layout
from memplan.likeness.setting import Settings
from memplan.likeness.training_shapes import held_experts, makes_logits, norm_rows
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph
from memplan.schema import Certainty
from memplan.traces.parallel_groups import ParallelGroups

_CANDIDATES = (1, 2, 4, 8, 16, 32)
_CONTEXT = 4096


def serving_like(model: ModelConfig, step: KernelSteps, groups: ParallelGroups, rank: int, settings: Settings) -> None:
    """Find out which step of `model` the kernels of `step` are."""
    if "tp" not in settings:
        _tensor_ranks(model, step, settings)
    rows, sampled = norm_rows(model, step), _sampled_rows(model, step)
    if rows is None:
        raise InputError(
            f"no kernel of the profile is a norm as wide as {model.name} ({model.hidden_size:,})",
            remedy="give the config.json of the model that ran",
        )
    if "phase" not in settings:
        decode = sampled is None or sampled >= rows
        why = f"{rows:,} tokens a step, {'no' if sampled is None else f'{sampled:,}'} of them sampled"
        settings.put(
            "phase", "decode" if decode else "prefill", why, Certainty.LIKELY if sampled is None else Certainty.FOLLOWS
        )
    experts = held_experts(step)
    if model.experts is not None and experts and "ep" not in settings and model.experts.experts % experts == 0:
        settings.put("ep", model.experts.experts // experts, f"{experts} of {model.experts.experts} experts a rank")
    for name in ("tp", "pp", "dp", "cp", "ep"):
        if name not in settings:
            settings.put(name, 1, "nothing in the profile tells it", Certainty.ASSUMED)
    place_in_layout(groups, rank, settings)
    if "stage" not in settings:
        settings.put("stage", 0, "nothing in the profile tells it", Certainty.ASSUMED)
    _sequences(rows, sampled, settings)
    _precision(model, step, settings)


def _tensor_ranks(model: ModelConfig, step: KernelSteps, settings: Settings) -> None:
    """The division under which most of the model's weights are operands of products that ran."""
    found = {pair for kind, _ in step.counted() if kind.product is not None for pair in _pairs(kind)}
    best: tuple[float, int] = (0.0, 1)
    for ranks in _CANDIDATES:
        try:
            expected = _weight_shapes(model, ranks)
        except InputError:
            continue
        share = len(expected & found) / len(expected) if expected else 0.0
        best = max(best, (share, -ranks))
    share, ranks = best[0], abs(best[1])
    if share:
        settings.put(
            "tp",
            ranks,
            f"{share:.0%} of the shapes of a layer's weights are those of {ranks} ranks",
            Certainty.FOLLOWS if share > 0.6 else Certainty.LIKELY,
        )


def _pairs(kind: KernelKind) -> set[tuple[int, int]]:
    """Columns and depth of a product, the weight's two dimensions."""
    found = kind.product
    return set() if found is None else {(found[1], found[2])}


def _weight_shapes(model: ModelConfig, ranks: int) -> set[tuple[int, int]]:
    """Shapes of the matrices that products of one layer of each kind read on one of `ranks` ranks."""
    kinds = {
        (layer.mixer, layer.ffn, layer.norms): layer
        for layer in model.layers
        if layer.mixer is None or layer.mixer.reads is None
    }
    short = replace(model, layers=tuple(kinds.values()), mtp_layers=())
    graph = step_graph(short, Layout(tensor=ranks), ServedStep(Phase.DECODE, 1, 64))
    return {
        (shape[0], shape[1])
        for op in graph.ops
        if op.type in ("MatMul", "QuantBatchMatmul", "WeightQuantBatchMatmul")
        and op.scope is not None
        and op.scope.layer is not None
        for shape in [graph.tensors[op.inputs[1]].shape]
        if len(shape) == 2
    }


def _sampled_rows(model: ModelConfig, step: KernelSteps) -> int | None:
    """Rows that logits are made of."""
    rows = Counter[int]()
    for kind, number in step.counted():
        found = kind.product
        if found is not None and makes_logits(kind, model):
            rows[found[0]] += number
    return max(rows, key=lambda row: rows[row], default=None)


def _sequences(rows: int, sampled: int | None, settings: Settings) -> None:
    data, ranks = settings.get("dp"), settings.get("tp")
    spread = "sequence_parallel" in settings and settings.get("sequence_parallel")
    tokens = rows * (ranks if spread else 1)
    if "sequence_parallel" not in settings:
        settings.put("sequence_parallel", False, "norms see all tokens", Certainty.ASSUMED)
    if settings.get("phase") == "decode":
        drafts = settings.take("mtp") or 0
        settings.put("batch", tokens // (1 + drafts) * data, f"{tokens:,} tokens a step on each of {data} replicas")
        if settings.take("context") is None:
            settings.put(
                "context", _CONTEXT, "kernels don't tell how long the sequences are: give --context", Certainty.ASSUMED
            )
    else:
        number = sampled or 1
        settings.put("batch", number * data, f"{number:,} rows sampled on each of {data} replicas")
        settings.put(
            "context", max(1, tokens // number), f"{tokens:,} tokens of {number:,} sequences", Certainty.LIKELY
        )


def _precision(model: ModelConfig, step: KernelSteps, settings: Settings) -> None:
    """Eight-bit products where the profile has them; the model's own precision otherwise."""
    types = Counter[str]()
    for kind, number in step.counted():
        if (kind.product is not None and kind.dtypes) or (
            "Quant" in kind.type and ("MatMul" in kind.type or "Matmul" in kind.type) and kind.dtypes
        ):
            types[kind.dtypes[0].removeprefix("DT_").upper()] += number
    if not types:
        return
    most = max(types, key=lambda name: types[name])
    eight = most == "INT8"
    published = model.quantization is not None
    value = "w8a8" if eight and not published else "published" if published or not eight else "w8a8"
    if not eight and published and most in ("BF16", "FLOAT16"):
        value = "bf16"
    settings.put("weights", value, f"most products read {most}", Certainty.LIKELY)
