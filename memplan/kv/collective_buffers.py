"""Memory that collectives take: HCCL's buffers and those of expert dispatch and combine, by the documented formulas."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Sentence, joined
from memplan.core.units import MIB, round_up
from memplan.hardware import Chip
from memplan.models import ModelConfig
from memplan.models.parallel import Layout

HCCL_BUFFER_MB = 200
"""Default of HCCL_BUFFSIZE, in units of 2**20 bytes (hicann/hccl docs/zh/user_guide/hccl_env/HCCL_BUFFSIZE.md)."""
_BUFFERS_PER_COMMUNICATOR = 2
"""Each communicator owns one buffer in and one out, never shared (same page)."""


@dataclass(frozen=True, slots=True)
class Communication:
    """Buffers of one rank: what HCCL's communicators own, and what dispatch needs of the one between experts."""

    communicators: tuple[str, ...]
    buffer_bytes: int
    hccl_bytes: int
    dispatch_bytes: int | None
    source: Sentence

    @property
    def total_bytes(self) -> int:
        """All of it: dispatch works in the experts' own buffers, which must be large enough for it."""
        return self.hccl_bytes


def dispatch_bytes(model: ModelConfig, layout: Layout, chip: Chip, tokens: int) -> int | None:
    """
    Bytes that MoE dispatch and combine need on one rank for `tokens` tokens per rank, or `None` without experts.

    By the rule of the chip's record. `full mesh`: `tokens x ranks x min(local experts, K) x H x 4 + 4 MiB`.
    `two halves`: twice `local x tokens x ranks x align512(align32(2H) + 64) + (K + shared) x tokens x align512(2H)`.
    `None` too where no source gives the chip's rule.
    """
    ffn = model.experts
    if ffn is None or layout.expert == 1:
        return None
    ranks, hidden = layout.expert, model.hidden_size
    local = -(-ffn.experts // ranks)
    rule = None if chip.dispatch_buffer is None else chip.dispatch_buffer.rule
    if rule == "full mesh":
        return tokens * ranks * min(local, ffn.per_token) * hidden * 4 + 4 * MIB
    if rule == "two halves":
        routed = local * tokens * ranks * round_up(round_up(2 * hidden, 32) + 64, 512)
        own = (ffn.per_token + (1 if ffn.shared_intermediate else 0)) * tokens * round_up(2 * hidden, 512)
        return 2 * (routed + own)
    return None


def communication(
    model: ModelConfig,
    layout: Layout,
    chip: Chip,
    *,
    tokens: int | None,
    buffer_mb: int = HCCL_BUFFER_MB,
    data_mb: int | None = None,
) -> Communication:
    """
    Buffers of one rank of `layout`.

    One communicator is counted for every dimension of more than one rank. Where dispatch needs more than the buffer
    that was set, its communicator is counted with what it needs; `tokens` is how many of a rank it serves at once,
    `None` where the engine does not use it. Data parallelism has buffers of `data_mb` where the engine sets them.
    """
    dimensions = (
        ("tensor", layout.tensor),
        ("pipeline", layout.pipeline),
        ("data", layout.data),
        ("context", layout.context),
        ("expert", layout.expert),
    )
    names = tuple(name for name, count in dimensions if count > 1)
    each = _BUFFERS_PER_COMMUNICATOR * buffer_mb * MIB
    needed = None if tokens is None else dispatch_bytes(model, layout, chip, tokens)
    total = len(names) * each
    if data_mb is not None and layout.data > 1:
        total += _BUFFERS_PER_COMMUNICATOR * data_mb * MIB - each
    if needed is not None and needed > each:
        total += needed - each
    text = "2 x HCCL_BUFFSIZE ({} MB) for each communicator: {}"
    source = Sentence(text, (str(buffer_mb), joined(map(Sentence, names or ("none",)), "{}, {}")))
    if data_mb is not None and layout.data > 1:
        source = Sentence("{}; data parallelism has buffers of {} MB", (source, str(data_mb)))
    if needed is not None and chip.dispatch_buffer is not None:
        source = Sentence("{}; dispatch needs {} B ({})", (source, f"{needed:,}", chip.dispatch_buffer.source))
    return Communication(names, each, total, needed, source)
