"""Keys of amounts, which stay the same in every language, and what they and kinds of tensors are called."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from memplan.core.sentence import Sentence, Text

MAKESPAN = "makespan"
STALLED = "waiting for moves"
MISSING = "missing"
TIER_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "peak": "{} peak",
        "lower bound": "{} lower bound",
        "persistent": "{} persistent",
        "capacity": "{} capacity",
    }
)
"""Figures of a tier, and what each is called with the tier's name."""
MEMORY_COLUMNS: Mapping[str, str] = MappingProxyType(
    {"allocated": "{} allocated", "active": "{} active", "reserved": "{} reserved"}
)
"""Figures of a component of measured memory, and what each is called with the component's name."""
MOVE_AMOUNTS: Mapping[str, str] = MappingProxyType({"time": "{}, time", "bytes": "{}, bytes"})
"""Amounts of the moves over a link, and what each is called with the link's name."""


def kind_text(kind: str) -> Sentence:
    """What a kind of tensor is called."""
    return Sentence(kind.replace("_", " "))


BEFORE, OTHERS, UNNAMED = "before the profile", "others", "unnamed"
"""Who holds blocks that no name of the profile stands for."""


def holder_text(name: str) -> Text:
    """What holds blocks: the name of who asked for them, or words where the profile has none."""
    return Sentence(name) if name in (BEFORE, OTHERS, UNNAMED) else name


def step_name(number: int) -> str:
    """The key of step `number`."""
    return f"step {number}"


def step_number(name: str) -> int:
    """The number behind a key made by `step_name`."""
    return int(name.rsplit(" ", 1)[-1])


def step_text(name: str) -> Text:
    """What a step is called."""
    return Sentence("step {}", (str(step_number(name)),))


def memory_name(component: str, column: str) -> str:
    """The key of a column of measured memory: one of `MEMORY_COLUMNS`."""
    return f"{component} {column}"


def memory_text(name: str) -> Text:
    """What a curve of measured memory is called: the component's own name and which of its figures it is."""
    component, _, column = name.rpartition(" ")
    return Sentence(MEMORY_COLUMNS[column], (component,)) if column in MEMORY_COLUMNS else name


def move_name(link: str, amount: str) -> str:
    """The key of the moves over `link`: their time or their bytes (`MOVE_AMOUNTS`)."""
    return f"{link}, {amount}"


def link_of_moves(name: str) -> str:
    """The link behind a key made by `move_name`."""
    return name.rsplit(", ", 1)[0]


def move_text(name: str) -> Text:
    """What the moves over a link are called."""
    link, _, amount = name.rpartition(", ")
    return Sentence(MOVE_AMOUNTS[amount], (link,)) if amount in MOVE_AMOUNTS else name


def planned_time_text(name: str) -> Text:
    """What a planned time is called."""
    return Sentence(name)


def tier_text(name: str) -> Text:
    """What a figure of a tier is called."""
    tier, _, part = name.partition(" ")
    return Sentence(TIER_PARTS[part], (tier,)) if part in TIER_PARTS else Sentence(name)


def kind_of_tier_text(name: str) -> Text:
    """What a kind of tensor in a tier is called."""
    tier, _, kind = name.partition(" ")
    return Sentence("{} {}", (tier, kind_text(kind)))
