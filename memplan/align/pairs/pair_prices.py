"""Prices that the pair model asks at every row of a plan: of going on with it, leaving it out, jumping to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.likelihood import Likelihoods, pair_model
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Float32s, Floats, Int32s, Int64s

SPREAD = 1.0
"""Standard deviation of the logarithm of a collective's time by the planned one, where the run tells no other."""
_SAME_EVERYWHERE = (
    "unplanned", "unplanned_on", "back", "jump", "wrap", "same_name", "other_name", "near_jump", "neighbour_jump",
)  # fmt: skip
"""Prices that are the same at every row, as the loops take them; the spread of collectives' times follows."""


@dataclass(frozen=True, slots=True)
class PairPrices:
    """Columns that the loops take: classes, ratios, prices by row."""

    token: Int32s
    scope: Int64s
    ratios: Likelihoods
    names: Int64s
    place: Int64s
    time: Float32s
    stay: Float32s
    lead: Float32s
    bare: Float32s
    skip: Float32s
    skip_on: Float32s
    passed: Float32s
    entry: Float32s
    ends: Float32s
    group: Int64s
    block: Int64s
    loose: Float32s
    since: Int64s
    until: Int64s
    prices: Floats
    start_inside: float

    def taken(self, rows: Int64s) -> PairPrices:
        """Those rows alone."""
        return self._by_row(lambda column: column[rows])

    def repeated(self, times: int) -> PairPrices:
        """The rows of so many steps."""
        return self._by_row(lambda column: np.tile(column, times))

    def _by_row(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> PairPrices:
        return replace(
            self,
            token=change(self.token),
            scope=change(self.scope),
            names=change(self.names),
            place=change(self.place),
            time=change(self.time),
            stay=change(self.stay),
            lead=change(self.lead),
            bare=change(self.bare),
            skip=change(self.skip),
            skip_on=change(self.skip_on),
            passed=change(self.passed),
            entry=change(self.entry),
            ends=change(self.ends),
            group=change(self.group),
            block=change(self.block),
            loose=change(self.loose),
            since=change(self.since),
            until=change(self.until),
        )


def pair_prices(both: PlanAndRun) -> PairPrices:
    """Prices of the rows of a plan."""
    sequence = both.sequence
    prices = pair_model()["prices"]
    parted = np.array([bool(rule.parts) for rule in sequence.rules])[sequence.token]
    written = np.array([rule.written_out for rule in sequence.rules])[sequence.token]
    simple = sequence.classes.among(family_table().keeping_size)[sequence.token]
    extra = sequence.extra >= 0
    apart = np.array([bool(rule.kernels) and rule.kernels[0] in family_table().apart for rule in sequence.rules])
    free = sequence.opens | ((sequence.op < 0) & ~extra)
    beside = apart[sequence.token] & (sequence.op >= 0)
    cut = np.array([bool(each) for each in sequence.classes.pieces])[sequence.token]
    pieced = np.isin(sequence.group, np.unique(sequence.group[cut]))
    of_experts = np.isin(sequence.group, np.unique(sequence.group[(sequence.classes.groups > 1)[sequence.token]]))
    stay = np.select(
        [written, parted & ~simple], [prices["stay_written_out"], prices["stay_with_parts"]], prices["stay"]
    )
    return PairPrices(
        sequence.token,
        sequence.scope,
        both.ratios,
        both.row_names,
        np.arange(len(sequence), dtype=np.int64),
        sequence.time.astype(np.float32),
        stay.astype(np.float32),
        np.where(written, prices["lead_written_out"], stay).astype(np.float32),
        np.where(written, prices["bare_written_out"], prices["bare"]).astype(np.float32),
        np.where(free | beside, 1.0, prices["skip"]).astype(np.float32),
        np.where(free | extra | beside, 1.0, prices["skip_on"]).astype(np.float32),
        _passed(sequence),
        sequence.begins.astype(np.float32),
        sequence.ends,
        sequence.group,
        sequence.block,
        np.select([of_experts, pieced], [prices["loose_experts"], prices["loose_pieces"]], prices["loose"]).astype(
            np.float32
        ),
        np.zeros(len(sequence), dtype=np.int64),
        np.full(len(sequence), np.iinfo(np.int64).max),
        np.array([*(prices[name] for name in _SAME_EVERYWHERE), SPREAD]),
        float(prices["start_inside"]),
    )


def _passed(sequence: PlannedSequence) -> Float32s:
    """
    What leads on from each row that is left out: all of it, but between extra ops of one kind only its share.

    These cost nothing to leave out, so that every one of hundreds could be the next as well as the first: together
    they would draw kernels of any step to the optimiser.
    """
    extra = sequence.extra >= 0
    section = np.cumsum(sequence.opens | ~extra)
    goes_on = extra & np.append(section[1:] == section[:-1], False)
    return np.where(goes_on, 1.0 / np.bincount(section)[section], 1.0).astype(np.float32)


def with_able_kernels(model: PairPrices, sequence: PlannedSequence, kernel_class: Int32s) -> PairPrices:
    """The model where ops that a run has too few kernels for, all in all, cost little to leave out."""
    rules = pair_model()["unable"]
    ran = np.bincount(kernel_class, minlength=model.ratios.core.shape[1])
    able = (model.ratios.core >= rules["ratio"]) @ ran
    planned = np.bincount(model.token, minlength=len(able))
    whole = np.array([not rule.written_out for rule in sequence.rules])
    several = np.array([2.0 if rule.repeats else 1.0 for rule in sequence.rules])
    unable = (whole & (able < rules["share"] * several * planned))[model.token] & (sequence.op >= 0)
    return replace(
        model,
        skip=np.where(unable, np.maximum(model.skip, np.float32(rules["skip"])), model.skip),
        skip_on=np.where(unable, np.maximum(model.skip_on, np.float32(rules["skip"])), model.skip_on),
    )


def other_prices(model: PairPrices) -> PairPrices:
    """The model with other prices of going on with an op, and of other orders: a second opinion."""
    rules = pair_model()["second_opinion"]
    stay = np.where(model.stay < rules["stay"], model.stay, np.float32(rules["stay"]))
    lead = np.minimum(model.lead, np.float32(rules["stay"]))
    return replace(model, stay=stay, lead=lead, loose=model.loose * np.float32(rules["loose"]))


def unsized_prices(model: PairPrices) -> PairPrices:
    """The model where no kernel tells sizes, without which nothing but neighbours can speak for another order."""
    prices = model.prices.copy()
    prices[_SAME_EVERYWHERE.index("near_jump")] = 0.0
    return replace(model, prices=prices, loose=np.zeros_like(model.loose))
