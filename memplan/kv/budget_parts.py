"""What a KV budget is made of: lines of memory, what is given of them, and what follows from what is left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from memplan.core.errors import InputError
from memplan.core.lazy_names import from_above
from memplan.core.sentence import Sentence, Text
from memplan.hardware import Chip
from memplan.kv.collective_buffers import HCCL_BUFFER_MB
from memplan.kv.engine import DEFAULT_SEQUENCES, Engine
from memplan.kv.pool import BlockPool, Refusal
from memplan.kv.settings import Choice, ServingOptions
from memplan.kv.settings.serving_options import GIVEN
from memplan.kv.tokens import TokenPools
from memplan.models import ModelConfig
from memplan.models.parallel import Layout


class BudgetPart(str, Enum):
    """What a line of the budget is, whatever it is called."""

    CARD = "card"
    DRIVER = "driver"
    OUTSIDE = "outside"
    WEIGHTS = "weights"
    ACTIVATIONS = "activations"
    COLLECTIVES = "collectives"
    GRAPHS = "graphs"
    WORKSPACE = "workspace"
    STATES = "states"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class BudgetItem:
    """
    One line of the budget: what it is, its name, bytes (`None` where unknown), and where the figure comes from.

    Of weights there is a line for each `group` of them.
    """

    part: BudgetPart
    name: str
    nbytes: int | None
    source: Text
    group: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """
    What of a die's memory is not the KV cache's.

    `hbm` overrides the card's size and `reserved` the driver's share, both in bytes. `activations`, `graph`,
    `workspace` and `collectives` override the estimates; graphs and workspace are unknown otherwise.
    `used` is what of the device is in use before the engine starts, which some engines take off once more.
    `cache` is the cache's own memory where it is given, whatever is left. `sequences` are those of one step, `None` as
    many as the engine starts with; `eager` runs the model uncompiled and captures no graphs. `precision` is how weights
    are stored. `redundant_experts` are copies of experts in each layer, on all ranks together.
    """

    precision: str = "published"
    utilization: float | None = None
    hbm: int | None = None
    reserved: int | None = None
    activations: int | None = None
    graph: int | None = None
    workspace: int | None = None
    collectives: int | None = None
    used: int = 0
    cache: int | None = None
    sequences: int | None = None
    eager: bool = False
    hccl_buffer_mb: int = HCCL_BUFFER_MB
    redundant_experts: int = 0

    @property
    def step_sequences(self) -> int:
        """Sequences of one step, as given or as engines start with on most devices."""
        return self.sequences or DEFAULT_SEQUENCES


@dataclass(frozen=True, slots=True)
class KvBudget:
    """
    The budget of the pipeline stage with the least room, and what fits.

    `items` go from the card's size down to the cache; `dies` are all those of the layout. `fixed_bytes_per_request` and
    `bytes_per_token` are what the engine's pages take, `logical_fixed_bytes` and `logical_bytes_per_token` what is in
    them; `waste_bytes` is the difference for one sequence of `context` tokens. `tokens` is how many tokens of one
    length `context` fit in all. `refusal` is what the engine says of the first stage on which it would not start, which
    need not be the tightest: it counts every group of layers on each stage, held there or not. `choices` are the
    settings the engine runs with. `token_pools` are the pools of an engine that deals memory out in tokens; `pool`
    shows the one that all requests share, in pages.
    """

    model: str
    chip: str
    engine: str
    layout: Layout
    dies: int
    stage: int
    context: int
    items: tuple[BudgetItem, ...]
    available_bytes: int
    pool: BlockPool
    fixed_bytes_per_request: int
    bytes_per_token: float
    logical_fixed_bytes: int
    logical_bytes_per_token: float
    waste_bytes: int
    tokens: int
    sequences: int
    prefix_granularity: int
    fits: bool
    missing_bytes: int
    refusal: Refusal | None
    notes: tuple[Text, ...]
    choices: tuple[Choice, ...]
    token_pools: TokenPools | None = None

    def _repr_html_(self) -> str:
        return str(from_above("memplan.reports.kv.kv_page:budget_html")(self))


def card_items(chip: Chip, memory: Memory) -> tuple[BudgetItem, BudgetItem]:
    """The card's memory and the driver's part of it; raises `InputError` where its size is not known."""
    total = memory.hbm if memory.hbm is not None else chip.hbm_bytes
    if total is None:
        raise InputError("the memory of {} is not known", chip.name, remedy="give it with --hbm")
    entry, driver = chip.values.get("hbm_size"), chip.values.get("hbm_reserved")
    card = BudgetItem(
        BudgetPart.CARD, "card", total, GIVEN if memory.hbm is not None or entry is None else entry.source
    )
    if memory.reserved is not None:
        return card, BudgetItem(BudgetPart.DRIVER, "driver", memory.reserved, GIVEN)
    source: Text = Sentence("no figure for this chip") if driver is None else driver.source
    return card, BudgetItem(BudgetPart.DRIVER, "driver", chip.hbm_reserved_bytes, source)


def check_share(share: float) -> float:
    """`share` of the memory, if it is one; raises `InputError` otherwise."""
    if not 0 < share <= 1:
        raise InputError("a memory utilisation of {} is not between 0 and 1", share)
    return share


def as_started(
    model: ModelConfig, chip: Chip, engine: Engine, options: ServingOptions, memory: Memory
) -> tuple[ServingOptions, Memory]:
    """
    `options` and `memory` with the tokens and sequences of a step that a server of `engine` starts with on the card.

    Engines with token pools choose both by rules of their own. Raises `InputError` where the card's size is not known.
    """
    if engine.token_pools is not None or not engine.step_defaults:
        return options, memory
    card, driver = card_items(chip, memory)
    device = (card.nbytes or 0) - (driver.nbytes or 0)
    sequences = memory.sequences or engine.step_default(device).sequences
    tokens = options.batched_tokens
    if tokens is None:
        tokens = min(engine.step_tokens(model, device=device), sequences * options.length)
    if memory.sequences is None:
        sequences = min(sequences, tokens)
    return replace(options, batched_tokens=tokens), replace(memory, sequences=sequences)
