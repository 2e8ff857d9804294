"""How quantities are written, the same wherever they are shown."""

from __future__ import annotations

import pytest

from memplan.core.units import (
    format_bytes,
    format_change,
    format_decimal,
    format_duration,
    format_rate,
    format_sample,
    format_share,
    format_signed,
)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (0.4, "< 1 ns"),
        (999, "999 ns"),
        (1_000, "1.000 µs"),
        (-2_500, "−2.500 µs"),
        (1_234_567, "1.235 ms"),
        (12_345_678_901, "12.346 s"),
        (4_000_000_000_000, "4,000.000 s"),
    ],
)
def test_times_are_in_the_largest_unit_that_keeps_them_at_least_one(nanoseconds: float, text: str) -> None:
    assert format_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(12, "12 B/s"), (1_500, "1.5 kB/s"), (999.9e9, "1 TB/s"), (1.6e12, "1.6 TB/s"), (392e9, "392 GB/s")],
)
def test_rates_have_three_digits_and_decimal_prefixes(rate: float, text: str) -> None:
    assert format_rate(rate) == text


def test_other_quantities() -> None:
    assert format_decimal(353.9e12, "FLOP/s") == "354 TFLOP/s"
    assert format_decimal(12.0, "") == "12"
    assert format_bytes(3 * 1024**3 // 2) == "1.50 GiB"
    assert format_signed(format_bytes, 2048) == "+2.00 KiB"
    assert format_signed(format_bytes, -2048) == "−2.00 KiB"
    assert format_signed(format_duration, 0) == "0 ns"
    assert format_share(0.1234) == "12.3%"
    assert format_change(-0.1234, 0) == "−12%"
    assert format_change(0.5) == "+50.0%"
    assert format_change(345.9, 0) == "+34,590%"
    assert format_sample(1800.0, "MHz") == "1,800 MHz"
    assert format_sample(0.25, "") == "0.25"
