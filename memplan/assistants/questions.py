"""What can be asked: each question reads files of the named folders and answers with a report of a command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from memplan.assistants.answers import ANSWERED_ROWS, Answers
from memplan.assistants.folders import ReadableFolders
from memplan.core.errors import InputError
from memplan.core.options import check_numbers, options_of

_Request = TypeVar("_Request")

Options = dict[str, str | int | float | bool]
_FILES = frozenset({"like", "link_rates", "rates_from"})
"""Options that name a file."""


class Questions:
    """The tools of the server, as methods: their docstrings are what an assistant reads."""

    def __init__(self, folders: ReadableFolders) -> None:
        self._folders, self._answers = folders, Answers()

    def plan(self, source: str, options: Options | None = None) -> str:
        """
        Plan memory and time of a compiled graph (.mindir, .onnx, IR dumps) or of a step of a model's config.json on
        one Ascend die: does it fit, what fills HBM at the peak, what moves.

        `options` are those of `memplan plan` by their names with underscores, such as {"chip": "910B3", "hbm":
        "20GiB", "phase": "train", "tp": 4, "context": 4096}. A wrong name is answered with the names there are.
        """
        from memplan.reports.plan_report import plan_report
        from memplan.requests.plan_request import PlanRequest

        asked = _request(PlanRequest, "source", self._folders.readable(source), options)
        return self._answers.told(plan_report(asked.plan()))

    def show_plan(self, plan: str) -> str:
        """Tell what a saved plan (JSON of `memplan plan -o`, or another planner's) says, and whether it is valid."""
        from memplan.imports import read_plan
        from memplan.reports.plan_report import plan_report

        return self._answers.told(plan_report(read_plan(self._folders.readable(plan))))

    def kv(self, config: str, options: Options | None = None) -> str:
        """
        Budget the KV cache of a served model on one die, from its config.json: blocks, tokens, sequences, itemised.

        `options` are those of `memplan kv`, such as {"chip": "910B3", "engine": "vllm-ascend", "tp": 8, "context":
        32768, "weights": "w8a8"}.
        """
        from memplan.reports.kv.kv_report import kv_report
        from memplan.requests.kv_request import KvRequest

        asked = _request(KvRequest, "config", self._folders.readable(config), options)
        return self._answers.told(kv_report(asked.case().budget()))

    def diagnose(self, profile: str, plan: str | None = None, rank: int | None = None, chip: str | None = None) -> str:
        """Find what costs time or memory in a CANN profile, with the cost of each finding and what to change."""
        import memplan
        from memplan.findings import diagnose
        from memplan.imports import read_plan
        from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
        from memplan.reports.profile_report import profile_remarks

        held = None if plan is None else read_plan(self._folders.readable(plan))
        opened = memplan.open_profile(self._folders.readable(profile))
        found = diagnose(opened, ranks=None if rank is None else [rank], chip=chip, plan=held)
        return self._answers.told(diagnosis_report(found, opened.path.name, profile_remarks(opened)))

    def compare(self, plan: str, profile: str, rank: int | None = None) -> str:
        """Put a saved plan and a profile on one axis: where the run left the plan, and what each difference cost."""
        import memplan
        from memplan.compare import compare
        from memplan.imports import read_plan
        from memplan.reports.comparison.compare_report import compare_report

        loaded = read_plan(self._folders.readable(plan))
        result = compare(loaded, memplan.open_profile(self._folders.readable(profile)), rank=rank)
        return self._answers.told(compare_report(result, {op.index: op.name for op in loaded.ops}))

    def diff(self, before: str, after: str, rank: int | None = None) -> str:
        """
        Say what changed between two profiles of the same program (findings that came, went, grew or shrank), or two
        saved plans (peak, makespan, settings, tensors, ops and moves).
        """
        import memplan
        from memplan.findings import diagnose
        from memplan.findings.profile_change import profile_change
        from memplan.imports import are_plans, read_plan
        from memplan.reports.comparison.plan_diff_report import plan_diff_report
        from memplan.reports.diagnosis.diff_report import diff_report
        from memplan.reports.profile_report import profile_remarks

        paths = [self._folders.readable(name) for name in (before, after)]
        if are_plans(*paths):
            return self._answers.told(plan_diff_report(read_plan(paths[0]), read_plan(paths[1]), before, after))
        sides = [memplan.open_profile(path) for path in paths]
        ranks = [side.ranks[0] if rank is None else rank for side in sides]
        told = [diagnose(side, ranks=[number]) for side, number in zip(sides, ranks, strict=True)]
        change = profile_change(told[0], ranks[0], told[1], ranks[1])
        return self._answers.told(diff_report(change, before, after, profile_remarks(*sides)))

    def chips(self, name: str | None = None) -> str:
        """List the Ascend chips that are known, or every figure of one of them with its source."""
        from memplan.hardware import chip, chips
        from memplan.reports.chip_report import chip_report, chips_report

        return self._answers.told(chips_report(chips()) if name is None else chip_report(chip(name), []))

    def table(self, report: str, number: int, start: int = 0, count: int = ANSWERED_ROWS) -> str:
        """Give rows of a table of an earlier answer as JSON: `report` is its name, `number` that of the table."""
        return self._answers.rows(report, number, start, count)


def _request(kind: type[_Request], source: str, path: Path, options: Options | None) -> _Request:
    """A request for `path` with `options`; raises `InputError` for a name or a value that it doesn't have."""
    hints = get_type_hints(kind)
    left_out = {source, *_FILES}
    known = {item.name: hints[item.name] for item, _ in options_of(kind) if item.name not in left_out}
    given = _values(known, options or {})
    check_numbers(kind, given)
    told = {"given": frozenset(given)} if "given" in hints else {}
    return kind(**{source: path}, **given, **told)


def _values(known: Mapping[str, Any], options: Options) -> dict[str, Any]:
    from pydantic import TypeAdapter, ValidationError

    values = {}
    for name, value in options.items():
        if name not in known:
            raise InputError(f"there is no option {name!r:.40}", remedy=f"known are {', '.join(sorted(known))}")
        try:
            values[name] = TypeAdapter(known[name]).validate_python(value)
        except ValidationError as error:
            raise InputError(f"option {name}: {error.errors()[0]['msg']}") from None
    return values
