"""
The one place where bytes, rates and times become text and text becomes bytes.

Bytes are `int`, times inside the program are `int` nanoseconds, rates are bytes per second. Binary prefixes
(KiB, MiB, GiB) are powers of 1024 and decimal ones (kB, MB, GB) powers of 1000, never mixed. What is below zero has a
minus sign (U+2212), which is as wide as a plus and never taken for a dash.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BYTE_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB, "t": GIB * KIB, "tib": GIB * KIB,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


MINUS = "−"
UNKNOWN = "–"
"""What stands in place of a figure that is not known."""


def parse_bytes(text: str) -> int:
    """
    Bytes of a quantity such as `20GiB`, `512 MB`, `1.5g` or `4096`; a bare letter is binary.

    Raises `InputError` for anything else.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match.group(2).lower() not in _BYTE_UNITS:
        raise InputError("{!r} is not a size", text, remedy="write it as 20GiB, 512MB or 4096")
    return round(float(match.group(1)) * _BYTE_UNITS[match.group(2).lower()])


def parse_rate(text: str) -> float:
    """Bytes per second of a rate such as `20GB/s`, `1.5GiB/s` or `20GB`; raises `InputError` for anything else."""
    try:
        return float(parse_bytes(re.sub(r"\s*/\s*s$", "", text.strip())))
    except InputError:
        raise InputError("{!r:.40} is not a rate", text, remedy="write it as 20GB/s") from None


def parse_size(text: str) -> int:
    """Bytes of a quantity with its unit, such as `64GiB`; raises `InputError` for a bare number, too, such as `64`."""
    if text.strip().replace(".", "", 1).isdigit():
        raise InputError(
            "{!r:.40} is a size without a unit",
            text,
            remedy=Sentence("write {}GiB, or the unit meant", (text.strip(),)),
        )
    return parse_bytes(text)


def format_bytes(count: int) -> str:
    """`count` bytes in the largest binary unit that keeps it at least one, with three significant digits."""
    if count < 0:
        return f"{MINUS}{format_bytes(-count)}"
    for unit, name in ((GIB * KIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit:
            value = count / unit
            digits = 2 if value < 100 else 1
            return f"{value:,.{digits}f} {name}"
    return f"{count} B"


TIME_UNITS = ((10**9, "s"), (10**6, "ms"), (10**3, "µs"), (1, "ns"))
"""Nanoseconds of each unit that times are said in, the largest first."""


def format_duration(duration_ns: float) -> str:
    """
    `duration_ns` nanoseconds in the largest unit that keeps it at least one, to a thousandth of it.

    What is shorter than a nanosecond but not nothing is `< 1 ns`, never 0.
    """
    if duration_ns < 0:
        return f"{MINUS}{format_duration(-duration_ns)}"
    if 0 < duration_ns < 1:
        return "< 1 ns"
    for unit, name in TIME_UNITS[:-1]:
        if duration_ns >= unit:
            return f"{duration_ns / unit:,.3f} {name}"
    return f"{duration_ns:.0f} ns"


_TIME_UNITS_OF = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
_TIME = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ns|us|µs|ms|s)\s*")


def parse_duration(text: str) -> int:
    """Nanoseconds of a time with its unit, such as `2s` or `50ms`; raises `InputError` for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise InputError("{!r:.40} is not a time", text, remedy="write it as 2s or 50ms")
    return round(float(match.group(1)) * _TIME_UNITS_OF[match.group(2)])


def microseconds(time_ns: int) -> str:
    """Nanoseconds as microseconds with three decimals, exactly, as files of traces hold them."""
    sign, size = ("-", -time_ns) if time_ns < 0 else ("", time_ns)
    return f"{sign}{size // 1000}.{size % 1000:03d}"


_DECIMAL_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_decimal(amount: float, unit: str) -> str:
    """`amount` of `unit` with a decimal prefix and three significant digits: `12.3 TFLOP/s`, `800 GB/s`."""
    for scale, prefix in _DECIMAL_PREFIXES:
        # What rounds to 1000 of the smaller prefix is 1 of this one.
        if abs(amount) >= 0.9995 * scale:
            return f"{amount / scale:.3g} {prefix}{unit}"
    return f"{amount:.3g} {unit}".rstrip()


def format_rate(bytes_per_second: float) -> str:
    """A transfer rate in decimal units, as vendors print them."""
    return format_decimal(bytes_per_second, "B/s")


def format_share(share: float, digits: int = 1) -> str:
    """A part of a whole in percent: `12.3%` of 0.123; what is there, but too little to be written, is `<0.1%`."""
    least = 10.0 ** -(digits + 2)
    return f"<{least:.{digits}%}" if 0 < share < least / 2 else f"{share:,.{digits}%}"


def format_change(share: float, digits: int = 1) -> str:
    """A change in percent of what it is against, signed: `+12.3%` of 0.123; one too small to be seen has no sign."""
    if abs(share) < 0.5 * 10.0 ** -(digits + 2):
        return f"{0.0:.{digits}%}"
    return f"{share:+,.{digits}%}".replace("-", MINUS)


def format_signed(write: Callable[[int], str], amount: int) -> str:
    """A difference as `write` says amounts, with its sign; nothing has none."""
    return f"+{write(amount)}" if amount > 0 else write(amount)


def format_sample(value: float, unit: str) -> str:
    """A measured value in the unit that its file has it in."""
    digits = f"{value:,.0f}" if value == round(value) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{digits} {unit}".rstrip()


def round_up(size: int, alignment: int) -> int:
    """`size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def parse_share(text: str) -> float:
    """A share such as `5%` or `0.05`; raises `InputError` for what is none."""
    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise InputError("{!r:.40} is not a share", text, remedy="write 5% or 0.05") from None


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """The name and the dimensions of `NAME=1,128`; raises `InputError` for anything else."""
    name, equals, dims = text.partition("=")
    try:
        shape = tuple(int(dim) for dim in dims.split(",") if dim.strip())
    except ValueError:
        shape = ()
    if not (equals and name.strip() and (shape or not dims.strip())):
        raise InputError("--shape {!r:.80} is not NAME=1,128", text, remedy="give whole numbers after the =")
    return name.strip(), shape
