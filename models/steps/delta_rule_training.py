"""
Gated delta nets as they are trained: the delta rule in chunks of 64 tokens, forward and back.

The order of kernels, and what is kept from forward to backward, are those of flash-linear-attention's
`chunk_gated_delta_rule` (fla/ops/gated_delta_rule/chunk.py; Yang et al., arXiv 2412.06464), which Ascend's own kernels
of the same names follow. Queries, keys, values, decays, step sizes and the solved triangle of every chunk are kept;
the states of all chunks are made anew on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.graph import Op
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet
from memplan.models.steps.emit import StepEmitter

DELTA_RULE = "ChunkFwdO"
"""The last kernel of the rule: what its output's gradient comes back to."""
_WALK = "ChunkGatedDeltaRuleFwdH"
"""The kernel that takes every head's state from chunk to chunk."""
_CHUNK = 64


def delta_net_training(e: StepEmitter, mixer: GatedDeltaNet, x: int) -> int:
    """Gated delta net of `x` without a state before it, as Megatron-Core's `GatedDeltaNet` computes it."""
    if e.layout.context > 1:
        raise InputError("the backward pass of linear attention over ranks of context parallelism is not modelled")
    tokens, hidden = e.tokens, e.model.hidden_size
    key_heads, heads = e.own(mixer.key_heads, "key heads"), e.own(mixer.value_heads, "value heads")
    narrow, inner = key_heads * mixer.key_dim, heads * mixer.value_dim
    conv = 2 * narrow + inner
    projected = e.linear(x, ("in_proj_qkv", "in_proj_z", "in_proj_ba"), conv + inner + 2 * heads, hidden)
    mixed, z, small = e.act("qkv", (tokens, conv)), e.act("z", (tokens, inner)), e.act("ba", (tokens, 2 * heads))
    e.op("split", "SplitVD", (projected,), (mixed, z, small))
    convolved = e.act("conv.out", (tokens, conv))
    e.op("conv", "CausalConv1d", (mixed, *e.spend("conv1d")), (convolved,))
    query, key, value = e.act("q", (tokens, narrow)), e.act("k", (tokens, narrow)), e.act("v", (tokens, inner))
    e.op("split_qkv", "SplitVD", (convolved,), (query, key, value))
    query = _unit(e, "q", query, key_heads, heads, mixer.key_dim)
    key = _unit(e, "k", key, key_heads, heads, mixer.key_dim)
    decay, beta = e.act("decay", (tokens, heads), "float32"), e.act("beta", (tokens, heads))
    e.op("gates", "GatedDeltaGates", (small, *e.spend("dt_bias", "A_log")), (decay, beta))
    summed = e.act("decay.sum", (tokens, heads), "float32")
    e.op("decay_sum", "ChunkLocalCumsum", (decay,), (summed,))
    out = DeltaRule(e, heads, mixer.key_dim, mixer.value_dim).forward(query, key, value, summed, beta)
    normed, statistics = e.act("norm.out", (tokens, inner)), e.act("norm.rstd", (tokens, heads), "float32")
    e.op("gated_norm", "RmsNormGated", (out, z, *e.spend("norm")), (normed, statistics))
    return e.linear(normed, ("out_proj",), hidden, inner)


def _unit(e: StepEmitter, name: str, x: int, own: int, heads: int, dim: int) -> int:
    """Every head of `x` at length one, repeated for all value heads that it serves."""
    out, length = e.act(f"{name}.unit", e.shape(x)), e.act(f"{name}.rstd", (e.tokens, own), "float32")
    e.op(f"{name}_norm", "L2Norm", (x,), (out, length))
    if own == heads:
        return out
    repeated = e.act(f"{name}.repeated", (e.tokens, heads * dim))
    e.op(f"{name}_repeat", "RepeatInterleave", (out,), (repeated,))
    return repeated


def delta_rule_back(e: StepEmitter, last: Op, made_by: Mapping[int, Op], gradient: int) -> tuple[tuple[int, int], ...]:
    """
    Every operand of the delta rule that ends with op `last`, and its gradient, from that of the rule's output.

    `made_by` has the op that made a tensor.
    """
    _, _, _, states, decay = last.inputs
    _, key, value = e.shape(states)
    return DeltaRule(e, e.shape(decay)[-1], key, value).backward(last, made_by, gradient)


@dataclass(frozen=True, slots=True)
class DeltaRule:
    """
    The kernels of the delta rule of so many heads, each a `key x value` state.

    Served ones are Triton's; they begin with the `state` that a sequence has and leave their last one in it.
    """

    e: StepEmitter
    heads: int
    key: int
    value: int
    state: int | None = None

    @property
    def _chunks(self) -> int:
        return self.e.sequences * -(-self.e.queries // _CHUNK) * self.heads

    def _kernel(self, name: str, type_: str, inputs: tuple[int, ...], outputs: tuple[int, ...], terms: int) -> None:
        """A kernel that multiplies and adds `terms` times `64 x value` elements in every chunk of every head."""
        self.e.op(
            name, type_, inputs, outputs,
            chunks=self._chunks, rows=_CHUNK, columns=self.value, terms=terms, **self._served(type_),
        )  # fmt: skip

    def _served(self, type_: str) -> dict[str, int]:
        """Of kernels in Triton, how many chains of chunks there are of which each waits for the one before it."""
        if self.state is None:
            return {}
        return {"chains": self.e.sequences * self.heads if type_ == _WALK else self._chunks}

    def _terms(self, *, states: int = 0, keys: int = 0, values: int = 0, triangles: int = 0) -> int:
        """
        Of so many products of a chunk with a state, of 64 rows with 64 keys or 64 values, and of two triangles, the
        terms that one product of `64 x value` elements has.
        """
        macs = states * self.key * self.value + _CHUNK * (keys * self.key + values * self.value + triangles * _CHUNK)
        return -(-macs // self.value)

    def _wide(self, name: str, width: int, dtype: str | None = None) -> int:
        return self.e.act(name, (self.e.tokens, self.heads * width), dtype)

    def _states(self, name: str) -> int:
        return self.e.act(name, (self._chunks, self.key, self.value))

    def forward(self, query: int, key: int, value: int, decay: int, beta: int) -> int:
        """What the rule gives for queries, keys, values, decays summed in each chunk, and step sizes."""
        scores = self._wide("chunk.scores", _CHUNK, "float32")
        self._kernel("chunk.kkt", "ChunkScaledDotKkt", (key, decay, beta), (scores,), self._terms(keys=1))
        solved = self._wide("chunk.solved", _CHUNK)
        self.e.op(
            "chunk.solve", "SolveTril", (scores,), (solved,),
            chunks=self._chunks, rows=_CHUNK, columns=_CHUNK, terms=_CHUNK, **self._served("SolveTril"),
        )  # fmt: skip
        w, u = self._narrow_keys(key, value, decay, beta, solved)
        states, fresh = self._walk(key, w, u, decay)
        out = self._wide("delta.out", self.value)
        # Queries with the state, and their scores of the chunk's keys with its values.
        terms = self._terms(states=1, keys=1, values=1)
        self._kernel("chunk.out", DELTA_RULE, (query, key, fresh, states, decay), (out,), terms)
        return out

    def _narrow_keys(
        self, key: int, value: int, decay: int, beta: int, solved: int, again: str = ""
    ) -> tuple[int, int]:
        """Keys and values that the solved triangle of their chunk is multiplied into."""
        w, u = self._wide("chunk.w", self.key), self._wide("chunk.u", self.value)
        inputs = (key, value, beta, solved, decay)
        self._kernel(f"chunk.wu{again}", "RecomputeWU", inputs, (w, u), self._terms(keys=1, values=1))
        return w, u

    def _walk(self, key: int, w: int, u: int, decay: int, again: str = "") -> tuple[int, int]:
        """The state before every chunk, and the values that each chunk adds."""
        states, fresh = self._states("chunk.states"), self._wide("chunk.values", self.value)
        kept = () if self.state is None else (self.state,)
        name, inputs, outputs = f"chunk.walk{again}", (key, w, u, decay, *kept), (states, fresh, *kept)
        self._kernel(name, _WALK, inputs, outputs, self._terms(states=2))
        return states, fresh

    def backward(self, last: Op, made_by: Mapping[int, Op], gradient: int) -> tuple[tuple[int, int], ...]:
        """Gradients of queries, keys, values, decays and step sizes."""
        query, key, fresh, _, decay = last.inputs
        _, value, beta, solved, _ = made_by[made_by[fresh].inputs[1]].inputs
        w, u = self._narrow_keys(key, value, decay, beta, solved, ".again")
        states, fresh = self._walk(key, w, u, decay, ".again")
        local = self._wide("chunk.dv_local", self.value)
        terms = self._terms(keys=1, values=1)
        self._kernel("chunk.dv_local", "ChunkBwdDvLocal", (query, key, decay, gradient), (local,), terms)
        back, du = self._states("chunk.dstates"), self._wide("chunk.du", self.value)
        read: tuple[int, ...] = (query, key, w, decay, gradient, local)
        self._kernel("chunk.walk_back", "ChunkGatedDeltaRuleBwdDhu", read, (back, du), self._terms(states=3))
        dq, dk, dw = (self._wide(f"chunk.{name}", self.key) for name in ("dq", "dk", "dw"))
        ddecay = self._wide("chunk.ddecay", 1, "float32")
        read = (query, key, fresh, w, decay, states, du, gradient, back)
        terms = self._terms(states=3, keys=3, values=1)
        self._kernel("chunk.dqkwg", "ChunkBwdDqkwg", read, (dq, dk, dw, ddecay), terms)
        more, dv = self._wide("chunk.dk_more", self.key), self._wide("chunk.dv", self.value)
        dbeta, small = self._wide("chunk.dbeta", 1), self._wide("chunk.ddecay_more", 1, "float32")
        read = (key, value, beta, decay, solved, dw, du)
        # Both halves of the solved triangle's gradient, through its inverse, into keys and values.
        terms = self._terms(keys=5, values=2, triangles=2)
        self._kernel("chunk.wu_back", "PrepareWyReprBwd", read, (more, dv, dbeta, small), terms)
        dk, ddecay = self._added("dk", dk, more), self._added("ddecay", ddecay, small)
        return (query, dq), (key, dk), (value, dv), (decay, ddecay), (beta, dbeta)

    def _added(self, name: str, gradient: int, more: int) -> int:
        total = self.e.view(f"chunk.{name}.sum", gradient, self.e.shape(gradient))
        self.e.op(f"chunk.{name}.sum", "Add", (gradient, more), (total,))
        return total
