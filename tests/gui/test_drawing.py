"""The painters, compiled and by NumPy, against plain Python that says the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.gui.model.raster import columns_of_steps, paint_rectangles, roomy_rectangles
from memplan.gui.model.timeline.lanes import Lane, build_lane, paint

pytestmark = pytest.mark.gui

EPOCH = 1_714_000_000_123_456_789  # what profiles' clocks show: too large for a float to hold each nanosecond
GROUND = 0xFFFFFFFF
# Eighths are exact in a float: what lies on a border of a pixel does so in either way of reckoning.
EXACT = st.integers(2, 40_000).map(lambda eighths: eighths / 8)
WIDTHS = st.integers(8, 480).map(lambda eighths: eighths / 8)
COLOURS = np.array([0xFFFF0000, 0xFF00FF00, 0xFF0000FF], dtype=np.uint32)


def random_lane(seed: int, count: int, longest_gap: int = 300, compiled: bool = True) -> Lane:
    """Slices after one another with gaps between them, some of them a hundred times as long as the others."""
    random = np.random.default_rng(seed)
    duration = random.integers(1, 200, count) * np.where(random.random(count) < 0.02, 100, 1)
    gap = random.integers(0, longest_gap, count)
    start = EPOCH + np.cumsum(gap + np.concatenate(([0], duration[:-1])))
    return build_lane(start, duration, random.integers(0, 3, count).astype(np.int32), None, compiled=compiled)


@settings(max_examples=60)
@given(
    st.integers(0, 1000), st.integers(1, 3000), st.floats(-0.1, 1.0), EXACT, st.integers(1, 400),
    WIDTHS, st.booleans(),
)  # fmt: skip
def test_the_slices_with_room_for_a_name_are_all_found(
    seed: int, count: int, place: float, ns_per_px: float, width: int, shortest: float, compiled: bool
) -> None:
    lane = random_lane(seed, count, compiled=compiled)
    span = int(lane.start_ns[-1] + lane.duration_ns[-1]) - EPOCH
    t0, fraction = EPOCH + int(place * span), 0.25
    found, left, right = lane.wide(t0, fraction, ns_per_px, width, shortest, count)
    expected = []
    for i in range(count):
        begin = (int(lane.start_ns[i]) - t0 - fraction) / ns_per_px
        low, high = max(begin, 0.0), min(begin + int(lane.duration_ns[i]) / ns_per_px, float(width))
        if high - low >= shortest:
            expected.append((i, low, high))
    assert [row[0] for row in expected] == found.tolist()
    assert np.allclose([row[1:] for row in expected] or np.empty((0, 2)), np.stack([left, right], axis=1))


@pytest.mark.parametrize("compiled", [True, False])
def test_no_more_names_than_there_is_room_for(compiled: bool) -> None:
    lane = random_lane(3, 500, compiled=compiled)
    found, _, _ = lane.wide(EPOCH, 0.0, 1.0, 100_000, 1.0, 7)
    assert found.tolist() == list(range(7))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("ns_per_px", [0.5, 3.0, 40.0, 333.3, 20_000.0])
def test_a_row_of_pixels_is_as_full_as_its_slices(ns_per_px: float, compiled: bool) -> None:
    lane = random_lane(5, 4000, compiled=compiled)
    width, t0 = 300, int(lane.start_ns[1000]) - 50
    pixels = np.full((3, width), GROUND, dtype=np.uint32)
    paint(pixels, (0, 3), lane, t0, 0.0, ns_per_px, COLOURS, GROUND)
    start = (lane.start_ns - t0).astype(np.float64)
    end = start + lane.duration_ns
    for x in range(width):
        left, right = x * ns_per_px, (x + 1) * ns_per_px
        inside = np.clip(np.minimum(end, right) - np.maximum(start, left), 0, None).sum() / ns_per_px
        if inside == 0 and ns_per_px < lane.cell_ns:
            assert pixels[1, x] == GROUND, x
        if inside > 0.5:
            assert pixels[1, x] != GROUND, x
    assert (pixels == pixels[0]).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_neighbouring_slices_a_nanosecond_apart_are_told_apart_at_a_profile_s_clock(compiled: bool) -> None:
    start = np.array([EPOCH, EPOCH + 1, EPOCH + 2], dtype=np.int64)
    lane = build_lane(start, np.ones(3, dtype=np.int64), np.arange(3, dtype=np.int32), None, compiled=compiled)
    pixels = np.full((1, 3), GROUND, dtype=np.uint32)
    paint(pixels, (0, 1), lane, EPOCH, 0.0, 1.0, COLOURS, GROUND)
    assert pixels[0].tolist() == COLOURS.tolist()
    assert lane.at(EPOCH + 1) == 1


@settings(max_examples=60)
@given(st.integers(0, 1000), st.integers(1, 3000), st.floats(-0.1, 1.0), EXACT.filter(lambda length: length < 200))
def test_before_the_loops_are_compiled_a_lane_looks_as_it_will(
    seed: int, count: int, place: float, ns_per_px: float
) -> None:
    """Pixels shorter than most slices: of several in one pixel the two may choose another one's colour."""
    t0, rows = EPOCH + int(place * 100 * count), np.full((2, 4, 300), GROUND, dtype=np.uint32)
    for pixels, compiled in zip(rows, (True, False), strict=True):
        lane = random_lane(seed, count, compiled=compiled)
        paint(pixels, (1, 3), lane, t0, 0.25, ns_per_px, COLOURS, GROUND)
    difference = np.abs(rows.view(np.uint8)[0].astype(int) - rows.view(np.uint8)[1]).max(axis=0) > 2
    assert (rows[:, [0, 3]] == GROUND).all()
    assert ((rows[0] == GROUND) != (rows[1] == GROUND)).mean() <= 0.02
    assert difference.mean() <= 0.1 + 0.9 * min(ns_per_px / 200, 1)


@settings(max_examples=60)
@given(st.integers(0, 1000), st.integers(1, 3000), st.integers(-500, 90_000), st.integers(1, 90_000))
def test_times_within_a_stretch_are_the_same_before_the_loops_are_compiled(
    seed: int, count: int, begin: int, length: int
) -> None:
    found = np.zeros((2, 2, 3), dtype=np.int64)
    for sums, compiled in zip(found, (True, False), strict=True):
        lane = random_lane(seed, count, compiled=compiled)
        lane.add_times(EPOCH + begin, EPOCH + begin + length, *sums)
    assert (found[0] == found[1]).all()


@settings(max_examples=60)
@given(st.integers(0, 1000), WIDTHS, WIDTHS)
def test_the_rectangles_with_room_for_a_name_are_all_found(seed: int, wide: float, tall: float) -> None:
    random = np.random.default_rng(seed)
    start = EPOCH + random.integers(-500, 1500, 200)
    end = start + random.integers(1, 900, 200)
    low = random.integers(-50, 400, 200)
    high = low + random.integers(1, 300, 200)
    px, shape, base = (3.0, 1.5), (200, 120), 20.0
    found, box = np.empty(200, dtype=np.int64), np.empty((200, 4))
    count = roomy_rectangles(start, end, low, high, EPOCH, 0.0, base, px, shape, (wide, tall), found, box)
    left = np.maximum((start - EPOCH) / px[0], 0)
    right = np.minimum((end - EPOCH) / px[0], shape[0])
    bottom, above = np.maximum((low - base) / px[1], 0), np.minimum((high - base) / px[1], shape[1])
    expected = np.flatnonzero((right - left >= wide) & (above - bottom >= tall))
    assert found[:count].tolist() == expected.tolist()
    assert np.allclose(box[:count], np.stack([left, right, bottom, above], axis=1)[expected])


def test_a_rectangle_covers_its_bytes_and_moments_and_at_least_one_pixel() -> None:
    image = np.full((10, 10), GROUND, dtype=np.uint32)
    start, end, low, high = (np.array([value], dtype=np.int64) for value in (EPOCH + 2, EPOCH + 4, 30, 50))
    paint_rectangles(image, start, end, low, high, COLOURS[:1], EPOCH, 0.0, 1.0, 0.0, 10.0)
    painted = image != GROUND
    assert painted[5:7, 2:4].all()
    assert painted.sum() == 4
    image[:] = GROUND
    start, end, low, high = (np.array([value], dtype=np.int64) for value in (EPOCH + 2, EPOCH + 3, 30, 31))
    paint_rectangles(image, start, end, low, high, COLOURS[:1], EPOCH, 0.0, 100.0, 0.0, 1000.0)
    assert (image != GROUND).sum() == 1


@settings(max_examples=60)
@given(st.integers(0, 1000), EXACT, st.integers(-100, 3000))
def test_a_column_has_the_lowest_and_highest_value_of_its_moments(seed: int, ns_per_px: float, begin: int) -> None:
    random = np.random.default_rng(seed)
    time = EPOCH + np.unique(random.integers(0, 3000, 200))
    values = random.integers(0, 1000, len(time))
    width = 50
    lowest, highest = np.empty(width, dtype=np.int64), np.empty(width, dtype=np.int64)
    columns_of_steps(time, values, EPOCH + begin, 0.0, ns_per_px, lowest, highest)
    for x in range(width):
        left, right = begin + x * ns_per_px, begin + (x + 1) * ns_per_px
        # A step right on a column's left border may be drawn with what held before it.
        before = np.flatnonzero(time - EPOCH < left)[-1:]
        at_left = np.flatnonzero(time - EPOCH <= left)[-1:]
        within = np.flatnonzero((time - EPOCH > left) & (time - EPOCH < right))
        must = [int(values[i]) for i in [*at_left, *within]]
        may = [int(values[i]) for i in before] + must
        if not must:
            assert (int(lowest[x]), int(highest[x])) == (-1, -1), x
            continue
        assert min(may) <= lowest[x] <= min(must), x
        assert max(must) <= highest[x] <= max(may), x


def test_loading_the_loops_loads_what_every_view_paints_with() -> None:
    code = (
        "import sys\n"
        "from memplan.gui.model.timeline.drawing_loops import DrawingLoops\n"
        "DrawingLoops().load()\n"
        "from memplan.gui.model import raster\n"
        "from memplan.gui.model.timeline import lane_kernels as lanes\n"
        "kernels = [raster.paint_rectangles, raster.roomy_rectangles, raster.columns_of_steps, raster.paint_line,\n"
        "           raster.paint_stack, lanes.halve_cells, lanes.wide_slices]\n"
        "of_lanes = [lanes.fill_cells, lanes.times_within, lanes.paint_lane]\n"
        "sys.exit(sum(not kernel.signatures for kernel in kernels) + sum(len(k.signatures) != 2 for k in of_lanes))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
