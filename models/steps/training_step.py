"""`training_graph`: the ops that one rank runs in one training step, all micro-batches and the optimiser included."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.graph import Graph, Op
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout, on_stages, training_layout
from memplan.models.steps.adapter_steps import AdapterBackward, AdapterEmitter, refuse_adapters
from memplan.models.steps.backward import Backward
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.gathered_weights import GatheringEmitter
from memplan.models.steps.optimizer_step import optimise
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.steps.pieces import StepPieces
from memplan.models.steps.spread_gradients import SpreadBackward
from memplan.models.training.memory import training_spans
from memplan.models.training.pipeline_order import PipelinePass, pipeline_order
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import outer_weights


@dataclass(frozen=True, slots=True)
class _Forward:
    """One micro-batch on its way: where its layers begin and end in the list of ops, and their inputs."""

    spans: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    first: int
    out: int
    loss: int | None


def training_graph(model: ModelConfig, layout: Layout, recipe: Recipe, *, stage: int = 0, data_rank: int = 0) -> Graph:
    """
    The graph of rank `data_rank` of the data-parallel group of pipeline stage `stage`: every micro-batch forward and
    backward in the order of 1F1B (interleaved or not) or GPipe, the exchange of gradients between replicas, and Adam.

    Gradients of weights are added up in buffers that live throughout, float32 unless `recipe.sums_in_halves`; what a
    backward op reads lives from forward to backward. Recomputed layers keep their input alone and run again before
    their backward. Weights that ranks divide are gathered a layer ahead, both ways, and their gradients are spread when
    a layer's way back is over; those outside the layers stay gathered from their pass forward on, and their gradients
    are spread last.

    Raises `InputError` for a schedule or a kind of layer whose order of ops is not known.
    """
    if recipe.reference_model:
        raise InputError("a reference model is in no graph of training", remedy="memplan train-memory counts it")
    if recipe.half_weights:
        raise InputError(
            "weights in 16 bits alone are in no graph of training", remedy="memplan train-memory counts them"
        )
    if recipe.byte_moments:
        raise InputError("moments in 8 bits are in no graph of training", remedy="memplan train-memory counts them")
    if recipe.muon:
        raise InputError("Muon is in no graph of training", remedy="memplan train-memory counts it")
    if recipe.fp8:
        raise InputError("products in 8 bits are in no graph of training", remedy="memplan train-memory counts them")
    refuse_adapters(recipe)
    if recipe.alibi_masks:
        raise InputError("the bias of positions (ALiBi) is in no graph", remedy="memplan train-memory counts it")
    if recipe.noop_layers:
        raise InputError(
            "layers that do nothing are in no graph of training", remedy="--stage-layers says how many each stage has"
        )
    if recipe.mtp_layers:
        raise InputError(
            "layers that predict further tokens are in no graph of training", remedy="memplan train-memory counts them"
        )
    if recipe.optimizer_instances > 1 and not recipe.sharding.gathers:
        raise InputError(
            "several instances of the distributed optimiser are in no graph", remedy="memplan train-memory counts them"
        )
    if recipe.deferred_head and layout.pipeline > 1:
        raise InputError("a head whose gradient waits is in no graph", remedy="memplan train-memory counts it")
    if recipe.swap_attention or recipe.zero_memory_layers:
        raise InputError(
            "attention swapped to the host and experts made anew are in no graph",
            remedy="memplan train-memory counts them",
        )
    if recipe.recompute_products or recipe.recompute_heads or recipe.swap_attended:
        raise InputError(
            "products and heads made anew and attention's outputs on the host are in no graph",
            remedy="memplan train-memory counts them",
        )
    if recipe.makes_parts_anew:
        raise InputError(
            "feed-forward parts made anew as a whole are in no graph", remedy="memplan train-memory counts them"
        )
    if model.hyper is not None or model.per_layer_inputs is not None:
        raise InputError("the backward pass of {} is not modelled", model.family)
    return _Training(model, training_layout(layout), recipe, stage, data_rank).graph()


class _Training:
    def __init__(self, model: ModelConfig, layout: Layout, recipe: Recipe, stage: int, data_rank: int) -> None:
        spans = training_spans(model, layout, recipe, stage)
        self.spans = spans
        self.chunks = [model.layers[span.start : span.stop] for span in spans]
        self.order = list(pipeline_order(layout, recipe, stage))
        self.layout, self.recipe, self.stage, self.data_rank = layout, recipe, stage, data_rank
        step = ServedStep(
            Phase.PREFILL,
            batch=recipe.micro_batch * layout.data,
            context=recipe.sequence,
            precision="bf16",
            sequence_parallel=recipe.sequence_parallel,
            # What trains a router balances it, by a loss or a bias (arXiv 2412.19437, 2.1.2).
            even_routing=True,
        )
        self.divided: SpreadBackward | None = None
        self.e: StepEmitter
        self.backward: Backward
        if recipe.sharding.gathers:
            gathering = GatheringEmitter(model, layout, step, recipe)
            self.divided = SpreadBackward(gathering, recipe)
            self.e, self.backward = gathering, self.divided
        elif recipe.lora_rank:
            adapters = AdapterEmitter(model, layout, step, recipe)
            self.e, self.backward = adapters, AdapterBackward(adapters, recipe)
        else:
            self.e = StepEmitter(model, layout, step, training=True, dropout=recipe.dropout)
            self.backward = Backward(self.e, recipe)
        outer = self.e.hold([item for item in outer_weights(model) if item.group is not WeightGroup.VISION])
        self.pieces = StepPieces(self.e, outer)

    def graph(self) -> Graph:
        running: dict[tuple[int, int], _Forward] = {}
        for item in self.order:
            chunk = f"chunk.{item.chunk}." if len(self.chunks) > 1 else ""
            self.e.run, self.e.micro_batch = f"micro_batch.{item.micro_batch}.{chunk}", item.micro_batch
            if item.forward:
                running[item.micro_batch, item.chunk] = self._forward(item.chunk)
            else:
                self._back(running.pop((item.micro_batch, item.chunk)), item)
        self.e.run, self.e.micro_batch = "", None
        if self.divided is not None:
            self.divided.optimise(self.recipe)
        else:
            optimise(self.e, self.backward.buffers, self.recipe, stage=self.stage, data_rank=self.data_rank)
        return self.e.finish(f"{self.e.model.name} training, stage {self.stage}", ())

    def _is_first(self, chunk: int) -> bool:
        """Whether tokens are looked up before the layers of a chunk."""
        return self.stage == 0 and chunk == 0

    def _is_last(self, chunk: int) -> bool:
        """Whether the loss is made behind the layers of a chunk."""
        return self.stage == self.layout.pipeline - 1 and chunk == len(self.chunks) - 1

    def _has_outer(self, chunk: int) -> bool:
        """Whether a chunk has weights outside the layers."""
        return self._is_first(chunk) or self._is_last(chunk)

    @property
    def _before(self) -> int:
        """The stage that sends what a chunk begins with, for all but the first chunk of the model."""
        return (self.stage - 1) % self.layout.pipeline

    @property
    def _behind(self) -> int:
        return (self.stage + 1) % self.layout.pipeline

    def _gather(self, layer: Layer | None) -> None:
        """Gather the weights of `layer`, or all outside the layers that the stage has, where ranks divide them."""
        if self.divided is None:
            return
        if layer is not None:
            self.divided.gathering.gather_layer(layer)
            return
        model = self.e.model
        outer = {
            name: held
            for name, held in self.pieces.outer.items()
            if on_stages(model, self.spans, held.weight, copied=model.tied_embeddings and name == "embed_tokens")
        }
        self.divided.gathering.gather_outer(outer)
        self.pieces.table = self.pieces.head_weight = None

    def _arrive(self, layer: Layer | None) -> None:
        """Have gathered weights stand where they are read."""
        if self.divided is not None:
            self.divided.gathering.arrive(layer)

    def _spread(self, layer: Layer | None) -> None:
        """Spread the gradients of `layer` over the ranks that divide it, or of what is outside the layers."""
        if self.divided is not None:
            self.divided.spread(layer)

    def _forward(self, chunk: int) -> _Forward:
        ops = self.e.graph.ops
        e = self.e
        e.phase = "forward"
        layers = self.chunks[chunk]
        if self._has_outer(chunk):
            self._gather(None)
            self._arrive(None)
        self._gather(layers[0])
        first = len(ops)
        if self._is_first(chunk):
            e.phase = "embedding"
            x = self.pieces.widen(self.pieces.embed())
        else:
            e.phase = "pipeline"
            x = self.pieces.receive(self._before)
        e.phase = "forward"
        spans, starts = [], []
        for number, layer in enumerate(layers):
            if number + 1 < len(layers):
                self._gather(layers[number + 1])
            self._arrive(layer)
            begin = len(ops)
            starts.append(x)
            x = self.pieces.layer(layer, x, f"layers.{layer.index}.")
            spans.append((begin, len(ops)))
        loss = None
        if self._is_last(chunk):
            e.phase = "loss"
            loss = self._loss(x)
        else:
            e.phase = "pipeline"
            self.pieces.send(x, self._behind)
        return _Forward(tuple(spans), tuple(starts), first, x, loss)

    def _loss(self, x: int) -> int:
        """Final norm, logits in 16 bits and in float32, cross entropy; returns the logits."""
        e, pieces = self.e, self.pieces
        e.scope = ""
        e.add_weights({"norm": pieces.outer["norm"]})
        x = e.norm("final_norm", e.gather_tokens(x), "norm")
        weight = pieces.head_matrix()
        logits = e.act("logits", (e.tokens, e.shape(weight)[0]))
        e.op("lm_head", "MatMul", (x, weight), (logits,), transpose_a=False, transpose_b=True)
        wide = e.act("logits.float32", e.shape(logits), "float32")
        e.op("logits.cast", "Cast", (logits,), (wide,))
        loss = e.act("loss", (e.tokens,), "float32")
        e.op("loss", "CrossEntropyLoss", (wide,), (loss, e.view("softmax", wide, e.shape(wide))))
        e.leave()
        return logits

    def _back(self, run: _Forward, item: PipelinePass) -> None:
        layers = self.chunks[item.chunk]
        e, ops, back = self.e, self.e.graph.ops, self.backward
        end = run.spans[-1][1]
        e.phase = "backward"
        self._gather(layers[-1])
        if run.loss is not None:
            gradient = e.act("logits.grad", e.shape(run.loss))
            softmax = next(op.outputs[1] for op in ops[end:] if op.type == "CrossEntropyLoss" and _of(op, e.run))
            e.op("loss.grad", "CrossEntropyLossGrad", (softmax,), (gradient,))
            back.seed(run.loss, gradient)
            tail = [op for op in ops[end:] if _of(op, e.run)]
            back.run(tail[: next(i for i, op in enumerate(tail) if op.type == "Cast")])
        else:
            gradient = e.act("gradient.received", e.shape(run.out))
            e.phase = "pipeline"
            e.op("receive_gradient", "Receive", (), (gradient,), rank_size=2, group="pp", peer=self._behind)
            e.phase = "backward"
            back.seed(run.out, gradient)
        again = self.recipe.recompute_layers - sum(len(other) for other in self.chunks[: item.chunk])
        for position in reversed(range(len(layers))):
            layer, (begin, stop) = layers[position], run.spans[position]
            if position:
                self._gather(layers[position - 1])
            self._arrive(layer)
            if position < again:
                self._recompute(layer, position, run)
            else:
                e.scope = f"layers.{layer.index}."
                back.run(ops[begin:stop])
            e.scope = ""
            self._spread(layer)
        if self._is_first(item.chunk):
            back.run(ops[run.first : run.spans[0][0]])
        else:
            gradient_out = back.take(run.starts[0])
            if gradient_out is not None:
                e.phase = "pipeline"
                sent = e.act("gradient.sent", e.shape(gradient_out))
                e.op("send_gradient", "Send", (gradient_out,), (sent,), rank_size=2, group="pp", peer=self._before)
                e.phase = "backward"
        if self._has_outer(item.chunk):
            self._spread(None)

    def _recompute(self, layer: Layer, position: int, run: _Forward) -> None:
        """Run a layer again from its input, and go back through the second run."""
        e, ops, back = self.e, self.e.graph.ops, self.backward
        before = run.starts[position + 1] if position + 1 < len(run.starts) else run.out
        gradient = back.take(before)
        begin = len(ops)
        name, e.run, e.phase = e.run, f"{e.run}again.", "recompute"
        out = self.pieces.layer(layer, run.starts[position], f"layers.{layer.index}.")
        e.scope, e.phase = f"layers.{layer.index}.", "backward"
        if gradient is not None:
            back.seed(out, gradient)
        back.run(ops[begin:])
        e.run = name


def _of(op: Op, run: str) -> bool:
    return op.name.startswith(run)
