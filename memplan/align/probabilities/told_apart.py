"""
Kernels that can't be told apart: whose match, or being of no plan, is no better than even odds.

Of a run without shapes more is asked for, and most where its times don't agree with planned ones (`sight_of`): what
such runs are right or wrong about differs more from one to the next.

Such matches share few fates: one kind of kernel is the wrong op's in every layer, or the right one's. No probability
holds for them in a single run, so none is given: their op is not stated, and they stand where they are likeliest.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.kernel_scopes import NOT_TOLD_APART, KernelScopes
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.probabilities.boosted_chance import boosted_chance, stated_chance
from memplan.align.probabilities.match_features import MatchFeatures
from memplan.core.arrays import Bools, Floats


def state_chances(found: KernelAssignment, features: MatchFeatures) -> tuple[Floats, Floats]:
    """
    Put into `found` what is stated of each match and its scope, NaN where it is not told apart.

    Returned is for every kernel how likely its match is before any level, and what is stated of its place (phase,
    micro-batch, layer), NaN where that isn't sure enough.
    """
    likely, of_scope = (
        boosted_chance(chance, features, claim)
        for chance, claim in ((found.chance, "op"), (found.scope_chance, "scope"))
    )
    sight = features.sight
    stated = stated_chance(likely, sight, "op")
    untold = np.flatnonzero(np.isnan(stated))
    # The two are fitted apart; a scope is never less likely than an op of it.
    scope = np.fmax(stated, stated_chance(of_scope, sight, "scope"))
    place = scope.copy()
    of_place = boosted_chance(found.chance[untold], features.part(untold), "place")
    place[untold] = stated_chance(of_place, sight, "place")
    scope[untold] = np.nan
    found.chance[:], found.scope_chance[:] = stated, scope
    return likely, place


def leave_out_copies(both: PlanAndRun, found: KernelAssignment, place: Floats, sight: str) -> None:
    """
    Take kernels of an engine's step that only move data for what they are, where they are a part of no op.

    An engine's graph has no op for copies of what a kernel reads or made, nor for slices of a joined product: such are
    a part of what they are told to be one of. What is no larger than ids, and stands outside the layers, is the
    step's: the same ids and tokens are copied for whoever needs them. Their place stays, with the probability that
    `state_chances` says of it (`place`), and is stated as scopes are in a run of that `sight`.
    """
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    moves = kernels.among(family_table().movers)[kernel_class] & ~found.core & ~np.isnan(place)
    sizes = sequence.classes.operands[sequence.token]
    ids = np.where(sizes > 1, sizes, np.iinfo(np.int64).max).min(axis=1)
    outside = sequence.place[:, 2] < 0
    row = np.maximum(found.row, 0)
    of_step = (found.row >= 0) & outside[row] & (kernels.operands[kernel_class].max(axis=1) <= ids[row])
    left = moves & (np.isnan(found.chance) | of_step)
    found.match(np.flatnonzero(left), -1)
    found.chance[left] = found.scope_chance[left] = stated_chance(place[left], sight, "scope")


def scopes_as_stated(scopes: KernelScopes, untold: Bools, place: Floats) -> KernelScopes:
    """The scopes without the part or what of kernels `untold`, and without the place of those of which it is NaN."""
    whats = (*scopes.whats, NOT_TOLD_APART) if untold.any() else scopes.whats
    nowhere = untold & np.isnan(place)
    phase, micro_batch, layer = (
        np.where(nowhere, -1, column).astype(np.int32) for column in (scopes.phase, scopes.micro_batch, scopes.layer)
    )
    return replace(
        scopes,
        phase=phase,
        micro_batch=micro_batch,
        layer=layer,
        part=np.where(untold, -1, scopes.part).astype(np.int32),
        what=np.where(untold, len(scopes.whats), scopes.what).astype(np.int32),
        place_probability=place,
        whats=whats,
    )
