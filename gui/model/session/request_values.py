"""Requests as values that JSON has, for settings and files; whatever is read gives something usable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.core.options import options_of
from memplan.gui.model.session.open_request import Request

if TYPE_CHECKING:
    from memplan.requests.plan_request import PlanRequest


def plain_request(request: Request) -> dict[str, object]:
    """`request` as values that JSON has."""
    return {
        "plan": str(request.plan) if request.plan is not None else None,
        "profile": str(request.profile) if request.profile is not None else None,
        "rank": request.rank,
        "chip": request.chip,
        "shapes": [[name, list(shape)] for name, shape in request.shapes],
        "step": None if request.step is None else _plain_step(request.step),
        "compared_step": request.compared_step,
        "own_clock": request.own_clock,
    }


def request_of(item: object) -> Request | None:
    """The request that `plain_request` made `item` of; `None` where it is none."""
    if not isinstance(item, dict):
        return None
    plan, profile, rank, chip = (item.get(name) for name in ("plan", "profile", "rank", "chip"))
    compared = item.get("compared_step")
    request = Request(
        plan=Path(plan) if isinstance(plan, str) else None,
        profile=Path(profile) if isinstance(profile, str) else None,
        rank=rank if isinstance(rank, int) else None,
        chip=chip if isinstance(chip, str) else None,
        shapes=_shapes(item.get("shapes")),
        step=_step(item.get("step")),
        compared_step=compared if isinstance(compared, int) else None,
        own_clock=item.get("own_clock") is True,
    )
    return request if request.plan is not None or request.profile is not None else None


def _plain_step(step: PlanRequest) -> dict[str, object]:
    """The options of a step that are not as by default."""
    values = {field.name: getattr(step, field.name) for field, _ in options_of(step)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _step(found: object) -> PlanRequest | None:
    if not isinstance(found, dict) or not isinstance(found.get("source"), str):
        return None
    from memplan.requests.plan_request import PlanRequest  # a window starts without

    usual = PlanRequest(Path(found["source"]))
    known = {field.name: getattr(usual, field.name) for field, _ in options_of(usual)}
    kept = {
        name: value
        for name, value in found.items()
        if name in known and name != "source" and (known[name] is None or type(value) is type(known[name]))
    }
    return replace(usual, **kept)


def _shapes(found: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    try:
        return tuple((str(name), tuple(int(dim) for dim in shape)) for name, shape in found)
    except (TypeError, ValueError, OverflowError):
        return ()
