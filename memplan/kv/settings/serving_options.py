"""How an engine is started, and what it makes of that: settings with nothing left open, each with why."""

from __future__ import annotations

from dataclasses import dataclass, field

from memplan.core.sentence import Sentence, Text
from memplan.kv.kept_entries import CacheOptions


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """
    How the engine is started: its caches, and how much it schedules at once; `None` leaves it to the engine.

    `length` is the longest sequence, `batched_tokens` the most tokens of one step, `asynchronous` whether steps are
    scheduled ahead, `prefix_caching` whether blocks are kept for later requests. `in_flight_tokens` sets directly what
    windows must hold beside their own tokens, as a planner is told it; the block size given with it is taken as it is.
    `hybrid` off keeps windows as if they were full attention. `blocks` overrides the number of blocks. `runner` is the
    model runner asked for (`V2`). `requests` are the most that may run at once, where the engine sizes memory for them.
    `fits_length` shortens the sequence to the longest that fits, where one does.
    """

    length: int
    caches: CacheOptions = field(default_factory=CacheOptions)
    batched_tokens: int | None = None
    asynchronous: bool | None = None
    prefix_caching: bool | None = None
    in_flight_tokens: int | None = None
    hybrid: bool = True
    blocks: int | None = None
    fits_length: bool = False
    runner: str | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting as the engine runs with it: its name, its value and why it has it."""

    setting: Sentence
    value: Text
    reason: Text


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """
    `options` with nothing left open, and what else follows from them.

    `batches` are under way at once, `state_blocks` states kept of a request, `None` one for each block.
    `block_outermost` says that layers lie side by side in a block, `own_layouts` that every stage must attend, for
    workers agree on the order of a cache. `choices` say what was chosen and why.
    """

    options: ServingOptions
    batches: int
    state_blocks: int | None
    block_outermost: bool
    own_layouts: bool
    choices: tuple[Choice, ...]


GIVEN = Sentence("given")
"""Why a figure or a setting is what it is: the user said so."""
