"""The pieces that steps are put together from: embedding, layers, head, drafts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from memplan.graph import TensorKind
from memplan.graph.model import dense_bytes
from memplan.models.architecture import Layer, PerLayerInputs
from memplan.models.drafts import draft_head
from memplan.models.mixers.base import TokenMixer
from memplan.models.steps.compressed_kernels import look_up, read_low_rank, read_streams, write_streams
from memplan.models.steps.emit import RankWeight, StepEmitter
from memplan.models.steps.ffn_kernels import feed_forward
from memplan.models.steps.mixer_kernels import mix_tokens
from memplan.models.steps.options import Phase
from memplan.models.weights import weights


class StepPieces:
    """The pieces that a step is put together from, on one emitter."""

    def __init__(self, e: StepEmitter, outer: Mapping[str, RankWeight]) -> None:
        self.e = e
        self.outer = outer
        self.table: int | None = None
        self.own_inputs: int | None = None
        self.head_weight: int | None = None
        self.head_bias: list[int] = []

    def embed(self) -> int:
        """Token ids to the residual stream."""
        e = self.e
        hidden = e.model.hidden_size
        ids = e.graph.tensor("ids", (e.tokens,), "int32", 4 * e.tokens, TensorKind.INPUT)
        e.inputs.append(ids)
        table = self._table()
        x = e.act("embedding.out", (e.tokens, hidden))
        e.op("embedding", "Embedding", (table, ids), (x,))
        ranks = e.tensor if e.tensor > 1 else e.step.embedding_parallel
        x = e.collective("embedding.all_reduce", "AllReduce", x, e.shape(x), ranks, "tp")
        if e.model.position_rows:
            e.add_weights({"embed_positions": self.outer["embed_positions"]})
            positions = e.weight(("embed_positions",), (e.model.position_rows, hidden))
            found, x = x, e.act("embedding.placed", (e.tokens, hidden))
            e.op("embedding.positions", "Embedding", (positions, ids, found), (x,))
        if e.model.embedding_norm:
            e.add_weights(self._outer_norm("embed_norm"))
            x = e.norm("embedding.norm", x, "embed_norm")
        if e.model.per_layer_inputs is not None:
            self._own_inputs(ids, x, e.model.per_layer_inputs)
        return x

    def _outer_norm(self, name: str) -> Mapping[str, RankWeight]:
        return {key: self.outer[key] for key in (name, f"{name}.bias") if key in self.outer}

    def _own_inputs(self, ids: int, x: int, inputs: PerLayerInputs) -> None:
        """The second embedding of every token, for all layers at once, and the projection that joins it."""
        e, names = self.e, ("embed_per_layer", "per_layer_model_projection", "per_layer_projection_norm")
        e.add_weights({name: self.outer[name] for name in names})
        width = len(e.model.layers) * inputs.width
        table = e.weight(names[:1], (self.outer[names[0]].elements // width, width))
        found = e.act("own_inputs", (e.tokens, width))
        e.op("own_embedding", "Embedding", (table, ids), (found,))
        found = e.collective("own_embedding.all_reduce", "AllReduce", found, e.shape(found), e.tensor, "tp")
        projected = e.linear(x, names[1:2], width, e.model.hidden_size)
        self.own_inputs = e.act("own_inputs.sum", (e.tokens, width))
        e.op("own_inputs.norm", "AddRmsNorm", (found, projected, *e.spend(names[2])), (self.own_inputs,))

    def _table(self) -> int:
        e = self.e
        if self.table is None:
            # A head tied to the embedding is split as the embedding is.
            tied = e.model.tied_embeddings
            ranks = 1 if e.tensor > 1 else e.step.head_parallel if tied else e.step.embedding_parallel
            e.add_weights({"embed_tokens": self.outer["embed_tokens"]})
            rows = -(-self.outer["embed_tokens"].elements // e.model.hidden_size // ranks)
            self.table = e.weight(("embed_tokens",), (rows, e.model.hidden_size), share=ranks)
            if tied:
                self.head_weight = self.table
        return self.table

    def widen(self, x: int) -> int:
        """The residual stream as wide as the layers keep it, of the rank's own tokens."""
        e = self.e
        if e.residual_tokens != e.tokens:
            x = e.view("own_tokens", x, (e.residual_tokens, e.model.hidden_size), e.graph.nbytes[x] // e.tensor)
        if e.model.hyper is not None:
            wide = e.act("streams", (e.residual_tokens, e.model.hyper.streams * e.model.hidden_size))
            e.op("streams", "Tile", (x,), (wide,))
            return wide
        if e.model.alternating is not None:
            e.add_weights({"altup_projections": self.outer["altup_projections"]})
            count, hidden = e.model.alternating.streams, e.model.hidden_size
            others = e.linear(x, ("altup_projections",), (count - 1) * hidden, hidden)
            wide = e.act("streams", (e.residual_tokens, count * hidden))
            e.op("streams", "Concat", (x, others), (wide,))
            return wide
        return x

    def receive(self, peer: int) -> int:
        """The residual stream of stage `peer`."""
        e = self.e
        streams = e.model.hyper.streams if e.model.hyper is not None else 1
        shape = (e.residual_tokens, streams * e.model.hidden_size)
        x = e.graph.tensor("from_stage", shape, e.dtype, dense_bytes(shape, e.dtype))
        e.op("receive", "Receive", (), (x,), rank_size=2, group="pp", peer=peer)
        return x

    def send(self, x: int, peer: int) -> None:
        """The residual stream to stage `peer`."""
        sent = self.e.act("to_stage", self.e.shape(x))
        self.e.op("send", "Send", (x,), (sent,), rank_size=2, group="pp", peer=peer)

    def layer(self, layer: Layer, x: int, scope: str) -> int:
        """One layer: `x` is the residual stream before it, the result the one after it."""
        e = self.e
        e.enter(layer, scope)
        if layer.lookup is not None:
            x = look_up(e, layer.lookup, x)
        names = [f"norm.{number}" for number in range(layer.norms)]
        # One norm before each part; from four on, others behind them.
        parts = (layer.mixer is not None) + (layer.ffn is not None)
        first = 2 if layer.norms > parts and layer.mixer is not None else len(names) if parts == 1 else 1
        mixer, wide = layer.mixer, x
        if e.model.alternating is not None:
            wide = self._predicted(x, e.model.alternating.streams)
            rows, hidden = e.shape(x)[0], e.model.hidden_size
            x = e.view("active", wide, (rows, hidden), rows * hidden * 2)
        if mixer is not None:
            x = self._part(x, "attention", "attn_hc", names[:first], lambda y: self._mixed(mixer, y, layer.index))
            names = names[first:]
        if layer.ffn is not None:
            ffn = layer.ffn
            x = self._part(x, "ffn", "ffn_hc", names, lambda y: feed_forward(e, ffn, y))
        if e.model.per_layer_inputs is not None:
            x = self._own_input(x, e.model.per_layer_inputs.width)
        if e.model.alternating is not None:
            corrected = e.act("altup.corrected", e.shape(wide))
            e.op("altup.correct", "HcPost", (wide, x, *e.spend("altup_correction", "altup_scale")), (corrected,))
            x = corrected
        e.leave()
        return x

    def _mixed(self, mixer: TokenMixer, x: int, layer: int) -> int:
        """Tokens mixed, and what a low-rank product beside it adds (Gemma 3n)."""
        e, kept = self.e, self.e.model.alternating
        out = mix_tokens(e, mixer, x, layer)
        if kept is None:
            return out
        hidden = e.model.hidden_size
        low = e.linear(e.linear(x, ("laurel_left",), kept.low_rank, hidden), ("laurel_right",), hidden, kept.low_rank)
        added = e.act("laurel.sum", e.shape(out))
        e.op("laurel.add", "Add", (out, e.norm("laurel.norm", low, "laurel_norm")), (added,))
        return added

    def _predicted(self, x: int, streams: int) -> int:
        """All streams as the layer's coefficients, chosen by the active one, predict them (Gemma 3n)."""
        e = self.e
        rows, hidden = e.shape(x)[0], e.model.hidden_size
        active = e.view("stream", x, (rows, hidden), rows * hidden * 2)
        chosen = e.linear(e.norm("altup.norm", active, "altup_router_norm"), ("altup_router",), streams, hidden)
        out = e.act("altup.predicted", e.shape(x))
        e.op("altup.predict", "HcPost", (x, chosen, *e.spend("altup_prediction")), (out,))
        return out

    def _own_input(self, x: int, width: int) -> int:
        """What the layer's own embedding adds (Gemma 4): gated by the stream, projected, normalised."""
        e = self.e
        rows, hidden = e.shape(x)
        gate = e.linear(x, ("per_layer_input_gate",), width, hidden)
        own = gate if self.own_inputs is None else e.view("own_input", self.own_inputs, (rows, width), rows * width * 2)
        product = e.act("own_input.gated", (rows, width))
        e.op("own_input.gate", "SigmoidMul", (gate, own), (product,))
        back = e.norm(
            "own_input.norm", e.linear(product, ("per_layer_projection",), hidden, width), "post_per_layer_input_norm"
        )
        added = e.act("own_input.out", (rows, hidden))
        e.op("own_input.add", "Add", (x, back), (added,), fused=True)
        return added

    def _part(self, x: int, part: str, hyper: str, norms: list[str], work: Callable[[int], int]) -> int:
        e = self.e
        source = x
        if e.model.attention_residuals:
            source = self._earlier(part, x)
        if e.model.hyper is not None:
            source = read_streams(e, hyper, x)
        out = work(e.norm(norms[0], source, norms[0]) if norms else source)
        for name in norms[1:]:
            out = e.norm(name, out, name)
        if e.model.hyper is not None:
            return write_streams(e, hyper, x, out)
        out = e.dropped(f"{part}.dropout", out)
        added = e.act("residual", e.shape(x))
        e.op(f"{part}.add", "Add", (x, out), (added,), fused=True)
        return added

    def _earlier(self, part: str, x: int) -> int:
        """The stream mixed with the outputs of earlier blocks by a learnt vector (Kimi-K3)."""
        e = self.e
        weights_ = e.spend(f"{part}_res_norm", f"{part}_res_proj")
        out = e.act(f"{part}.mixed", e.shape(x))
        e.op(f"{part}.residuals", "RmsNorm", (x, *weights_), (out,))
        return out

    def narrow(self, x: int) -> int:
        """The residual streams of hyper-connections mixed into one for the head."""
        e = self.e
        if e.model.hyper is None:
            return x
        streams, hidden = e.model.hyper.streams, e.model.hidden_size
        rows = e.shape(x)[0]
        if not e.model.hyper.learnt_head:
            out = e.act("hc_head.out", (rows, hidden))
            e.op("hc_head", "HcPre", (x,), (out,))
            return out
        if e.model.hyper.low_rank is not None:
            names = ("hc_head.norm", "hc_head.down", "hc_head.up")
            e.add_weights({name: self.outer[name] for name in names})
            return read_low_rank(e, "hc_head", x, e.model.hyper.low_rank)
        e.add_weights({name: self.outer[name] for name in ("hc_head.fn", "hc_head.base", "hc_head.scale")})
        shares = e.linear(x, ("hc_head.fn",), streams, streams * hidden, rows=rows, within="HcPre")
        out = e.act("hc_head.out", (rows, hidden))
        e.op("hc_head", "HcPre", (x, shares, *e.spend("hc_head.base", "hc_head.scale")), (out,))
        return out

    def _joined(self, x: int, streams: int) -> int:
        """The mean of all streams, all but the active one projected back."""
        e = self.e
        rows, hidden = e.shape(x)[0], e.model.hidden_size
        name = "altup_unembed_projections"
        e.add_weights({name: self.outer[name]})
        others = e.linear(
            e.view("other", x, (rows, hidden), rows * hidden * 2), (name,), (streams - 1) * hidden, hidden
        )
        out = e.act("streams.mean", (rows, hidden))
        e.op("streams.mean", "ReduceMean", (x, others), (out,))
        return out

    def head(self, x: int) -> tuple[int, int]:
        """
        The choice of a token for every row that is sampled (all of a decode step, the last of each prompt), and the
        hidden states behind it.
        """
        e = self.e
        rows = e.tokens if e.step.phase is Phase.DECODE else e.sequences
        x = e.gather_tokens(x)
        if e.model.alternating is not None:
            x = self._joined(x, e.model.alternating.streams)
        if e.shape(x)[0] != rows:
            x = e.view("last", x, (rows, e.shape(x)[-1]), rows * e.shape(x)[-1] * 2)
        x = self.narrow(x)
        if e.model.attention_residuals:
            e.add_weights({name: self.outer[name] for name in ("output_res_norm", "output_res_proj")})
            x = self._earlier("output", x)
        e.add_weights(self._outer_norm("norm"))
        return self.sample(e.norm("final_norm", x, "norm"), *self._own_head()), x

    def head_matrix(self) -> int:
        """The head's weight, the embedding's where they are tied."""
        e = self.e
        if self.head_weight is None:
            ranks = e.step.head_parallel if e.tensor == 1 else 1
            name = "embed_tokens" if e.model.tied_embeddings else "lm_head"
            e.add_weights({name: self.outer[name]})
            columns = -(-(self.outer[name].elements // e.model.hidden_size) // ranks)
            self.head_weight = e.weight((name,), (columns, e.model.hidden_size), share=ranks)
            if e.model.head_bias:
                e.add_weights({"lm_head.bias": self.outer["lm_head.bias"]})
                self.head_bias = e.spend("lm_head.bias")
        return self.head_weight

    def _own_head(self) -> tuple[int, list[int]]:
        """The head's weight and its bias, of the model."""
        return self.head_matrix(), self.head_bias

    def _draft_head(self) -> tuple[int, list[int]]:
        """The same of drafts: one of their own for fewer words, or the model's."""
        e, own = self.e, draft_head(self.e.model)
        if own is None:
            return self._own_head()
        ranks, held = e.step.head_parallel if e.tensor == 1 else 1, e.hold([own])[own.name]
        e.add_weights({"draft_lm_head": held})
        columns = -(-(held.elements // own.shape[1]) // ranks)
        return e.weight(("draft_lm_head",), (columns, own.shape[1]), share=ranks), []

    def sample(self, x: int, weight: int, bias: Sequence[int]) -> int:
        """The product of a head's `weight` with `x` and the best token of each row."""
        e = self.e
        hidden, rows = e.model.hidden_size, e.shape(x)[0]
        ranks = e.step.head_parallel if e.tensor == 1 else 1
        if ranks > 1:
            x = e.collective("head_gather", "AllGather", x, (rows * ranks, hidden), ranks, "htp")
        columns = e.shape(weight)[0]
        out = e.act("logits", (rows * ranks, columns))
        e.op("lm_head", "MatMul", (x, weight, *bias), (out,), transpose_a=False, transpose_b=True)
        if ranks > 1:
            out = e.collective("head_scatter", "AlltoAll", out, (rows, columns * ranks), ranks, "htp")
        elif e.tensor > 1:
            out = e.collective("logits_gather", "AllGather", out, (rows, columns * e.tensor), e.tensor, "tp")
        token = e.act("token", (rows,), "int32")
        e.op("sample", "ArgMax", (out,), (token,))
        return token

    def speculate(self, token: int, x: int) -> list[int]:
        """
        The layers of a prediction, once for each draft token.

        The first run takes all the tokens that were verified, each further one the token drafted last.
        """
        e, found = self.e, []
        queries, runs = e.queries, e.model.predictions
        extra = [e.hold([w for w in weights(e.model, mtp=True) if _of_mtp(w.name, run[0].index)]) for run in runs]
        for number in range(e.step.speculative):
            which = min(number, len(runs) - 1)
            if number:
                e.queries = 1
                x = e.view("accepted", x, (e.tokens, e.shape(x)[-1]), e.tokens * e.shape(x)[-1] * 2)
            token, x = self._draft(runs[which], token, x, extra[which])
            found.append(token)
        e.queries = queries
        return found

    def _draft(self, run: Sequence[Layer], token: int, x: int, extra: Mapping[str, RankWeight]) -> tuple[int, int]:
        e = self.e
        hidden = e.model.hidden_size
        e.scope = f"layers.{run[0].index}."
        e.add_weights(extra)
        embedded = x
        if self.table is not None:
            embedded = e.act("embedding.out", (e.tokens, hidden))
            e.op("embedding", "Embedding", (self.table, token), (embedded,))
        both = e.act("both", (e.tokens, 2 * hidden))
        e.op(
            "concat", "ConcatD",
            (e.norm("embedding_norm", embedded, "mtp_norm.0"), e.norm("hidden_norm", x, "mtp_norm.1")), (both,),
        )  # fmt: skip
        joined = e.linear(both, ("eh_proj",), hidden, 2 * hidden)
        last = e.spend("mtp_norm.2")
        e.leave()
        out = self.widen(joined)
        for layer in run:
            out = self.layer(layer, out, f"layers.{layer.index}.")
        out = self.narrow(e.gather_tokens(out))
        normed = e.act("draft.norm", (e.tokens, hidden))
        e.op("draft.norm", "RmsNorm", (out, *last), (normed,))
        return self.sample(normed, *self._draft_head()), out


def _of_mtp(name: str, layer: int) -> bool:
    """Whether a weight joins token and hidden state before layer `layer` of multi-token prediction."""
    return name.startswith((f"layers.{layer}.eh_proj", f"layers.{layer}.mtp_norm."))
