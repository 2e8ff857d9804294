"""Feed-forward parts: dense, and mixtures of experts with their dispatch and combine."""

from __future__ import annotations

from math import ceil

from memplan.core.errors import InputError
from memplan.models.feed_forward import DenseFfn, Ffn, LinearFfn, MoeFfn
from memplan.models.routing import busiest_rank, share_hit, shared_evenly
from memplan.models.steps.emit import SIDE, StepEmitter


def feed_forward(e: StepEmitter, ffn: Ffn, x: int) -> int:
    """`ffn` of `x`, summed over the ranks that share it."""
    if isinstance(ffn, MoeFfn):
        return experts(e, ffn, x)
    hidden = e.model.hidden_size
    if isinstance(ffn, LinearFfn):
        out = e.linear(e.gather_tokens(x), ("linear_mlp",), hidden // e.tensor, hidden)
        return e.collective("all_gather_out", "AllGather", out, (e.tokens, hidden), e.tensor, "tp")
    return _dense(e, ffn, x)


def _dense(e: StepEmitter, ffn: DenseFfn, x: int) -> int:
    ranks = e.step.dense_parallel if e.tensor == 1 else 1
    x = e.gather_tokens(x)
    if ranks > 1:
        x = e.collective("dense_all_gather", "AllGather", x, (e.tokens * ranks, e.model.hidden_size), ranks, "dtp")
    out = _mlp(e, "", ffn.intermediate, x, gated=ffn.gated, share=ranks)
    if ranks > 1:
        return e.collective("dense_reduce_scatter", "ReduceScatter", out, (e.tokens, e.model.hidden_size), ranks, "dtp")
    return e.reduce_tokens(out)


def _mlp(e: StepEmitter, prefix: str, width: int, x: int, *, gated: bool, share: int = 1, whole: bool = False) -> int:
    hidden, rows = e.model.hidden_size, e.shape(x)[0]
    own = width if whole else -(-e.own(width, "feed-forward columns") // share)
    names = (f"{prefix}gate_proj", f"{prefix}up_proj") if gated else (f"{prefix}up_proj",)
    both = e.linear(x, names, own * len(names), hidden, share=share)
    active = e.act(f"{prefix}active", (rows, own))
    e.op(f"{prefix}activation", "SwiGlu" if gated else "Relu", (both, *e.spend(f"{prefix}activation")), (active,))
    return e.linear(active, (f"{prefix}down_proj",), hidden, own, share=share)


def experts(e: StepEmitter, ffn: MoeFfn, x: int) -> int:
    """
    Router, dispatch, grouped products, combine, and the shared expert beside them.

    With expert parallelism each rank sends its own tokens to the ranks of their experts; ranks of tensor parallelism
    have the same tokens and send a part each, or, where they split the experts too, all of them. Where the residual
    stream is spread over them, each has its part already and keeps what comes back.
    """
    hidden, tokens = e.model.hidden_size, e.tokens
    parallel, tensor, shards = e.layout.expert, e.tensor, e.layout.expert_shards
    if shards not in (1, tensor):
        raise InputError(
            "experts split by {} of {} ranks of tensor parallelism are not modelled as ops", shards, tensor
        )
    parts = min(tensor // shards, parallel)
    mine = -(-tokens // parts)
    spread = e.step.sequence_parallel and parts == tensor > 1
    own = whole = x if spread else e.gather_tokens(x)
    if parts > 1 and not spread:
        own = e.view("own", whole, (mine, hidden), e.graph.nbytes[whole] // parts)
    shared = _shared(e, ffn, own if e.whole_shared else e.gather_tokens(x) if spread else whole)
    scores = e.linear(own, ("router",), ffn.experts + ffn.idle_experts, hidden)
    scales = e.spend("router.scale", "router.per_expert_scale")
    chosen = e.act("chosen", (mine, ffn.per_token), "int32")
    shares = e.act("shares", (mine, ffn.per_token), "float32")
    e.op("gating", "MoeGatingTopK", (scores, *scales), (chosen, shares))
    working = ffn.latent or hidden
    if ffn.latent is not None:
        own = e.linear(own, ("fc1_latent_proj",), ffn.latent, hidden)
        if ffn.latent_norm:
            own = e.norm("latent_norm", own, "latent_norm")
    local = -(-ffn.experts // parallel)
    rows = _rows(e, ffn, mine * ffn.per_token, local)
    types = e.types("experts.up_proj")
    kind = types.activation if types.quantised else e.dtype
    routed = e.act("routed", (rows, working), kind)
    if parallel > 1:
        e.op(
            "dispatch", "MoeDistributeDispatch", (own, chosen), (routed,),
            rank_size=parallel, group="ep", tokens=mine, per_token=ffn.per_token,
        )  # fmt: skip
    else:
        e.op("dispatch", "MoeInitRouting", (own, chosen), (routed,), fused=False)
    # Ranks that have no token of their own to send pad with one, which no expert gets.
    active = _hit(e, ffn, -(-tokens * parallel // parts), local)
    done = _grouped(e, ffn, routed, rows, working, local, active)
    combined = e.act("combined", (mine, working))
    if parallel > 1:
        e.op(
            "combine", "MoeDistributeCombine", (done, chosen, shares), (combined,),
            rank_size=parallel, group="ep", tokens=mine, per_token=ffn.per_token,
        )  # fmt: skip
    else:
        e.op("combine", "MoeFinalizeRouting", (done, chosen, shares), (combined,))
    out = combined
    if ffn.latent is not None:
        out = e.linear(out, ("fc2_latent_proj",), hidden, ffn.latent)
    if spread:
        if shared is not None and not e.whole_shared:
            shared = e.reduce_tokens(shared)
        return _add(e, out, shared)
    if parts > 1:
        out = e.collective("gather_experts", "AllGather", out, (tokens, hidden), parts, "tp")
    if shards == tensor:
        # Every rank has a slice of each expert, and of the shared one: one sum for both.
        return e.reduce_tokens(_add(e, out, shared))
    if shared is not None and tensor > 1:
        name, type_ = ("shared_all_gather", "AllGather") if e.whole_shared else ("shared_all_reduce", "AllReduce")
        shared = e.collective(name, type_, shared, (tokens, hidden), parts if e.whole_shared else tensor, "tp")
    out = _add(e, out, shared)
    if e.step.sequence_parallel and tensor > 1:
        out = e.view("kept", out, (e.residual_tokens, hidden), e.graph.nbytes[out] // tensor)
    return out


def _rows(e: StepEmitter, ffn: MoeFfn, rows: int, local: int) -> int:
    """Rows for the `local` experts of the rank that others wait for, where each gets `rows` on average."""
    even = shared_evenly(ffn, e.layout, even=e.step.even_routing)
    return rows if even else ceil(rows * busiest_rank(e.layout.expert, local, rows))


def _hit(e: StepEmitter, ffn: MoeFfn, tokens: int, local: int) -> int:
    """Experts of a rank that get any of the group's `tokens`."""
    each = tokens * ffn.per_token / ffn.experts
    if shared_evenly(ffn, e.layout, even=e.step.even_routing):
        return max(1, min(local, ceil(each * local)))
    chance = ffn.per_token / ffn.experts * busiest_rank(e.layout.expert, local, each * local)
    return max(1, min(local, round(local * share_hit(chance, tokens))))


def _grouped(e: StepEmitter, ffn: MoeFfn, routed: int, rows: int, working: int, local: int, active: int) -> int:
    width = e.own(ffn.intermediate, "columns of an expert") if e.layout.expert_shards > 1 else ffn.intermediate
    types = e.types("experts.up_proj")
    kind = "QuantGroupedMatmul" if types.quantised else "GroupedMatmul"
    ups = 2 if ffn.gated else 1
    bias = e.spend("experts.up_proj.bias")
    up = e.weight(("experts.up_proj",), (local, ups * width, working))
    both = e.act("experts.up", (rows, ups * width))
    attributes = {"transpose_a": False, "transpose_b": True, "groups": active}
    e.op("experts.up_proj", kind, (routed, up, *bias), (both,), **attributes)
    activated = e.act("experts.active", (rows, width))
    e.op("experts.activation", "SwiGlu" if ffn.gated else "Relu", (both,), (activated,), fused=True)
    if types.quantised:
        activated = e.quantise(activated, types.activation)
    bias = e.spend("experts.down_proj.bias")
    down = e.weight(("experts.down_proj",), (local, working, width))
    done = e.act("experts.down", (rows, working))
    e.op("experts.down_proj", kind, (activated, down, *bias), (done,), **attributes)
    return done


def _shared(e: StepEmitter, ffn: MoeFfn, x: int) -> int | None:
    """The shared expert and a dense part, on a stream of their own: nothing of the routed chain waits for them."""
    if not ffn.shared_intermediate and not ffn.dense_intermediate:
        return None
    if ffn.dense_intermediate and e.whole_shared:
        raise InputError("whole shared experts beside a split dense part, whose sum they are in, are not modelled")
    stream, e.stream = e.stream, SIDE
    dense = _mlp(e, "", ffn.dense_intermediate, x, gated=ffn.gated) if ffn.dense_intermediate else None
    if not ffn.shared_intermediate:
        e.stream = stream
        return dense
    own = _mlp(e, "shared_experts.", ffn.shared_intermediate, x, gated=ffn.gated, whole=e.whole_shared)
    out = _add(e, own, dense)
    if ffn.shared_gate:
        gate = e.linear(x, ("shared_expert_gate",), 1, e.model.hidden_size)
        gated = e.act("shared.gated", e.shape(out))
        e.op("shared.gate", "SigmoidMul", (out, gate), (gated,))
        out = gated
    e.stream = stream
    return out


def _add(e: StepEmitter, first: int, second: int | None) -> int:
    if second is None:
        return first
    out = e.act("sum", e.shape(first))
    e.op("add_shared", "Add", (first, second), (out,), fused=True)
    return out
