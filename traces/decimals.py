"""
Decimal text to whole numbers, exactly.

Profilers write times as microseconds since 1970 with three decimals, more digits than a float holds, so no time
passes through a float here.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal

INT64_MAX = 2**63 - 1

ABSENT = frozenset({"", "N/A", "NA", "n/a", "null", "None", "nan"})
"""What profilers write in a table where there is no value."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_PLAIN_LENGTH = 24  # microseconds since 1970 take 16 digits, a point and decimals
_LONGEST = 64  # no number in a profile needs more characters; longer ones are hostile


def scaled(text: str, factor: int) -> int | None:
    """
    The number `text` times `factor`, rounded half away from zero to a whole number.

    `None` where `text` is no decimal number or the result does not fit in 64 bits. `factor` is a positive integer.
    Surrounding blanks and tabs are ignored.
    """
    text = text.strip()
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if len(text) <= _PLAIN_LENGTH and digits.isdigit() and text.isascii():
        # What nearly all numbers look like: a time in microseconds with three decimals, a size in MB.
        if factor == 1000 and len(fraction) == 3:
            value = int(digits)
        else:
            unit = 10 ** len(fraction)
            value = (2 * int(digits) * factor + unit) // (2 * unit)
    elif len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    else:
        exact = Decimal(text)
        if exact and exact.adjusted() > 19:
            return None
        value = int((exact * factor).to_integral_value(ROUND_HALF_UP)) if exact and exact.adjusted() > -40 else 0
    return value if -INT64_MAX <= value <= INT64_MAX else None


def nanoseconds(text: str) -> int | None:
    """Nanoseconds of a time or duration written in microseconds; `None` where `text` is no such number."""
    return scaled(text, 1000)


def number(text: str) -> float:
    """A measured quantity that is not a time; NaN where `text` is none (`N/A`, `NA`, empty)."""
    text = text.strip()
    if text.isascii() and len(text) <= _LONGEST and text.replace(".", "", 1).isdigit():
        return float(text)
    return float(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else math.nan
