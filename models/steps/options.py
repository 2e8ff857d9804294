"""What one step is: a phase, so many sequences of so many tokens, and the formats it computes in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.models.architecture import ModelConfig
from memplan.models.precision import PUBLISHED, Format
from memplan.models.weight_shapes import WeightGroup
from memplan.schema import Plan

KV_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "int8": "int8", "fp8": "float8_e4m3"}
"""Names of cache formats as engines take them, and the dtype of an element."""


class Phase(str, Enum):
    """Reading a prompt, or adding tokens to sequences that are cached."""

    PREFILL = "prefill"
    DECODE = "decode"


_SERVED = frozenset(phase.value for phase in Phase)


def is_served(plan: Plan) -> bool:
    """Whether a plan is of a step that an engine runs."""
    return any(op.phase in _SERVED for op in plan.ops)


@dataclass(frozen=True, slots=True)
class ServedStep:
    """
    One forward step of a served model.

    `batch` sequences are dealt over the data-parallel replicas; each has `context` tokens once the step is done, of
    which `cached` were there before a prefill. A decode step computes `1 + speculative` tokens of each sequence and
    runs the layer of multi-token prediction `speculative` times.

    `output_parallel`, `head_parallel`, `dense_parallel` and `embedding_parallel` split the attention's output
    projection, the head, dense feed-forward layers and the embedding over so many ranks although attention is data
    parallel (`finegrained_tp_config` of vllm-ascend). `sequence_parallel` spreads the residual stream over the
    tensor-parallel ranks. With `whole_shared` each of these has the shared experts whole and runs them on its own
    tokens, where experts are parallel (`enable_shared_expert_dp` of vllm-ascend).

    Of experts some are chosen more often than others, and a step's time is that of the rank with most rows of those
    that share them (`models.routing`), which all wait for. `even_routing` gives every expert as many tokens as the
    next, as balancers do and benchmarks that force it.

    With `joined_recurrence` the kernel of a gated delta rule that makes tokens has queries and keys of unit length and
    the gates in it as well, as some engines' have; elsewhere these are kernels before it.
    """

    phase: Phase
    batch: int
    context: int
    cached: int = 0
    speculative: int = 0
    precision: str = PUBLISHED
    kv: str = "bf16"
    index_c8: bool = False
    sequence_parallel: bool = False
    whole_shared: bool = False
    even_routing: bool = False
    joined_recurrence: bool = False
    output_parallel: int = 1
    head_parallel: int = 1
    dense_parallel: int = 1
    embedding_parallel: int = 1

    def __post_init__(self) -> None:
        counts = ("batch", "context", "output_parallel", "head_parallel", "dense_parallel", "embedding_parallel")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError("{} must be at least 1, found {}", name, getattr(self, name))
        if not 0 <= self.cached < self.context:
            raise InputError("cached must be from 0 to {}, found {}", self.context - 1, self.cached)
        if self.speculative < 0 or (self.speculative and self.phase is Phase.PREFILL):
            raise InputError("a {} step can't verify {} draft tokens", self.phase.value, self.speculative)
        if self.kv not in KV_DTYPES:
            raise InputError(
                "no cache format is called {!r:.40}", self.kv, remedy=Sentence("known: {}", (", ".join(KV_DTYPES),))
            )


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Types of the operands of a matrix product: the weight as stored, the activation as multiplied."""

    weight: str
    activation: str

    @property
    def quantised(self) -> bool:
        """Whether activations are quantised before the product."""
        return self.activation not in ("bfloat16", "float16", "float32")


def activation_dtype(model: ModelConfig) -> str:
    """The type activations are kept in between ops."""
    return "float16" if model.dtype == "float16" else "bfloat16"


def arithmetic(form: Format, group: WeightGroup, model: ModelConfig, precision: str) -> Arithmetic:
    """
    Types that a weight of `group` stored as `form` is multiplied in.

    Eight and four bits with one scale per output row are integers, and otherwise what the published scheme says;
    activations have the type of eight-bit weights, and stay in 16 bits for schemes that quantise weights alone.
    """
    wide = activation_dtype(model)
    if form.bits >= 32:
        return Arithmetic("float32", wide)
    if form.bits >= 16:
        return Arithmetic(wide, wide)
    scheme = model.quantization if precision == PUBLISHED else None
    integers = form.row_bytes > 0 or (scheme is not None and scheme.integers)
    eight = "int8" if integers else "float8_e4m3"
    weight = eight if form.bits == 8 else ("int4" if integers else "float4_e2m1")
    if (scheme is not None and scheme.weight_only) or group is WeightGroup.EMBEDDING:
        return Arithmetic(weight, wide)
    return Arithmetic(weight, eight)
