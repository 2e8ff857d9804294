"""
A calibration: how kernels really went on one chip, as corrections to the model's time.

A kernel that was measured takes what it took, carried to its place where places were seen to go as the model has them.
Another one takes the model's time as often as kernels like it did (`memplan.cost.deviations`), where kernels left out
came out better for that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, reason
from memplan.core.files import replacing_file
from memplan.core.units import format_share
from memplan.cost.deviations import Deviations, L2State, Member, PlainTimes, Prior, Trait, trait_of
from memplan.cost.kernels.kernel import Kernel
from memplan.schema import Source

FORMAT = "memplan calibration"
CALIBRATION_VERSION = 7
_BEFORE = 3
"""
The version that had one prior, and kept nothing of what kernels find in L2; 4 carried nothing to other places, 5 knew
nothing of what reads push out of L2. Up to 6 rows of blocked layouts were those of their blocks: kernels of these are
far from what such a file has measured, and mostly keep the model's time.
"""
_LARGEST_FILE = 16 << 20


@dataclass(frozen=True, slots=True)
class TypeErrors:
    """
    How the kernels of one type came out: rows, distinct kernels, measured time over the model's, and errors.

    Errors are sums of absolute deviations over sums of measured time on rows kept apart, calibrated and by the model
    alone, `None` where there were none.
    """

    name: str
    rows: int
    shapes: int
    ratio: float
    check_error: float | None
    model_error: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    What kernels took, how others of their kinds deviate, and what that rests on.

    `chip`, `cubes` and `clock_hz` are the machine they correct. `seen_ns` is what kernels took that were measured, by
    `kernel_key`, and `seen_alone_ns` what that is run alone (ns), where the power `carried` (0 to 1) of the factor that
    the model has for a place held, none where it is 0.

    It is fitted to all rows. Errors, over all compute kernels, are those of a fit to half of the rows: on these
    (`train_error`) and on the others, kept apart (`check_error`; `model_error` is the model's). `unseen_error` is that
    of kernels of shapes that a fit to the other half of all shapes has not seen, `unseen_model_error` the model's on
    the same; `uncovered` is the share of the time of rows kept apart of which nothing in the others tells.
    """

    profile: str
    chip: str
    cubes: int
    clock_hz: float
    types: tuple[TypeErrors, ...]
    deviations: Deviations = field(hash=False)
    train_error: float
    check_error: float | None
    model_error: float | None
    unseen_error: float | None = None
    unseen_model_error: float | None = None
    uncovered: float = 0.0
    seen_ns: Mapping[str, float] = field(default_factory=dict, hash=False)
    seen_alone_ns: Mapping[str, float] = field(default_factory=dict, hash=False)
    carried: float = 0.0

    @property
    def source(self) -> Source:
        """What a plan says when it rests on this calibration."""
        train = format_share(self.train_error)
        check = "unknown" if self.check_error is None else format_share(self.check_error)
        unseen = "unknown" if self.unseen_error is None else format_share(self.unseen_error)
        return Source(
            f"calibrated on {self.profile}",
            f"time-weighted error of a fit to half of its rows: {train} on these, {check} on rows kept apart; {unseen} "
            "on shapes never seen",
        )

    def corrected_ns(self, kernel: Kernel, plain: PlainTimes, l2: L2State) -> int | None:
        """
        The corrected time of `kernel`, `None` where nothing measured speaks for it.

        `plain` is what the model gives it, `l2` what it meets there.
        """
        seen = self.seen_time_ns(kernel_key(kernel), plain, l2.hot)
        if seen is not None:
            return max(round(seen), 1)
        trait = trait_of(kernel, plain, l2)
        if not plain.known or not self.deviations.covers(trait):
            return None
        return max(round(float(self.deviations.times_ns([trait])[0])), 1)

    def seen_time_ns(self, key: str, plain: PlainTimes, hot: float | None) -> float | None:
        """What the kernel of `key` takes where L2 holds the share `hot` of its reads, `None` if none was measured."""
        alone = self.seen_alone_ns.get(key)
        if hot is None or alone is None:
            return self.seen_ns.get(key)
        return alone * math.pow(plain.place, self.carried)


def kernel_key(kernel: Kernel) -> str:
    """What makes a kernel of a profile the same as another: its type, its operands, and the unit that runs it."""
    operands = [
        "-" if operand is None else f"{'x'.join(map(str, operand.shape))}:{operand.dtype}:{operand.layout}"
        for operand in (*kernel.inputs, None, *kernel.outputs)
    ]
    return "|".join((kernel.type, kernel.core, *operands))


def save_calibration(calibration: Calibration, path: str | Path) -> None:
    """Write `calibration` as JSON to `path`, replacing it in one step."""
    own = calibration.deviations
    deviations = {
        "kept": dict(own.kept),
        "least_shapes": own.least_shapes,
        "kernels": [asdict(trait) for trait in own.traits],
        "members": [asdict(member) for member in own.members],
    }
    document = {
        "format": FORMAT, "version": CALIBRATION_VERSION, **asdict(calibration), "deviations": deviations,
    }  # fmt: skip
    with replacing_file(path) as file:
        file.write(json.dumps(document, indent=1) + "\n")


def load_calibration(path: str | Path) -> Calibration:
    """The calibration in file `path`; raises `InputError` for a file that is none."""
    try:
        if Path(path).stat().st_size > _LARGEST_FILE:
            raise InputError("too large for a calibration", path=path, remedy="give what `memplan calibrate` wrote")
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path, remedy="check the path") from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise InputError("is no JSON", path=path, remedy="give what `memplan calibrate` wrote") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError("is no calibration", path=path, remedy="give what `memplan calibrate` wrote")
    if document.get("version") not in range(_BEFORE, CALIBRATION_VERSION + 1):
        raise InputError(
            "has version {!r}", document.get("version"), path=path, remedy="calibrate again with this memplan"
        )
    try:
        return Calibration(
            profile=str(document["profile"]),
            chip=str(document["chip"]),
            cubes=int(document["cubes"]),
            clock_hz=_number(document["clock_hz"]),
            types=tuple(_type_errors(row) for row in document["types"]),
            deviations=(_deviations_before if document["version"] == _BEFORE else _deviations)(document["deviations"]),
            train_error=_number(document["train_error"]),
            check_error=_optional(document["check_error"]),
            model_error=_optional(document["model_error"]),
            unseen_error=_optional(document["unseen_error"]),
            unseen_model_error=_optional(document["unseen_model_error"]),
            uncovered=_number(document["uncovered"]),
            seen_ns=_times(document["seen_ns"]),
            seen_alone_ns=_times(document.get("seen_alone_ns", {})),
            carried=_number(document.get("carried", 0.0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            "is damaged ({!r:.60})", error, path=path, remedy="calibrate again, or give an unedited file"
        ) from None


def _type_errors(row: Mapping[str, Any]) -> TypeErrors:
    return TypeErrors(
        name=str(row["name"]),
        rows=int(row["rows"]),
        shapes=int(row["shapes"]),
        ratio=_number(row["ratio"]),
        check_error=_optional(row["check_error"]),
        model_error=_optional(row["model_error"]),
    )


def _deviations(document: Mapping[str, Any]) -> Deviations:
    logarithms = [item.name for item in fields(Trait) if item.name not in ("type", "bound", "dtype", "hot", "pushed")]
    traits = tuple(
        Trait(
            str(row["type"]),
            str(row["bound"]),
            **{name: _finite(row[name]) for name in logarithms},
            hot=_number(row["hot"]),
            pushed=_number(row.get("pushed", 0.0)),
            dtype=str(row["dtype"]),
        )
        for row in document["kernels"]
    )
    members = tuple(
        Member(_prior(member["prior"]), _number(member["share"]), _weights(member["weights"], len(traits)))
        for member in document["members"]
    )
    return Deviations(members, traits, _kept(document), int(document["least_shapes"]))


def _deviations_before(document: Mapping[str, Any]) -> Deviations:
    """Deviations of version 3: one prior, and every type that was measured speaks for others."""
    kernels = document["kernels"]
    traits = tuple(
        Trait(str(kind), str(bound), _finite(size), _finite(row), hot=None) for kind, bound, size, row, _ in kernels
    )
    weights = _weights([weight for *_, weight in kernels], len(traits))
    return Deviations((Member(_prior(document["prior"]), 1.0, weights),), traits, _kept(document))


def _prior(document: Mapping[str, Any]) -> Prior:
    known = {item.name: _number(document[item.name]) for item in fields(Prior) if item.name in document}
    if not {"shape", "noise", "falloff", "size_length", "row_length"} <= known.keys():
        raise ValueError("a prior without its lengths")
    if min(value for name, value in known.items() if name.endswith("_length")) <= 0:
        raise ValueError("a length of 0")
    return Prior(**known)


def _weights(values: Sequence[Any], kernels: int) -> tuple[float, ...]:
    if len(values) != kernels:
        raise ValueError(f"{len(values)} weights of {kernels} kernels")
    return tuple(_finite(value) for value in values)


def _kept(document: Mapping[str, Any]) -> dict[str, float]:
    return {str(kind): _number(share) for kind, share in document["kept"].items()}


def _times(document: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): _number(value) for key, value in document.items()}


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _number(value: Any) -> float:
    number = _finite(value)
    if number < 0:
        raise ValueError(value)
    return number


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)
