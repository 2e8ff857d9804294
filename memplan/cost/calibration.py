"""
A calibration: how kernels of each class really went on one chip, as corrections to the model's time.

A kernel that was measured takes what it took. The corrected time of another one is a sum with coefficients that are
never negative, so that more work never costs less: `overhead + a * model + b * bytes / HBM rate + c * compute`,
`compute` being the slower of its cube and vector time. Only classes of which kernels of other shapes came out better
for it have one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.units import format_share
from memplan.cost.kernel import Kernel, op_class
from memplan.schema import Source

FORMAT = "memplan calibration"
CALIBRATION_VERSION = 2
FEATURES = ("overhead_ns", "model", "bytes", "compute")
_LARGEST_FILE = 16 << 20


class Predicted(Protocol):
    """What a correction starts from: the model's time and its pipes."""

    @property
    def duration_ns(self) -> int: ...
    @property
    def pipes(self) -> Mapping[str, float]: ...
    @property
    def known(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Correction:
    """
    Coefficients (in the order of `FEATURES`) for one class of kernels, fitted on `train_rows` rows.

    Their model times lie within `span_ns`; beyond half and twice of that the fit says nothing.

    Errors are sums of absolute deviations over sums of measured time; `check_error` is over rows that the fit has not
    seen, `None` where there were none, and `model_error` is that of the model alone on the same rows. `shapes` are the
    kernels that differ among those fitted.
    """

    name: str
    coefficients: tuple[float, ...]
    span_ns: tuple[float, float]
    train_rows: int
    check_rows: int
    train_error: float
    check_error: float | None
    model_error: float | None
    shapes: int

    def covers(self, model_ns: float) -> bool:
        """Whether a kernel of that model time is near enough to those fitted."""
        return 0.5 * self.span_ns[0] <= model_ns <= 2 * self.span_ns[1]


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    Fits by op type, and by class for types the profile does not hold, with what they rest on.

    `chip`, `cubes` and `clock_hz` are the machine they correct; errors are over all compute kernels of the profile.
    `seen_ns` is what kernels took that were measured, by `kernel_key`. `unseen_error` is that of kernels of shapes that
    a fit to the other half of all shapes has not seen, `unseen_model_error` the model's on the same; `uncovered` is the
    share of the profile's time that neither a fit nor a kernel seen speaks for.
    """

    profile: str
    chip: str
    cubes: int
    clock_hz: float
    types: tuple[Correction, ...]
    classes: tuple[Correction, ...]
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

    def fit(self, op_type: str, model_ns: float) -> Correction | None:
        """The fit for a kernel of `op_type` and that model time: its own type's, else that of its class."""
        for fits, name in ((self.types, op_type), (self.classes, op_class(op_type).rule)):
            found = next((fit for fit in fits if fit.name == name and fit.covers(model_ns)), None)
            if found is not None:
                return found
        return None

    def corrected_ns(self, kernel: Kernel, cost: Predicted, hbm_bytes_per_second: float) -> int:
        """The corrected time of `kernel`, the model's where no fit applies."""
        seen = self.seen_ns.get(kernel_key(kernel))
        if seen is not None:
            return max(round(seen), 1)
        fit = self.fit(kernel.type, cost.duration_ns) if cost.known else None
        if fit is None:
            return cost.duration_ns
        values = correction_terms(kernel, cost, hbm_bytes_per_second)
        return max(round(sum(a * b for a, b in zip(fit.coefficients, values, strict=True))), 1)


def kernel_key(kernel: Kernel) -> str:
    """What makes a kernel of a profile the same as another: its type, its operands, and the unit that runs it."""
    operands = [
        "-" if operand is None else f"{'x'.join(map(str, operand.shape))}:{operand.dtype}:{operand.layout}"
        for operand in (*kernel.inputs, None, *kernel.outputs)
    ]
    return "|".join((kernel.type, str(kernel.attribute("core", "") or ""), *operands))


def correction_terms(kernel: Kernel, cost: Predicted, hbm_bytes_per_second: float) -> tuple[float, ...]:
    """The four terms of a correction, nanoseconds each; the overhead's is 1."""
    moved = (kernel.read_bytes + kernel.written_bytes) / hbm_bytes_per_second * 1e9
    compute = max(cost.pipes.get("cube", 0.0), cost.pipes.get("vector", 0.0))
    return 1.0, float(cost.duration_ns), moved, compute


def save_calibration(calibration: Calibration, path: str | Path) -> None:
    """Write `calibration` as JSON to `path`, replacing it in one step."""
    document = {"format": FORMAT, "version": CALIBRATION_VERSION, "features": FEATURES, **asdict(calibration)}
    with replacing_file(path) as file:
        file.write(json.dumps(document, indent=1) + "\n")


def load_calibration(path: str | Path) -> Calibration:
    """The calibration in file `path`; raises `InputError` for a file that is none."""
    try:
        if Path(path).stat().st_size > _LARGEST_FILE:
            raise InputError("too large for a calibration", path=path, remedy="give what `memplan calibrate` wrote")
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", path=path, remedy="check the path") from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise InputError("is no JSON", path=path, remedy="give what `memplan calibrate` wrote") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError("is no calibration", path=path, remedy="give what `memplan calibrate` wrote")
    if document.get("version") != CALIBRATION_VERSION or tuple(document.get("features", ())) != FEATURES:
        raise InputError(
            f"has version {document.get('version')!r}", path=path, remedy="calibrate again with this memplan"
        )
    try:
        return Calibration(
            profile=str(document["profile"]),
            chip=str(document["chip"]),
            cubes=int(document["cubes"]),
            clock_hz=_number(document["clock_hz"]),
            types=tuple(_fit(row) for row in document["types"]),
            classes=tuple(_fit(row) for row in document["classes"]),
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
            f"is damaged ({error!r:.60})", path=path, remedy="calibrate again, or give an unedited file"
        ) from None


def _fit(row: Mapping[str, Any]) -> Correction:
    coefficients = tuple(_number(value) for value in row["coefficients"])
    if len(coefficients) != len(FEATURES):
        raise ValueError(f"{len(coefficients)} coefficients")
    low, high = (_number(value) for value in row["span_ns"])
    return Correction(
        name=str(row["name"]),
        coefficients=coefficients,
        span_ns=(low, high),
        train_rows=int(row["train_rows"]),
        check_rows=int(row["check_rows"]),
        train_error=_number(row["train_error"]),
        check_error=_optional(row["check_error"]),
        model_error=_optional(row["model_error"]),
        shapes=int(row["shapes"]),
    )


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(value)
    return number


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)
