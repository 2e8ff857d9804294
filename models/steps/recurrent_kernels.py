"""
Mixers with a state of fixed size: gated delta nets, Mamba-2, Kimi delta attention.

Decoding reads the state of a sequence once and writes one for each of its tokens: where drafts are verified that of
every draft is kept until it is known how many are accepted (`CopyOutState` for each token, vllm-project/vllm-ascend
csrc/attention/recurrent_gated_delta_rule; SGLang keeps as many beside). A prompt is
computed in chunks: within a chunk by matrix products of queries, keys and values, between chunks by the state (Mamba-2:
Dao and Gu, arXiv 2405.21060; delta rule: Yang et al., arXiv 2406.06484).
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.models.mixers.recurrent_mixers import GatedDeltaNet, KimiDelta, Mamba1, Mamba2, ShortConvolution
from memplan.models.steps.delta_rule_training import DeltaRule
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.options import Phase

_CHUNK = 64
_STATE_DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}


def delta_net(e: StepEmitter, mixer: GatedDeltaNet, x: int) -> int:
    """Gated delta net: projections, causal convolution, the delta rule, a gated norm and the way out."""
    hidden = e.model.hidden_size
    key_heads, heads = e.own(mixer.key_heads, "key heads"), e.own(mixer.value_heads, "value heads")
    conv = 2 * key_heads * mixer.key_dim + heads * mixer.value_dim
    inner = heads * mixer.value_dim
    projected = e.linear(x, ("in_proj_qkv", "in_proj_z"), conv + inner, hidden)
    small = e.linear(x, ("in_proj_ba",), 2 * heads, hidden)
    mixed = _convolve(e, projected, ("conv1d",), conv, mixer.conv_kernel)
    sizes, decays = e.act("b", (e.tokens, heads)), e.act("a", (e.tokens, heads))
    e.op("split_ba", "SplitVD", (small,), (sizes, decays))
    state = _kept_state(e, heads, mixer.key_dim, mixer.value_dim, mixer.state_dtype)
    gates = (sizes, decays, *e.spend("dt_bias", "A_log"))
    made = _delta_rule(e, mixed, gates, state, mixer.key_dim, key_heads, heads, heads)
    # Engines run the mixer as an op of their own, which writes into what its caller has filled with zeros.
    out = e.act("core.out", (e.tokens, inner))
    e.op("core_zeros", "ZerosLike", (made,), (out,))
    e.op("core_copy", "TensorMove", (made,), (out,))
    out = _gated_norm(e, out, projected, inner, "norm")
    return e.linear(out, ("out_proj",), hidden, inner)


def mamba(e: StepEmitter, mixer: Mamba2, x: int) -> int:
    """Mamba-2."""
    hidden, heads = e.model.hidden_size, e.own(mixer.heads, "heads")
    inner = heads * mixer.head_dim
    conv = (mixer.inner + 2 * mixer.groups * mixer.state) // e.tensor
    projected = e.linear(x, ("in_proj",), inner + conv + heads, hidden)
    mixed = _convolve(e, projected, ("conv1d", "conv1d.bias"), conv, mixer.conv_kernel)
    small = e.spend("dt_bias", "A_log", "D")
    out = _state_space(e, mixed, small, heads, mixer.state, mixer.head_dim, mixer.state_dtype)
    out = _gated_norm(e, out, projected, inner, "norm") if mixer.normed else _gate(e, out, projected, inner)
    return e.linear(out, ("out_proj",), hidden, inner)


def selective_scan(e: StepEmitter, mixer: Mamba1, x: int) -> int:
    """Mamba's first kind: the scan reads and writes the numbers of every channel once a token, in prompts as well."""
    hidden, inner, state = e.model.hidden_size, e.own(mixer.inner, "channels"), mixer.state
    projected = e.linear(x, ("in_proj",), 2 * inner, hidden)
    mixed = _convolve(e, projected, ("conv1d", "conv1d.bias"), inner, mixer.conv_kernel)
    small = e.linear(mixed, ("x_proj",), mixer.step_rank + 2 * state, inner)
    small = e.collective("all_reduce_x", "AllReduce", small, (e.tokens, mixer.step_rank + 2 * state), e.tensor, "tp")
    if mixer.small_norms:
        normed = e.act("small.out", (e.tokens, mixer.step_rank + 2 * state))
        e.op("small_norms", "RmsNorm", (small, *e.spend("dt_norm", "b_norm", "c_norm")), (normed,))
        small = normed
    low = e.view("dt_low", small, (e.tokens, mixer.step_rank), e.tokens * mixer.step_rank * 2)
    step = e.linear(low, ("dt_proj",), inner, mixer.step_rank)
    kind = _STATE_DTYPES.get(mixer.state_dtype, e.dtype)
    kept = e.cache("state", e.sequences * inner * state * e.element_bytes(kind), kind)
    out = e.act("scan.out", (e.tokens, inner))
    e.op("scan", "MambaUpdate", (mixed, kept, step, small, *e.spend("A_log", "D")), (out, kept))
    return e.linear(_gate(e, out, projected, inner), ("out_proj",), hidden, inner)


def short_convolution(e: StepEmitter, mixer: ShortConvolution, x: int) -> int:
    """A gate before the convolution and one behind it."""
    hidden, width = e.model.hidden_size, e.own(mixer.channels, "channels")
    projected = e.linear(x, ("in_proj",), 3 * width, hidden)
    mixed = _convolve(e, _gate(e, projected, projected, width), ("conv1d", "conv1d.bias"), width, mixer.conv_kernel)
    return e.linear(_gate(e, mixed, projected, width), ("out_proj",), hidden, width)


def kimi_delta(e: StepEmitter, mixer: KimiDelta, x: int) -> int:
    """Kimi delta attention: the decay, and mostly the gate, come through a low rank of one head's width."""
    hidden, heads, dim = e.model.hidden_size, e.own(mixer.heads, "heads"), mixer.head_dim
    width = heads * dim
    qkv = e.linear(x, ("q_proj", "k_proj", "v_proj"), 3 * width, hidden)
    if mixer.full_rank_gate:
        decay = e.linear(e.linear(x, ("f_a_proj",), dim, hidden), ("f_b_proj",), width, dim)
        gate = e.linear(x, ("g_proj",), width, hidden)
    else:
        low = e.linear(x, ("f_a_proj", "g_a_proj"), 2 * dim, hidden)
        half = e.tokens * dim * 2
        decay = e.linear(e.view("f_low", low, (e.tokens, dim), half), ("f_b_proj",), width, dim)
        gate = e.linear(e.view("g_low", low, (e.tokens, dim), half), ("g_b_proj",), width, dim)
    beta = e.linear(x, ("b_proj",), heads, hidden)
    names = ("q_conv1d", "k_conv1d", "v_conv1d")
    mixed = _convolve(e, qkv, names, 3 * width, mixer.conv_kernel)
    state = _kept_state(e, heads, dim, dim, mixer.state_dtype)
    out = _delta_rule(e, mixed, (decay, beta, *e.spend("dt_bias", "A_log")), state, dim, heads, heads, width)
    out = _gated_norm(e, out, gate, width, "o_norm")
    return e.linear(out, ("o_proj",), hidden, width)


def _convolve(e: StepEmitter, projected: int, names: Sequence[str], channels: int, kernel: int) -> int:
    """The causal convolution over each channel, with the last inputs of the sequence kept in a state."""
    state = e.cache("conv_state", e.sequences * channels * (kernel - 1) * 2, e.dtype)
    source = e.view("conv.in", projected, (e.tokens, channels), e.tokens * channels * 2)
    out = e.act("conv.out", (e.tokens, channels))
    e.op("conv", "CausalConv1d", (source, state, *e.spend(*names)), (out, state))
    return out


def _kept_state(e: StepEmitter, heads: int, key: int, value: int, dtype: str) -> int:
    """The `key x value` numbers that every head of a sequence has, once for each token that is decoded at once."""
    kind = _STATE_DTYPES.get(dtype, e.dtype)
    states = e.tokens if e.step.phase is Phase.DECODE else e.sequences
    return e.cache("state", states * heads * key * value * e.element_bytes(kind), kind)


def _read_state(e: StepEmitter, state: int) -> int:
    """The states that a decode step begins with, one of each sequence."""
    return state if e.queries == 1 else e.part("state.read", state, e.graph.nbytes[state] // e.queries)


def _delta_rule(
    e: StepEmitter, mixed: int, gates: tuple[int, ...], state: int, key: int, key_heads: int, heads: int, decays: int
) -> int:
    """
    The delta rule of convolved queries, keys of width `key` and values, with step sizes and `decays` of a token that
    `gates` give.

    These are kernels of their own, those of vLLM Ascend and SGLang: the parts of what was convolved, unit lengths,
    gates, and the rule, of a prompt in chunks (vllm-project/vllm-ascend vllm_ascend/ops/gdn.py at v0.23.0). Where they
    are joined one kernel has all but the parts, and but the gates where drafts are verified (`_forward_core` of
    vllm_ascend/patch/worker/patch_qwen3_5.py at v0.18.0).
    """
    tokens, narrow = e.tokens, key_heads * key
    inner = e.shape(mixed)[-1] - 2 * narrow
    query, keys, value = e.act("q", (tokens, narrow)), e.act("k", (tokens, narrow)), e.act("v", (tokens, inner))
    e.op("split_qkv", "SplitVD", (mixed,), (query, keys, value))
    decodes = e.step.phase is Phase.DECODE
    joined = decodes and e.step.joined_recurrence
    if not joined:
        query, keys = _unit(e, "q", query), _unit(e, "k", keys)
    if not joined or e.step.speculative:
        decay, beta = e.act("decay", (tokens, decays), "float32"), e.act("beta", (tokens, heads))
        e.op("gates", "GatedDeltaGates", gates, (decay, beta))
        gates = decay, beta
    if decodes:
        out = e.act("state.out", (tokens, inner))
        e.op("recurrence", "RecurrentGatedDeltaRule", (query, keys, value, _read_state(e, state), *gates), (out, state))
        return out
    decay, beta = gates
    summed = e.act("decay.sum", (tokens, decays), "float32")
    e.op("decay_sum", "ChunkLocalCumsum", (decay,), (summed,))
    return DeltaRule(e, heads, key, inner // heads, state).forward(query, keys, value, summed, beta)


def _unit(e: StepEmitter, name: str, x: int) -> int:
    """Every head of `x` at length one."""
    out = e.act(f"{name}.unit", e.shape(x))
    e.op(f"{name}_norm", "L2Norm", (x,), (out,))
    return out


def _state_space(e: StepEmitter, mixed: int, small: Sequence[int], heads: int, key: int, value: int, dtype: str) -> int:
    """Mamba-2's recurrence over a `key x value` state of every head."""
    state = _kept_state(e, heads, key, value, dtype)
    out = e.act("state.out", (e.tokens, heads * value))
    if e.step.phase is Phase.DECODE:
        e.op("recurrence", "MambaUpdate", (mixed, _read_state(e, state), *small), (out, state))
        return out
    chunks = max(1, e.sequences * -(-e.queries // _CHUNK)) * heads
    keys = e.view("chunk.k", mixed, (chunks, _CHUNK, key), e.tokens * heads * key * 2)
    values = e.view("chunk.v", mixed, (chunks, _CHUNK, value), e.tokens * heads * value * 2)
    scores = e.act("chunk.scores", (chunks, _CHUNK, _CHUNK))
    e.op("chunk.scores", "BatchMatMul", (keys, keys), (scores,), transpose_a=False, transpose_b=True)
    inside = e.act("chunk.inside", (chunks, _CHUNK, value))
    e.op("chunk.inside", "BatchMatMul", (scores, values), (inside,), transpose_a=False, transpose_b=False)
    states = e.act("chunk.states", (chunks, key, value))
    e.op("chunk.states", "BatchMatMul", (keys, values), (states,), transpose_a=True, transpose_b=False)
    e.op("chunk.scan", "ChunkScan", (states, state, *small), (state,))
    e.op("chunk.out", "BatchMatMul", (keys, states), (out,), transpose_a=False, transpose_b=False)
    return out


def _gate(e: StepEmitter, x: int, gate: int, width: int) -> int:
    """`x` times a part of what was projected beside it."""
    out = e.act("gated.out", (e.tokens, width))
    z = e.view("z", gate, (e.tokens, width), e.tokens * width * 2)
    e.op("gate", "Mul", (x, z), (out,))
    return out


def _gated_norm(e: StepEmitter, x: int, gate: int, width: int, name: str) -> int:
    out = e.act(f"{name}.out", (e.tokens, width))
    z = e.view("z", gate, (e.tokens, width), e.tokens * width * 2)
    e.op("gated_norm", "RmsNormGated", (x, z, *e.spend(name)), (out,))
    return out
