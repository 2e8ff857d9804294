"""Low-rank adapters: how many elements a rank trains where the model's own weights stand still."""

from __future__ import annotations

from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout, rank_elements
from memplan.models.training.phases import JOINED, ROWS_SPLIT, on_stage
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import weights


def adapter_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...], rank: int) -> int:
    """
    Elements of adapters of `rank` beside the linear layers of attention and dense feed-forward parts on one rank.

    Each is a matrix from its layer's input to `rank` values and one from those to its output; the side that tensor
    parallelism splits is split in the adapter too (MindSpeed-LLM, `--lora-target-modules`).
    """
    inputs: dict[tuple[int | None, str], int] = {}
    total = 0
    for item in weights(model):
        if not item.linear or item.group not in (WeightGroup.ATTENTION, WeightGroup.DENSE_FFN):
            continue
        if item.layer is None or not on_stage(model, item, spans):
            continue
        out, into = item.shape
        own, name = rank_elements(item, layout), item.name.rpartition(".")[2]
        if name in ROWS_SPLIT:
            total += own // out + out
        else:
            inputs[item.layer, JOINED.get(name, name)] = into
            total += own // into
    return rank * (total + sum(inputs.values()))
