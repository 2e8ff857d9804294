"""A finding: a bottleneck, where it is, what shows it, what it costs, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from memplan.core.resources import table
from memplan.core.sentence import Text


class Confidence(str, Enum):
    """
    How a cost is known: `MEASURED`, read off the profile's own times; `DERIVED`, measured against a bound that a model
    gives; `ASSUMED`, by a sign that has other explanations too.
    """

    MEASURED = "measured"
    DERIVED = "derived"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Place:
    """What to open: a span of the profile's clock in ns, ranks, a step, ops, tensors; empty where it is nowhere."""

    ranks: tuple[int, ...] = ()
    step: int | None = None
    span_ns: tuple[int, int] | None = None
    tracks: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured figure behind a finding, in `unit`: `ns`, `bytes`, `share`, `count`, `B/s` or none (a word)."""

    label: Text
    value: int | float | str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to change: the setting or call of a framework, the version it was read in, and where."""

    framework: str
    knob: str
    text: str
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One bottleneck; `kind` is a key of `remedies.json`.

    `cost_ns` is the time a step would be shorter by at most, summed over the steps of the profile, against `bound`;
    costs of a rank's findings are disjoint. `cost_bytes` is the memory. `waits_ns` is how long other ranks wait for it,
    by rank: time of their steps that no other finding counts. Either cost is `None` where the finding is not of
    that sort or the profile doesn't tell. `formula` says how the cost was made from the evidence. `path_ns` is how much
    of cost and waits lies on the job's critical path, `None` where that is not known. `software` is what the rank ran
    (`memplan.findings.software`). `signs` are what tells remedies of one kind apart: those for one of them go first.
    """

    kind: str
    title: Text
    rank: int | None
    cost_ns: int | None
    cost_bytes: int | None
    bound: Text
    formula: Text
    confidence: Confidence
    waits_ns: tuple[tuple[int, int], ...] = ()
    places: tuple[Place, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    path_ns: int | None = None
    software: frozenset[str] = frozenset()
    signs: frozenset[str] = frozenset()

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What can be done about it with what the rank ran, the first the most likely to help."""
        return remedies_of(self.kind, self.software, self.signs)


def threshold(name: str) -> float:
    """Value of rule `name`; its source stands beside it in `thresholds.json`. Raises `KeyError` for no such rule."""
    return float(table("memplan.findings", "thresholds.json")[name]["value"])


def remedies_of(
    kind: str, software: frozenset[str] = frozenset(), signs: frozenset[str] = frozenset()
) -> tuple[Remedy, ...]:
    """
    The remedies of `kind` in `remedies.json` but those of other software or another use; none where none is known.

    What the profile doesn't tell excludes nothing: of a job that may train or serve both are given. Those that a row
    has for one of `signs` go before all others.
    """
    told = table("memplan.findings", "frameworks.json")
    rivals = {told["rivals"][word] for word in software}
    rows = table("memplan.findings", "remedies.json").get(kind, ())
    return tuple(
        Remedy(row["framework"], row["knob"], row["text"], row["version"], row["source"])
        for row in sorted(rows, key=lambda row: row.get("sign") not in signs)
        if rivals.isdisjoint((*told["needs"].get(row["framework"], ()), row.get("use", "")))
    )
