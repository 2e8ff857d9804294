"""
Releases of serving engines and how they run steps: `releases.json` says what each does unless told otherwise.

Engines are named as they name themselves (`vllm-ascend`), by a release (`vllm-ascend-0.11.0`, or `v0.11.0` of the
default one), and with what is captured behind that (`vllm-ascend-0.11.0-eager`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text
from memplan.engines.names import DEFAULT_ENGINE

GRAPHS = ("none", "piecewise", "full", "full_decode_only", "full_and_piecewise")
"""What of steps engines capture, as vLLM's `cudagraph_mode` names it."""

_NONE, _FULL, _DECODES = "none", "full", "full_decode_only"
_NUMBER = r"\d+(?:\.\d+)*"
_RELEASE = re.compile(rf"({_NUMBER})(?:\.?(rc|post)(\d+))?")
_REST = re.compile(rf"(?:[-=:@ ]+v?(?P<release>{_NUMBER}(?:\.?(?:rc|post)\d+)?))?(?:-(?P<kind>[a-z\d]+))?")
_ORDER = {"rc": -1, None: 0, "post": 1}


@dataclass(frozen=True, slots=True)
class StepMode:
    """
    How an engine runs steps: `name` says it so that it can be asked for again, `mode` whose host's time they have.

    `family` is the engine whatever its release, which is `release` (empty: the newest, or not told apart).
    `graphs` is what is captured, `ahead` whether steps are scheduled ahead (`None`: not known), `attention` the
    operator that makes tokens over pages where it isn't that of the mode, `joined_recurrence` whether a gated delta
    rule makes them in one kernel. `source` is where the release's own graphs are from, `notes` what was asked for and
    makes no difference, or another one.
    """

    name: str
    mode: str
    family: str
    release: str
    graphs: str
    ahead: bool | None
    attention: str | None
    joined_recurrence: bool
    source: str
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    """What a name says: an engine, its release (empty: the newest one), and the kind of steps behind it."""

    family: str
    release: str
    kind: str

    @property
    def shown(self) -> str:
        return f"{self.family}-{self.release}" if self.release else self.family


@cache
def step_mode(engine: str, *, eager: bool = False, graphs: str | None = None, ahead: bool | None = None) -> StepMode:
    """
    How `engine` runs steps, started with `--enforce-eager`, a `--cudagraph-mode` or `--async-scheduling`.

    What isn't told is as its release has it. Raises `InputError` for an engine or a release that is not known, naming
    those that are, and for options that contradict each other or of which nothing is known.
    """
    named = _split(engine)
    if named is None:
        raise _unknown(engine)
    _check_release(named)
    periods = _periods(named)
    found = {name: value for period in periods for name, value in period.items()}
    kind = _family(named.family).get("kinds", {}).get(named.kind, {})
    wanted = _wanted(named, eager, graphs, kind)
    had = found["graphs"] if wanted is None else found.get("taken_as", {}).get(wanted, wanted)
    if had not in found["modes"]:
        what = "--enforce-eager" if eager else f"--cudagraph-mode {had}"
        ways = ", ".join(name for name in GRAPHS if name in found["modes"])
        raise InputError(
            "nothing is known of {} with {}", named.shown, what,
            remedy=Sentence("leave it out: what is known of it captures {}", (ways,)),
        )  # fmt: skip
    if ahead is not None and "asynchronous" not in found:
        raise InputError("nothing is known of {} with {}", named.shown, "--async-scheduling", remedy="leave it out")
    notes: list[Text] = []
    if wanted not in (None, had):
        notes.append(Sentence("{} takes --cudagraph-mode {} as {}", (named.shown, str(wanted), had)))
    if ahead is not None:
        notes.append(Sentence("steps that are scheduled ahead differ from others by less than public sources do"))
    return StepMode(
        name=_name(named, had, found["graphs"], kind),
        mode=kind.get("mode") or found["modes"][had],
        family=named.family,
        release=named.release if "releases" in _family(named.family) else "",
        graphs=had,
        ahead=kind.get("asynchronous", found.get("asynchronous")) if ahead is None else ahead,
        attention=found.get("attention"),
        joined_recurrence=bool(found.get("joined_recurrence")),
        source=next(period["source"] for period in reversed(periods) if "graphs" in period),
        notes=tuple(notes),
    )


def engine_is_known(name: str) -> bool:
    """Whether steps of the engine called `name` are known, be its release known or not."""
    return _split(name) is not None


def _unknown(engine: str) -> InputError:
    """Why no steps are known of what is called `engine`, and what to name in its place."""
    known = Sentence("known: {}", (", ".join(_names()),))
    name = engine.strip().casefold().replace("_", "-")
    known_for = {
        what
        for other, what in _document()["elsewhere"].items()
        if re.fullmatch(rf"{other}(?:[-=:@ ]+v?{_NUMBER}.*)?", name)
    }
    if "memory" in known_for:
        return InputError("memory alone is planned for {:.40}, its steps are not timed", engine, remedy=known)
    if "training" in known_for:
        return InputError("{:.40} trains", engine, remedy="give --phase train to memplan step, or name who serves")
    return InputError("no engine is called {!r:.40}", engine, remedy=known)


def _wanted(named: _Named, eager: bool, graphs: str | None, kind: Mapping[str, Any]) -> str | None:
    """The graphs that are asked for in one way or another; raises `InputError` where two of them differ."""
    told = None if graphs is None else graphs.casefold()
    if told is not None and told not in GRAPHS:
        raise InputError(
            "--cudagraph-mode {!r:.40} is not known", graphs, remedy=Sentence("known: {}", (", ".join(GRAPHS),))
        )
    asked = [item for item in (_NONE if eager else None, told, kind.get("graphs")) if item is not None]
    if len(set(asked)) > 1 or ("mode" in kind and asked):
        raise InputError("{} is told twice what to capture", named.shown, remedy="say it once")
    return asked[0] if asked else None


def _name(named: _Named, had: str, default: str, kind: Mapping[str, Any]) -> str:
    """The name by which steps with `had` graphs can be asked for."""
    kinds = _family(named.family).get("kinds", {})
    behind = named.kind if "mode" in kind else ""
    if had != default and not behind:
        same = (had, *([_DECODES] if had.startswith(_FULL) else []))
        behind = next((name for name, told in kinds.items() if told.get("graphs") in same), "")
    return f"{named.shown}-{behind}" if behind else named.shown


def _periods(named: _Named) -> list[Mapping[str, Any]]:
    """All periods up to that of the release."""
    found: list[Mapping[str, Any]] = _family(named.family)["periods"]
    return [period for period in found if not named.release or _order(period["since"]) <= _order(named.release)]


def _check_release(named: _Named) -> None:
    """Raise `InputError` for a release that is not known, naming the nearest; candidates and fixes count as theirs."""
    known = _family(named.family).get("releases", ())
    if not named.release or not known or _order(named.release)[0] in {_order(item)[0] for item in known}:
        return
    near = nearest_release(named.release, known)
    raise InputError(
        "no release of {} is called {!r:.40}", named.family, named.release, remedy=Sentence("nearest: {}", (near,))
    )


def nearest_release(release: str, known: Iterable[str]) -> str:
    """
    Which of the `known` releases, of which there is one at least, says most of `release`: the last one up to it, else
    the first of all. Candidates and fixes count as what they are of.
    """
    ordered = sorted(known, key=_order)
    return next((item for item in reversed(ordered) if _order(item)[0] <= _order(release)[0]), ordered[0])


def _order(release: str) -> tuple[tuple[int, ...], int, int]:
    """By what releases follow each other."""
    match = _RELEASE.fullmatch(release)
    if match is None:  # a table of ours, or what `_REST` has matched
        raise ValueError(release)
    return tuple(map(int, match[1].split("."))), _ORDER[match[2]], int(match[3] or 0)


def _names() -> Iterator[str]:
    """Every engine and kind of steps without a release."""
    for name, family in _document()["families"].items():
        yield name
        yield from (f"{name}-{kind}" for kind in family.get("kinds", {}))


@cache
def _split(engine: str) -> _Named | None:
    text = engine.strip().casefold().replace("_", "-")
    families = sorted(_document()["families"], key=len, reverse=True)
    family = next((name for name in families if text.startswith(name)), "")
    match = _REST.fullmatch(text[len(family) :] if family else f"-{text}")
    if match is None or not (family or match["release"]):
        return None
    family, kind = family or DEFAULT_ENGINE, match["kind"] or ""
    kind = "" if kind in _document()["devices"] else kind
    if kind and kind not in _family(family).get("kinds", {}):
        return None
    return _Named(family, match["release"] or "", kind)


def _family(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _document()["families"][name]
    return found


def _document() -> Mapping[str, Any]:
    return table("memplan.engines", "releases.json")
