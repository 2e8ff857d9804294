"""
Tables of settings: what each version of a consumer calls what memplan decides, as data with sources.

Each `knobs/NAME-VERSION.json` states one version of one consumer:

- `consumer`, `version`, `source`; `usual` marks the version that the bare name means; `like` takes over another table,
  whose knobs, rules and files stand where this one has none of its own (`null` takes one away).
- `of`: what it can be made of, `serving` (a KV budget) or `training` (a plan); `engines`: beginnings of the names of
  the engines whose budgets it takes, empty for all.
- `files`: names with their `form` and, of a form `command`, the words that the settings follow.
- `knobs`: facts by memplan's name (`serving_facts`, `training_facts`). `set` gives settings and values, of which `{}`
  is the fact's; `values` gives such a set for each value (`*`: any other), `null` for one that needs nothing; `divide`
  changes its unit, rounded down, `least` and `most` refuse what is beyond them after that; `product_of` names facts
  that must multiply to it.
- `always`: settings that are there whatever was planned; with `with`, only beside that fact.
- `conflicts`: settings that the consumer refuses beside each other; `needs`: settings that another one rests on, unless
  it has the value `unless`.
- `left_out`: facts that the consumer works out by itself, with the reason (`*`: all that it has no knobs for);
  `notes`: what it can't guarantee.

A setting is `file:name` or, in the first file, `name`; `$NAME` is a variable of the environment, `--flag[key.below]` a
key of a JSON object that is given as `--flag`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.export.settings import ConsumerSetting, ConsumerSettings, Facts, PlannedFact, SettingsFile

_MERGED = ("files", "knobs", "left_out")


@functools.cache
def _names() -> tuple[str, ...]:
    folder = resources.files("memplan.export").joinpath("knobs")
    return tuple(sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")))


def knob_table(name: str) -> Mapping[str, Any]:
    """
    The table called `name`, a consumer (its usual version) or a consumer and a version (`vllm-0.33.0`).

    Raises `InputError` for a consumer or a version without one.
    """
    for known in _names():
        found = table("memplan.export", f"knobs/{known}.json")
        if name == known or (name == found["consumer"] and found.get("usual", False)):
            return _whole(found)
    of_consumer = [known for known in _names() if name.startswith(known.rpartition("-")[0])]
    raise InputError(
        "there are no settings for {!r:.60}",
        name,
        remedy=Sentence("choose one of {}", (", ".join(of_consumer or _names()),)),
    )


def table_for_engine(to: str, engine: str) -> str:
    """
    The table of the consumer `to`, a name with or without a version, that takes budgets of `engine`.

    Raises `InputError` where there is no such consumer, and where no version of it takes them.
    """
    named = [table("memplan.export", f"knobs/{name}.json") for name in _names()]
    of_consumer = [row for row in named if to in (row["consumer"], f"{row['consumer']}-{row['version']}")]
    if not of_consumer:
        return str(knob_table(to)["consumer"])
    for row in sorted(of_consumer, key=lambda row: not row.get("usual", False)):
        engines = tuple(_whole(row).get("engines", ()))
        if not engines or engine.startswith(engines):
            return f"{row['consumer']}-{row['version']}"
    taken = [name for row in of_consumer for name in _whole(row)["engines"]]
    raise InputError(
        "{} takes no budget of {}",
        to,
        engine,
        remedy=Sentence(
            "plan with an engine that begins with {}, or export to what the budget is of", (" or ".join(taken),)
        ),
    )


def _whole(found: Mapping[str, Any]) -> Mapping[str, Any]:
    if "like" not in found:
        return found
    base = _whole(table("memplan.export", f"knobs/{found['like']}.json"))
    whole = {**base, "usual": False, **found}
    for part in _MERGED:
        both = {**base.get(part, {}), **found.get(part, {})}
        # Files of its own stand first: names without a file belong to the first.
        whole[part] = {name: row for name, row in both.items() if row is not None}
    for part in ("always", "conflicts", "needs", "notes"):
        whole[part] = [*base.get(part, ()), *found.get(part, ())]
    return whole


def consumer_settings(
    name: str, kind: str, facts: Facts, about: tuple[str, ...], figures: Mapping[str, int]
) -> ConsumerSettings:
    """
    `facts` in the words of the consumer `name`; `kind` is what they are of, `serving` or `training`.

    Raises `InputError` for a consumer that takes none of that kind, values it can't have and settings that conflict.
    """
    knobs = knob_table(name)
    title = f"{knobs['consumer']} {knobs['version']}"
    if kind not in knobs["of"]:
        other = "a training step" if kind == "training" else "a model that is served"
        raise InputError("{} has no settings for {}", title, other)
    files = tuple(
        SettingsFile(file, row["form"], tuple(row.get("command", ()))) for file, row in knobs["files"].items()
    )
    settings = [*_always(knobs, facts), *_of_facts(knobs, facts, title)]
    placed = [_placed(setting, files[0].name) for setting in settings]
    if not placed:
        raise InputError("nothing that was planned is a setting of {}", title, remedy="export to another consumer")
    _refuse_conflicts(knobs, placed, title)
    return ConsumerSettings(
        consumer=knobs["consumer"],
        version=knobs["version"],
        about=about,
        files=tuple(file for file in files if any(setting.file == file.name for setting in placed) or file.command),
        settings=tuple(placed),
        notes=(*_unsaid(knobs, facts, title), *knobs.get("notes", ())),
        figures=figures,
    )


def _placed(setting: ConsumerSetting, first: str) -> ConsumerSetting:
    file, colon, name = setting.name.partition(":")
    return replace(setting, file=file, name=name) if colon else replace(setting, file=first)


def _always(knobs: Mapping[str, Any], facts: Facts) -> Iterator[ConsumerSetting]:
    for row in knobs.get("always", ()):
        beside = row.get("with")
        if beside is not None and (beside not in facts or not facts[beside].value):
            continue
        for setting, value in row["set"].items():
            yield ConsumerSetting("", setting, value, row["reason"], row.get("source", knobs["source"]))


def _of_facts(knobs: Mapping[str, Any], facts: Facts, title: str) -> Iterator[ConsumerSetting]:
    for name, row in knobs["knobs"].items():
        fact = facts.get(name)
        if fact is None:
            continue
        value = _in_units(row, name, fact, title)
        wanted = row.get("product_of")
        if wanted is not None:
            product = math.prod(int(facts[other].value) if other in facts else 1 for other in wanted)
            if product != value:
                words = " x ".join(other.replace("_", " ") for other in wanted)
                raise InputError(
                    "{} has {} of {} = {}, the plan has {}",
                    title,
                    name.replace("_", " "),
                    words,
                    product,
                    value,
                    remedy="plan with that layout, or export to another consumer",
                )
        chosen = row["set"] if "set" in row else _by_value(row["values"], value, name, title)
        for setting, template in (chosen or {}).items():
            yield ConsumerSetting(
                "", setting, _filled(template, value), fact.reason, row.get("source", knobs["source"])
            )


def _in_units(row: Mapping[str, Any], name: str, fact: PlannedFact, title: str) -> Any:
    value = fact.value
    if "divide" in row:
        value //= row["divide"]
    if "least" in row and value < row["least"]:
        raise InputError("{} takes no {} of {}: it begins at {}", title, name.replace("_", " "), value, row["least"])
    if "most" in row and value > row["most"]:
        raise InputError("{} takes no {} of {}: it ends at {}", title, name.replace("_", " "), value, row["most"])
    return value


def _by_value(values: Mapping[str, Any], value: Any, name: str, title: str) -> Any:
    key = str(value).lower() if isinstance(value, bool) else str(value)
    if key in values:
        return values[key]
    if "*" in values:
        return values["*"]
    known = ", ".join(values)
    raise InputError(
        "{} has no {} {!r:.40}", title, name.replace("_", " "), key, remedy=Sentence("it has {}", (known,))
    )


def _filled(template: Any, value: Any) -> Any:
    if template == "{}":
        return value
    if isinstance(template, str):
        return template.replace("{}", str(value))
    if isinstance(template, list):
        return [_filled(item, value) for item in template]
    if isinstance(template, Mapping):
        return {key: _filled(item, value) for key, item in template.items()}
    return template


def _refuse_conflicts(knobs: Mapping[str, Any], settings: list[ConsumerSetting], title: str) -> None:
    by_name: dict[str, Any] = {}
    for setting in settings:
        if setting.name in by_name and by_name[setting.name] != setting.value:
            both = f"{by_name[setting.name]} and {setting.value}"
            raise InputError(
                "{} can't have {} as {} at once", title, setting.name, both, remedy="plan without one of them"
            )
        by_name[setting.name] = setting.value
    on = {name for name, value in by_name.items() if value is not False}
    for row in knobs.get("conflicts", ()):
        if set(row["settings"]) <= on:
            raise InputError(
                "{} refuses {} ({})",
                title,
                " beside ".join(row["settings"]),
                row["source"],
                remedy="plan without one of them",
            )
    for row in knobs.get("needs", ()):
        needing = row["setting"] in on and by_name[row["setting"]] != row.get("unless")
        if needing and not on & set(row["one_of"]):
            raise InputError(
                "{} takes {} only with {} ({})",
                title,
                row["setting"],
                " or ".join(row["one_of"]),
                row["source"],
                remedy="plan with it, or without the other",
            )


def _unsaid(knobs: Mapping[str, Any], facts: Facts, title: str) -> Iterator[str]:
    """What was planned and can't be said to the consumer, or needn't."""
    left_out = knobs.get("left_out", {})
    for name, fact in facts.items():
        words = name.replace("_", " ")
        if name in knobs["knobs"] or fact.usual:
            continue
        if name in left_out:
            yield f"{words} ({fact.value}) is left out: {left_out[name]}"
        elif "*" not in left_out:
            yield f"{title} has no setting for {words} ({fact.value}: {fact.reason})"
