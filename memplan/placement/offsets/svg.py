"""A packing as a picture: time to the right, addresses upwards, one panel for each pool."""

from __future__ import annotations

from colorsys import hls_to_rgb
from html import escape

from memplan.core.units import format_bytes
from memplan.core.visible_text import visible_text
from memplan.placement.offsets.problem import Assignment, Problem

WIDTH, HEIGHT, MARGIN, TITLE = 1200, 600, 60, 28
LARGEST_DRAWING = 50_000


def to_svg(problem: Problem, assignment: Assignment) -> str:
    """
    SVG text of `assignment`; each rectangle has a tooltip with name, bytes, offset and lifetime.

    Above `LARGEST_DRAWING` rectangles the smallest (by bytes times lifetime) are left out and counted in the title.
    """
    used = [pool for pool in problem.pools if any(place[0] == pool.id for place in assignment.placed.values())]
    panels, top = [], 0
    for pool in used:
        panels.append(_panel(problem, assignment, pool.id, top))
        top += TITLE + HEIGHT + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * MARGIN}" height="{max(top, 1)}" '
        f'viewBox="0 0 {WIDTH + 2 * MARGIN} {max(top, 1)}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>", ""])


def _panel(problem: Problem, assignment: Assignment, pool_id: int, top: int) -> str:
    pool = next(pool for pool in problem.pools if pool.id == pool_id)
    result = next(result for result in assignment.pools if result.pool == pool_id)
    here = [b for b in problem.buffers if assignment.placed[b.id][0] == pool_id]
    spans = [(b, start, end) for b in here for start, end in b.intervals if start < end and b.size]
    first = min((start for _, start, _ in spans), default=0)
    last = max((end for _, _, end in spans), default=1)
    ceiling = max(result.peak, pool.capacity or 0, 1)
    across, up = WIDTH / max(last - first, 1), HEIGHT / ceiling
    floor = top + TITLE + HEIGHT
    left_out = max(len(spans) - LARGEST_DRAWING, 0)
    if left_out:
        spans = sorted(spans, key=lambda item: -(item[0].size * (item[2] - item[1])))[:LARGEST_DRAWING]
    title = (
        f"{pool.name}: peak {format_bytes(result.peak)}, bound {format_bytes(result.lower_bound)}"
        + (f", capacity {format_bytes(pool.capacity)}" if pool.capacity is not None else "")
        + (f"; {left_out} small rectangles not drawn" if left_out else "")
    )
    out = [f'<text x="{MARGIN}" y="{top + 18}" font-size="14">{escape(visible_text(title))}</text>']
    for start, end in pool.reserved:
        out.append(
            _box(MARGIN, floor - min(end, ceiling) * up, WIDTH, (min(end, ceiling) - start) * up, "#bbb", "reserved")
        )
    for b, start, end in spans:
        offset = assignment.placed[b.id][1]
        tip = f"{b.name or b.id}: {b.size} bytes at {offset}, alive [{start}, {end})"
        x, y = MARGIN + (start - first) * across, floor - (offset + b.size) * up
        out.append(_box(x, y, (end - start) * across, b.size * up, _colour(b.id), tip))
    for level, colour in ((pool.capacity, "red"), (result.lower_bound, "black")):
        if level is not None:
            y = floor - level * up
            out.append(
                f'<line x1="{MARGIN}" x2="{MARGIN + WIDTH}" y1="{y:.2f}" y2="{y:.2f}" stroke="{colour}" '
                'stroke-dasharray="6 4"/>'
            )
    out.append(f'<text x="{MARGIN}" y="{floor + 16}">{first}</text>')
    out.append(f'<text x="{MARGIN + WIDTH}" y="{floor + 16}" text-anchor="end">{last}</text>')
    return "\n".join(out)


def _box(x: float, y: float, width: float, height: float, colour: str, tip: str) -> str:
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{max(height, 0):.2f}" fill="{colour}" '
        f'stroke="#333" stroke-width="0.3"><title>{escape(visible_text(tip))}</title></rect>'
    )


def _colour(number: int) -> str:
    """A colour for a buffer; neighbours in number are far apart in hue (golden ratio steps)."""
    red, green, blue = hls_to_rgb(number * 0.618033988749895 % 1.0, 0.72, 0.55)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
