"""`step_graph`: the ops that one rank runs in one prefill or decode step of a served model."""

from __future__ import annotations

from memplan.core.errors import InputError
from memplan.graph import Graph
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout, stage_spans
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.options import ServedStep
from memplan.models.steps.pieces import StepPieces
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import outer_weights


def step_graph(model: ModelConfig, layout: Layout, step: ServedStep, *, stage: int = 0) -> Graph:
    """
    The graph of one rank of pipeline stage `stage`.

    Tensors are `(tokens of the rank, width)`; weights are stored `(outputs, inputs)`. Caches are inputs, alive
    throughout. Collectives carry `rank_size` and `group`; attention kernels the fields of the cost model's problem.
    Ops with `fused` run inside the kernel before them in serving engines, those with `within` are a part of another.
    A vision tower is left out.

    Raises `InputError` for a layout that does not divide the model.
    """
    check_layout(model, layout, step)
    span = stage_spans(len(model.layers), layout)[stage]
    e = StepEmitter(model, layout, step)
    pieces = StepPieces(e, e.hold([item for item in outer_weights(model) if item.group is not WeightGroup.VISION]))
    x = pieces.widen(pieces.embed()) if span.start == 0 else pieces.receive(stage)
    for layer in model.layers[span.start : span.stop]:
        x = pieces.layer(layer, x, f"layers.{layer.index}.")
    outputs = [x]
    if span.stop == len(model.layers):
        token, hidden = pieces.head(x)
        outputs = [token]
        if step.speculative:
            outputs += pieces.speculate(token, hidden)
    else:
        pieces.send(x, stage)
    e.leave()
    notes = list(model.notes)
    if model.vision is not None:
        notes.append("the vision tower is not part of the step")
    return e.finish(f"{model.name} {step.phase.value}", outputs, notes)


def check_layout(model: ModelConfig, layout: Layout, step: ServedStep) -> None:
    """Raises `InputError` for a layout or a step that can't be run."""
    room = layout.tensor * layout.data * layout.context
    if layout.expert > room:
        raise InputError(
            "{} ranks of expert parallelism do not fit into {} ranks of a stage",
            layout.expert,
            room,
            remedy="take at most tensor x data x context",
        )
    if step.batch < layout.data:
        raise InputError(
            "{} sequences leave some of {} data-parallel replicas without one",
            step.batch,
            layout.data,
            remedy="take a larger batch or fewer replicas",
        )
    if model.per_layer_inputs is not None and layout.pipeline > 1:
        raise InputError(
            "{}: every layer has an embedding of its own, which pipeline stages would have to share",
            model.name,
            remedy="take one stage",
        )
    for span in stage_spans(len(model.layers), layout):
        held = model.layers[span.start : span.stop]
        indices = {layer.index for layer in held}
        for layer in held:
            read = None if layer.mixer is None else layer.mixer.reads
            if read is not None and read not in indices:
                raise InputError(
                    "{}: layer {} reads the cache of layer {}, which another stage keeps",
                    model.name,
                    layer.index,
                    read,
                    remedy="take fewer pipeline stages",
                )
    if step.speculative and not model.mtp_layers:
        raise InputError("{} has no layers of multi-token prediction", model.name, remedy="leave speculation out")
