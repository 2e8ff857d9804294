"""Prices that the pair model asks at every row of a plan: of going on with it, leaving it out, jumping to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.likelihood import Likelihoods, pair_model
from memplan.align.classes.op_families import family_table
from memplan.align.pairs.pair_columns import OpColumns, StepPrices
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Float32s, Int32s, Int64s

SPREAD = 1.0
"""Standard deviation of the logarithm of a collective's time by the planned one, where the run tells no other."""


@dataclass(frozen=True, slots=True)
class PairPrices:
    """What the loops take of a plan: columns of its rows, ratios, and prices that are the same at every row."""

    ops: OpColumns
    ratios: Likelihoods
    prices: StepPrices
    start_inside: float

    def taken(self, rows: Int64s) -> PairPrices:
        """Those rows alone."""
        return self._by_row(lambda column: column[rows])

    def repeated(self, times: int) -> PairPrices:
        """The rows of so many steps."""
        return self._by_row(lambda column: np.tile(column, times))

    def with_columns(self, **columns: NDArray[Any]) -> PairPrices:
        """The same with other `columns`, by their names in `OpColumns`."""
        return replace(self, ops=self.ops._replace(**columns))

    def _by_row(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> PairPrices:
        columns: tuple[NDArray[Any], ...] = self.ops
        return replace(self, ops=OpColumns(*map(change, columns)))


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
    loose = np.select([of_experts, pieced], [prices["loose_experts"], prices["loose_pieces"]], prices["loose"])
    columns = OpColumns(
        token=sequence.token,
        scope=sequence.scope,
        name=both.row_names,
        place=np.arange(len(sequence), dtype=np.int64),
        time=sequence.time.astype(np.float32),
        stay=stay.astype(np.float32),
        lead=np.where(written, prices["lead_written_out"], stay).astype(np.float32),
        bare=np.where(written, prices["bare_written_out"], prices["bare"]).astype(np.float32),
        skip=np.where(free | beside, 1.0, prices["skip"]).astype(np.float32),
        skip_on=np.where(free | extra | beside, 1.0, prices["skip_on"]).astype(np.float32),
        passed=_passed(sequence),
        entry=sequence.begins.astype(np.float32),
        ends=sequence.ends,
        group=sequence.group,
        block=sequence.block,
        loose=loose.astype(np.float32),
        since=np.zeros(len(sequence), dtype=np.int64),
        until=np.full(len(sequence), np.iinfo(np.int64).max),
    )
    told = {name: float(prices[name]) for name in StepPrices._fields if name in prices}
    same = StepPrices(**told, spread=SPREAD)
    return PairPrices(columns, both.ratios, same, float(prices["start_inside"]))


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
    planned = np.bincount(model.ops.token, minlength=len(able))
    whole = np.array([not rule.written_out for rule in sequence.rules])
    several = np.array([2.0 if rule.repeats else 1.0 for rule in sequence.rules])
    unable = (whole & (able < rules["share"] * several * planned))[model.ops.token] & (sequence.op >= 0)
    skip, skip_on = (
        np.where(unable, np.maximum(price, np.float32(rules["skip"])), price)
        for price in (model.ops.skip, model.ops.skip_on)
    )
    return model.with_columns(skip=skip, skip_on=skip_on)


def other_prices(model: PairPrices) -> PairPrices:
    """The model with other prices of going on with an op, and of other orders: a second opinion."""
    rules = pair_model()["second_opinion"]
    ops = model.ops
    stay = np.where(ops.stay < rules["stay"], ops.stay, np.float32(rules["stay"]))
    lead = np.minimum(ops.lead, np.float32(rules["stay"]))
    return model.with_columns(stay=stay, lead=lead, loose=ops.loose * np.float32(rules["loose"]))


def unsized_prices(model: PairPrices) -> PairPrices:
    """The model where no kernel tells sizes, without which nothing but neighbours can speak for another order."""
    prices = model.prices._replace(near_jump=0.0)
    return replace(model, prices=prices).with_columns(loose=np.zeros_like(model.ops.loose))
