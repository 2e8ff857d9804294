"""The constants of the serving model, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.schema import Source


@dataclass(frozen=True, slots=True)
class Constants:
    """
    What a step costs beyond its kernels, in nanoseconds and bytes per second.

    `*_base_ns` is a collective of no bytes between few ranks, `*_rank_ns` what each further rank adds. `product_share`
    is what matrix products reach, in a running model, of the rate they have alone. `mixing_*` are those of reading
    hyper-connections, measured on vector cores that make `mixing_vector_hz` cycles a second together.
    """

    kernel_gap_ns: float
    product_share: float
    step_overhead_ns: float
    dispatch_base_ns: float
    dispatch_rank_ns: float
    dispatch_bytes_per_second: float
    combine_base_ns: float
    combine_rank_ns: float
    combine_bytes_per_second: float
    reference_link_bytes_per_second: float
    collective_base_ns: float
    collective_share: float
    mixing_base_ns: float
    mixing_direct_share: float
    mixing_element_ns: float
    mixing_vector_hz: float


def _document() -> Mapping[str, Any]:
    return table("memplan.serving", "constants.json")


def constants() -> Constants:
    """The constants as shipped."""
    entries = _document()["constants"]
    return Constants(**{field.name: float(entries[field.name]["value"]) for field in fields(Constants)})


CAPTURED = "captured"
"""The engine that hides all of the host's work behind the captured graphs of its steps."""


def host_step_ns(engine: str) -> int:
    """
    What a step of `engine` takes beyond its captured graph: scheduler, inputs, sampling.

    Raises `InputError` naming the engines for one that is not known.
    """
    known = _document()["engines"]
    if engine not in known:
        raise InputError("no engine is called {!r:.40}", engine, remedy=Sentence("known: {}", (", ".join(known),)))
    return int(known[engine]["host_step_ns"])


def eager_draft_ns(*, sparse: bool) -> int:
    """What each draft takes beyond its kernels where the host launches them one by one; `sparse` with an indexer."""
    return int(_document()["eager_drafts"]["sparse_ns" if sparse else "dense_ns"])


def host_of(engine: str, asked: str | None = None) -> str:
    """
    Whose host time the steps of an engine called `engine` have: that `asked` for, else its own where it is known.

    Raises `InputError` for one asked for that is not known.
    """
    if asked is not None:
        host_step_ns(asked)
        return asked
    return next((name for name in _document()["engines"] if engine.startswith(name)), CAPTURED)


def step_interval(engine: str) -> tuple[float, float]:
    """Measured over predicted time of a step of `engine`: between these lie four of five public rows."""
    entry = _document()["engines"][engine]["interval"]
    return float(entry["low"]), float(entry["high"])


def accepted(drafts: int) -> float:
    """Draft tokens of `drafts` that are accepted on average: the first by its own chance, each further one by less."""
    chances = _document()["acceptance"]
    chance, total = float(chances["first"]), 0.0
    for _ in range(drafts):
        total += chance
        chance *= float(chances["further"])
    return total


def sources() -> tuple[Source, ...]:
    """Every constant as text with where it comes from."""
    return (
        tuple(
            Source(f"{name} = {entry['value']:g}", entry["source"]) for name, entry in _document()["constants"].items()
        )
        + tuple(
            Source(f"host of a step, {name} = {entry['host_step_ns']:g} ns", entry["source"])
            for name, entry in _document()["engines"].items()
        )
        + (
            Source(
                f"host of an eager draft = {eager_draft_ns(sparse=False):g} ns, with an indexer "
                f"{eager_draft_ns(sparse=True):g} ns",
                _document()["eager_drafts"]["source"],
            ),
        )
    )
