"""Compiled kernels that paint rectangles, stacked areas and lines into an image of `uint32` pixels (H, W)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.jit import jit

Image = NDArray[np.uint32]


@jit
def _darker(colour: int) -> int:
    return 0xFF000000 | ((colour >> 1) & 0x7F7F7F) + ((colour >> 2) & 0x3F3F3F)


@jit
def paint_rectangles(
    image: Image,
    start: Int64s,
    end: Int64s,
    low: Int64s,
    high: Int64s,
    colour: NDArray[np.uint32],
    t0: int,
    fraction: float,
    ns_per_px: float,
    base: float,
    bytes_per_px: float,
) -> None:
    """
    Paint every rectangle `[start, end) x [low, high)` over the time from `t0 + fraction` and the addresses from `base`.

    Address `base` is the bottom row. A rectangle covers at least one pixel; those with room get a darker border.
    """
    rows, width = image.shape
    for i in range(len(start)):
        x0 = int(np.floor((start[i] - t0 - fraction) / ns_per_px))
        x1 = max(int(np.floor((end[i] - t0 - fraction) / ns_per_px)), x0 + 1)
        if x1 <= 0 or x0 >= width:
            continue
        bottom = rows - int(np.floor((low[i] - base) / bytes_per_px))
        above = min(rows - int(np.floor((high[i] - base) / bytes_per_px)), bottom - 1)
        if bottom <= 0 or above >= rows:
            continue
        left, right = max(x0, 0), min(x1, width)
        first, last = max(above, 0), min(bottom, rows)
        border = x1 - x0 >= 4 and bottom - above >= 4
        edge = _darker(colour[i])
        for y in range(first, last):
            line = border and y == above
            for x in range(left, right):
                image[y, x] = edge if line else colour[i]
            if border and x0 >= 0:
                image[y, x0] = edge


@jit
def roomy_rectangles(
    start: Int64s,
    end: Int64s,
    low: Int64s,
    high: Int64s,
    t0: int,
    fraction: float,
    base: float,
    px: tuple[float, float],
    shape: tuple[int, int],
    least: tuple[float, float],
    found: Int64s,
    box: NDArray[np.float64],
) -> int:
    """
    MapRectangles of which at least `least` pixels (wide, tall) are within a picture of `shape`; how many there are.

    `px` is what a pixel spans: nanoseconds and bytes. Indices go to `found`, the visible part of each as `(left,
    right, low, high)` in pixels from the picture's left and bottom to `box`; no more than there is room for.
    """
    count = 0
    for i in range(len(start)):
        if count == len(found):
            break
        if end[i] - start[i] < least[0] * px[0] or high[i] - low[i] < least[1] * px[1]:
            continue
        left = max((start[i] - t0 - fraction) / px[0], 0.0)
        right = min((end[i] - t0 - fraction) / px[0], float(shape[0]))
        bottom = max((low[i] - base) / px[1], 0.0)
        above = min((high[i] - base) / px[1], float(shape[1]))
        if right - left >= least[0] and above - bottom >= least[1]:
            found[count] = i
            box[count, 0], box[count, 1], box[count, 2], box[count, 3] = left, right, bottom, above
            count += 1
    return count


@jit
def columns_of_steps(
    time: Int64s, values: Int64s, t0: int, fraction: float, ns_per_px: float, lowest: Int64s, highest: Int64s
) -> None:
    """
    Lowest and highest value of a step function within each pixel; -1 before its first point
    and where it is told to be left out by a value below zero.

    `values[i]` holds from `time[i]` to `time[i + 1]`, the last one to the end of the picture.
    """
    count = len(time)
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if time[middle] - t0 <= fraction:  # relative: a float can't hold a nanosecond of a profile's clock
            low = middle + 1
        else:
            high = middle
    now = low - 1
    for x in range(len(lowest)):
        right = fraction + (x + 1) * ns_per_px
        small = values[now] if now >= 0 else np.int64(-1)
        large = small
        while now + 1 < count and time[now + 1] - t0 < right:
            now += 1
            if values[now] >= 0 and (small < 0 or values[now] < small):
                small = values[now]
            large = max(large, values[now])
        lowest[x] = small
        highest[x] = large


@jit
def paint_line(
    image: Image, lowest: Int64s, highest: Int64s, base: float, per_px: float, colour: int, thickness: int
) -> None:
    """Paint a step line from `columns_of_steps`, joining columns; value `base` is the bottom row."""
    rows, width = image.shape
    previous_top = -1
    previous_bottom = -1
    for x in range(width):
        if highest[x] < 0:
            previous_top = -1
            continue
        top = rows - 1 - int((highest[x] - base) / per_px)
        bottom = rows - 1 - int((lowest[x] - base) / per_px)
        first, last = top, bottom
        if previous_top >= 0:
            if previous_bottom < first:
                first = previous_bottom
            if previous_top > last:
                last = previous_top
        previous_top, previous_bottom = top, bottom
        for y in range(max(first - thickness // 2, 0), min(last + thickness - thickness // 2, rows)):
            image[y, x] = colour


@jit
def paint_stack(
    image: Image, values: NDArray[np.int64], base: float, per_px: float, colours: NDArray[np.uint32]
) -> None:
    """Paint areas stacked upward from `base`: `values[k, x]` is the height of layer `k` at pixel `x`."""
    rows, width = image.shape
    for x in range(width):
        total = np.int64(0)
        bottom = rows + int(base / per_px)
        for layer in range(values.shape[0]):
            if values[layer, x] <= 0:
                continue
            total += values[layer, x]
            top = rows - int((total - base) / per_px)
            for y in range(max(top, 0), min(bottom, rows)):
                image[y, x] = colours[layer]
            bottom = top


def warm() -> None:
    """Load every kernel by a call over one pixel: off the interface's thread, so that no first frame waits for it."""
    image, moments = np.zeros((1, 1), np.uint32), np.zeros(1, np.int64)
    lowest, highest = np.empty(1, np.int64), np.empty(1, np.int64)
    colours = np.zeros(1, np.uint32)
    paint_rectangles(image, moments, moments, moments, moments, colours, 0, 0.0, 1.0, 0.0, 1.0)
    roomy_rectangles(
        moments, moments, moments, moments, 0, 0.0, 0.0, (1.0, 1.0), (1, 1), (1.0, 1.0), moments, np.zeros((1, 4))
    )
    columns_of_steps(moments, moments, 0, 0.0, 1.0, lowest, highest)
    paint_line(image, lowest, highest, 0.0, 1.0, 0, 1)
    paint_stack(image, np.zeros((1, 1), np.int64), 0.0, 1.0, colours)
