"""What a layer keeps of a sequence, before any engine puts it into pages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence


class CacheContent(str, Enum):
    """What a part holds: engines have a format for each."""

    HEADS = "heads"
    LATENT = "latent"
    INDEX_KEYS = "index_keys"
    BLOCK_KEYS = "block_keys"
    KEY_TAIL = "key_tail"
    ENTRIES = "entries"
    ENTRY_KEYS = "entry_keys"
    WINDOW = "window"
    COMPRESSOR = "compressor"
    RECURRENT = "recurrent"


@dataclass(frozen=True, slots=True)
class RecurrentShape:
    """
    A recurrent layer's state: `kernel - 1` inputs of each channel of its convolution, `matrix` elements a head.

    `groups` of `group_channels` more channels are extended where there are fewer than ranks, so that each rank has
    those of its heads; `repeated` channels are on every rank. `drafts` says that draft tokens lengthen the window.
    `heads_name` names the heads in errors, `recurrence` what is computed, `chunk` tokens at a time.
    """

    recurrence: str
    heads: int
    heads_name: str
    matrix: int
    dtype: str
    kernel: int
    channels: int
    groups: int = 0
    group_channels: int = 0
    drafts: bool = True
    repeated: int = 0
    chunk: int = 2048

    def on_rank(self, ranks: int, drafts: int) -> tuple[int, int]:
        """
        Elements of the convolution's window and of the state on one of `ranks`, with so many draft tokens.

        Raises `InputError` where heads or channels can't be divided.
        """
        heads = _whole(self.heads, ranks, self.heads_name)
        groups = self.groups if self.groups % ranks == 0 else ranks
        channels = _whole(self.channels + groups * self.group_channels, ranks, "channels of convolution")
        channels += self.repeated
        return (self.kernel - 1 + (drafts if self.drafts else 0)) * channels, heads * self.matrix


def _whole(count: int, ranks: int, what: str) -> int:
    if count % ranks:
        raise InputError("{} {} can't be divided among {} ranks of tensor parallelism", count, Sentence(what), ranks)
    return count // ranks


@dataclass(frozen=True, slots=True)
class CachePart:
    """
    One cache of one layer: an entry of `widths` elements for every `ratio` tokens.

    `heads` are split over the ranks of tensor parallelism, or repeated where there are fewer; 0 says that every rank
    has it all. `window` and `chunk` bound the tokens kept. A `reused` part is another layer's that some engines keep
    once more. `state` is what is kept of a sequence of any length instead.
    """

    part: str
    content: CacheContent
    widths: tuple[int, ...]
    heads: int = 0
    ratio: int = 1
    window: int | None = None
    chunk: int | None = None
    reused: bool = False
    state: RecurrentShape | None = None

    @property
    def elements(self) -> int:
        """Elements of an entry, of one head where there are heads."""
        return sum(self.widths)
