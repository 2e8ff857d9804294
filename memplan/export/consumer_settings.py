"""Plans and KV budgets as what other programs are started with, in files with a reason for every value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from memplan.core.files import replacing_file, replacing_folder
from memplan.core.progress import Progress
from memplan.deployment.cases import Case
from memplan.export.knob_table import consumer_settings, knob_table, table_for_engine
from memplan.export.plan_serving_facts import plan_serving_facts
from memplan.export.serving_facts import serving_facts, serving_figures
from memplan.export.settings import ConsumerSettings
from memplan.export.settings_text import consumer_document, settings_text, side_text
from memplan.export.training_facts import TRAINING_KINDS, training_facts, training_figures
from memplan.kv import KvBudget
from memplan.schema import Plan

TRAINING, SERVING = "training", "serving"


def plan_settings(plan: Plan, to: str) -> ConsumerSettings:
    """
    `plan` in the words of the consumer `to`, a name with or without a version.

    Raises `InputError` for a plan that can't be said there.
    """
    kinds = knob_table(to)["of"]
    trained = any(tensor.kind in TRAINING_KINDS for tensor in plan.tensors)
    about = (f"The plan of {plan.origin.graph} on {plan.chip}.",)
    if (trained and TRAINING in kinds) or SERVING not in kinds:
        return consumer_settings(to, TRAINING, training_facts(plan), about, training_figures(plan))
    facts = plan_serving_facts(plan)
    return consumer_settings(to, SERVING, facts, about, {"cache_bytes": facts["cache_bytes"].value})


def budget_settings(
    case: Case, budget: KvBudget, to: str, memories: Mapping[str, int] | None = None
) -> ConsumerSettings:
    """
    The KV budget of `case` in the words of the consumer `to`; `memories` are those beside a die, `host` and `pool`.

    A bare name means the version whose engine was planned. Raises `InputError` for a budget of another engine, one that
    does not fit, and what can't be said there.
    """
    about = (
        f"The KV budget of {budget.model} on {budget.chip} with {budget.engine}, {budget.layout}, sequences of "
        f"{budget.context:,} tokens.",
    )
    facts = serving_facts(case, budget, memories)
    return consumer_settings(table_for_engine(to, case.engine.name), SERVING, facts, about, serving_figures(budget))


def write_plan_settings(plan: Plan, path: Path, progress: Progress, *, to: str) -> tuple[Path, ...]:
    """Write `plan_settings(plan, to)` to `path` (`write_settings`)."""
    progress(0, 1, "settings")
    return write_settings(plan_settings(plan, to), path)


def write_settings(settings: ConsumerSettings, path: Path) -> tuple[Path, ...]:
    """
    Write `settings` to `path`, a folder where there are several files; what was written.

    A command line whose `path` ends with `.json` is written as its words with their reasons. Beside a file that holds
    no comments stands `NAME.why.txt`.
    """
    if len(settings.files) > 1:
        with replacing_folder(path) as folder:
            for file in settings.files:
                (folder / file.name).write_text(
                    settings_text(settings, file), encoding="utf-8", errors="backslashreplace"
                )
            (folder / "why.txt").write_text(
                "\n".join(side_text(settings, file) for file in settings.files), encoding="utf-8"
            )
        return (path,)
    (file,) = settings.files
    if path.suffix == ".json" and file.form != "json":
        with replacing_file(path) as target:
            json.dump(consumer_document(settings), target, indent=2, ensure_ascii=False)
            target.write("\n")
        return (path,)
    with replacing_file(path) as target:
        target.write(settings_text(settings, file))
    if file.form != "json":
        return (path,)
    reasons = path.with_name(f"{path.name}.why.txt")
    with replacing_file(reasons) as target:
        target.write(side_text(settings, file))
    return (path, reasons)
