"""
A calibration: how kernels really went on one chip, as corrections to the model's time.

A kernel that was measured takes what it took. Another one takes the model's time as often as kernels like it did
(`memplan.cost.kernel_deviations`), where kernels left out came out better for that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, reason
from memplan.core.files import replacing_file
from memplan.core.units import format_share
from memplan.cost.kernel import Kernel
from memplan.cost.kernel_deviations import Deviations, Predicted, Prior, Trait, trait_of
from memplan.schema import Source

FORMAT = "memplan calibration"
CALIBRATION_VERSION = 3
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

    `chip`, `cubes` and `clock_hz` are the machine they correct; errors are over all compute kernels of the profile.
    `seen_ns` is what kernels took that were measured, by `kernel_key`. `unseen_error` is that of kernels of shapes that
    a fit to the other half of all shapes has not seen, `unseen_model_error` the model's on the same; `uncovered` is the
    share of the profile's time that neither a fit nor a kernel seen speaks for.
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

    @property
    def source(self) -> Source:
        """What a plan says when it rests on this calibration."""
        train = format_share(self.train_error)
        check = "unknown" if self.check_error is None else format_share(self.check_error)
        unseen = "unknown" if self.unseen_error is None else format_share(self.unseen_error)
        return Source(
            f"calibrated on {self.profile}",
            f"time-weighted error {train} on the rows it was fitted to, {check} on rows kept apart, {unseen} on shapes "
            "never seen",
        )

    def corrected_ns(self, kernel: Kernel, cost: Predicted) -> int:
        """The corrected time of `kernel`, the model's where nothing measured speaks for it."""
        seen = self.seen_ns.get(kernel_key(kernel))
        if seen is not None:
            return max(round(seen), 1)
        if not cost.known:
            return cost.duration_ns
        return max(round(cost.duration_ns * self.deviations.ratio(trait_of(kernel, cost))), 1)


def kernel_key(kernel: Kernel) -> str:
    """What makes a kernel of a profile the same as another: its type, its operands, and the unit that runs it."""
    operands = [
        "-" if operand is None else f"{'x'.join(map(str, operand.shape))}:{operand.dtype}:{operand.layout}"
        for operand in (*kernel.inputs, None, *kernel.outputs)
    ]
    return "|".join((kernel.type, str(kernel.attribute("core", "") or ""), *operands))


def save_calibration(calibration: Calibration, path: str | Path) -> None:
    """Write `calibration` as JSON to `path`, replacing it in one step."""
    own = calibration.deviations
    deviations = {
        "prior": asdict(own.prior),
        "kept": dict(own.kept),
        "kernels": [[*astuple(trait), weight] for trait, weight in zip(own.traits, own.weights, strict=True)],
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
    if document.get("version") != CALIBRATION_VERSION:
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
            deviations=_deviations(document["deviations"]),
            train_error=_number(document["train_error"]),
            check_error=_optional(document["check_error"]),
            model_error=_optional(document["model_error"]),
            unseen_error=_optional(document["unseen_error"]),
            unseen_model_error=_optional(document["unseen_model_error"]),
            uncovered=_number(document["uncovered"]),
            seen_ns={str(key): _number(value) for key, value in document["seen_ns"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
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
    prior = Prior(*(_number(document["prior"][item.name]) for item in fields(Prior)))
    if min(prior.size_length, prior.row_length) <= 0:
        raise ValueError("a length of 0")
    return Deviations(
        prior,
        tuple(
            Trait(str(kind), str(bound), _finite(size), _finite(row))
            for kind, bound, size, row, _ in document["kernels"]
        ),
        tuple(_finite(weight) for *_, weight in document["kernels"]),
        {str(kind): _number(share) for kind, share in document["kept"].items()},
    )


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
