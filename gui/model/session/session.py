"""Everything one window shows of a document, and what the user has selected in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_duration
from memplan.gui.model.document import Document
from memplan.gui.model.event import Event
from memplan.gui.model.memory.block_map import BlockMap, block_map
from memplan.gui.model.memory.memory_curves import TierCurves, memory_curves
from memplan.gui.model.memory.memory_map import MemoryMap, Peak, explain_peak, memory_map, tiers_with_addresses
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.gui.model.timeline.timeline_tracks import TimelineTracks
from memplan.gui.model.viewport import Viewport
from memplan.schema import Tier

if TYPE_CHECKING:
    from memplan.findings import Diagnosis, Finding


@dataclass(frozen=True, slots=True)
class SliceRef:
    """A slice of a timeline's track: `index` is its position in the track's slices."""

    track: str
    index: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A rectangle of the memory map."""

    rectangle: int


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block of the run's allocator: a rectangle of the session's `blocks`."""

    rectangle: int


@dataclass(frozen=True, slots=True)
class OpRef:
    """An op of the plan."""

    op: int


@dataclass(frozen=True, slots=True)
class FindingRef:
    """A finding of the session's diagnosis, by its place among them; `place` is one of its instances."""

    number: int
    place: int = 0


@dataclass(frozen=True, slots=True)
class SpansRef:
    """Many places that are one thing, such as all short waits: what it is, and their spans on the profile's clock."""

    title: Text
    spans: tuple[tuple[int, int], ...]


ItemRef = SliceRef | TensorRef | BlockRef | OpRef | FindingRef | SpansRef


@dataclass(frozen=True, slots=True)
class TierMemory:
    """What there is to show of one memory tier: its map and peak where there is a plan, and its curves."""

    map: MemoryMap | None
    peak: Peak | None
    curves: TierCurves


class Session:
    """
    The models behind one window: viewport, tracks, map, curves, the selected item, and the page it is looked at on.

    Building one does the work that grows with the document, so it can be done off the interface's thread; nothing in
    it touches Qt.
    """

    def __init__(self, document: Document, tier: Tier | None = None, loops: DrawingLoops | None = None) -> None:
        self.document = document
        self.loops = loops or DrawingLoops()
        self.origin_ns = document.origin_ns
        self.counted = document.counted
        start, end = document.span_ns
        margin = max((end - start) // 100, 1)
        self.viewport = Viewport((float(-margin), float(end - start + margin)))
        self.tracks = TimelineTracks(document, self.loops)
        self.selected_changed = Event()
        self.markers_changed = Event()
        self.tier_changed = Event()
        self.markers: list[float] = []
        self.marker_names: dict[float, str] = {}
        """What markers are called that were given a name."""
        self.notes = ""
        """What the user wrote about the document."""
        self.page = "overview"
        self.diagnosed = Event()
        self.diagnosis: Diagnosis | None = None
        self.not_diagnosed: str | None = None
        """Why there is no diagnosis, where it was asked for in vain."""
        self.blocks: BlockMap | None = None
        self.blocks_read = False
        self.blocks_changed = Event()
        self._selected: ItemRef | None = None
        self.tiers = tiers_with_addresses(document.plan) if document.plan is not None else ()
        self._tiers: dict[Tier, TierMemory] = {}
        self.map: MemoryMap | None = None
        self.peak: Peak | None = None
        self.curves = TierCurves()
        self.show_tier(tier or (self.tiers[0] if self.tiers else Tier.HBM))

    def length_text(self, length: float) -> Text:
        """A length on the time axis: a duration, or so many events or steps where these have no times."""
        if not self.counted:
            return format_duration(length)
        events = self.counted == "event"
        return Sentence("{} [event|events]" if events else "{} [step|steps]", (f"{round(length):,}",))

    def moment_text(self, time: float) -> Text:
        """A moment of the time axis: how long after its beginning, or the number of an event or a step."""
        if not self.counted:
            return format_duration(time)
        events = self.counted == "event"
        return Sentence("event {}" if events else "step {}", (f"{round(time):,}",))

    def tier_memory(self, tier: Tier) -> TierMemory:
        """The map and the curve of `tier`: what takes time of `show_tier`; for any thread, it changes nothing here."""
        if (kept := self._tiers.get(tier)) is not None:
            return kept
        plan, axis = self.document.plan, self.document.axis
        mapped = memory_map(plan, axis, tier) if plan is not None else None
        peak = explain_peak(mapped, axis) if mapped is not None else None
        return TierMemory(mapped, peak, memory_curves(self.document, tier, mapped))

    def show_tier(self, tier: Tier, memory: TierMemory | None = None) -> None:
        """Show the map and the curve of `tier`, as `tier_memory` gave them if it was asked before."""
        if tier not in self._tiers:
            self._tiers[tier] = memory or self.tier_memory(tier)
        self.tier, shown = tier, self._tiers[tier]
        self.map, self.peak, self.curves = shown.map, shown.peak, shown.curves
        if isinstance(self._selected, TensorRef):
            self.select(None)
        self.tier_changed.emit()

    def find_blocks(self, progress: Progress = silent) -> BlockMap | None:
        """The blocks of the run's allocator; for any thread: it changes nothing here."""
        return block_map(self.document, progress)

    def keep_blocks(self, found: BlockMap | None) -> None:
        """Show what `find_blocks` found; for the thread that shows the session."""
        self.blocks, self.blocks_read = found, True
        self.blocks_changed.emit()

    def diagnose(self, progress: Progress = silent) -> Diagnosis | None:
        """
        What costs time or memory in the profile, on every rank of it, against the plan if it is one of that run;
        `None` without a profile.

        For any thread: it changes nothing here. Raises `MemplanError` for a profile that tells of nothing.
        """
        profile = self.document.profile
        if profile is None or not profile.ranks:
            return None
        from memplan.findings import diagnose  # with its rules: a window starts without

        compared = self.document.comparison
        plan = self.document.plan if compared is not None else None
        return diagnose(profile, plan=plan, compared=compared, progress=progress)

    def keep_diagnosis(self, diagnosis: Diagnosis | str) -> None:
        """Show what `diagnose` found, or why it found nothing; for the thread that shows the session."""
        if isinstance(diagnosis, str):
            self.not_diagnosed = diagnosis
        else:
            self.diagnosis = diagnosis
        self.diagnosed.emit()

    def finding(self, item: ItemRef | None) -> Finding | None:
        """The finding that `item` is, `None` where it is something else."""
        if not isinstance(item, FindingRef) or self.diagnosis is None:
            return None
        return self.diagnosis.findings[item.number]

    @property
    def peak_finding(self) -> FindingRef | None:
        """The finding that says who holds memory at the peak of the shown rank, `None` where there is none."""
        rank = self.document.rank
        for number, one in enumerate(self.diagnosis.findings if self.diagnosis is not None else ()):
            if one.kind == "memory.peak" and (rank is None or one.rank == rank.rank):
                return FindingRef(number)
        return None

    def finding_spans(self, item: ItemRef | None) -> list[tuple[int, int]]:
        """Where a finding is in the shown rank, on the profile's clock; nothing for what isn't a finding of it."""
        found, rank = self.finding(item), self.document.rank
        if found is None or rank is None:
            return []
        here = (place for place in found.places if not place.ranks or rank.rank in place.ranks)
        return [place.span_ns for place in here if place.span_ns is not None]

    def marked_spans(self) -> list[tuple[int, int]]:
        """What every view marks of the selected item, on the profile's clock: the places of a finding or a group."""
        item = self._selected
        return list(item.spans) if isinstance(item, SpansRef) else self.finding_spans(item)

    @property
    def peak_ns(self) -> int | None:
        """When memory peaks on the profile's clock: as planned, else as measured; `None` without any memory curve."""
        if self.peak is not None:
            return self.peak.time_ns
        return self.curves.measured[0].peak[0] if self.curves.measured else None

    @property
    def selected(self) -> ItemRef | None:
        """What the user clicked last, or `None`."""
        return self._selected

    def select(self, item: ItemRef | None) -> None:
        """Make `item` the selected item in every view."""
        if item != self._selected:
            self._selected = item
            self.selected_changed.emit()

    def selected_span(self) -> tuple[float, float] | None:
        """Where the selected item lies, in nanoseconds from the origin."""
        item = self._selected
        if isinstance(item, SliceRef):
            lanes = self.tracks.lanes(self.tracks.track(item.track))
            if lanes is None:
                return None
            start = int(lanes.slices.start_ns[item.index])
            end = start + int(lanes.slices.duration_ns[item.index])
        elif isinstance(item, TensorRef) and self.map is not None:
            start, end = int(self.map.start_ns[item.rectangle]), int(self.map.end_ns[item.rectangle])
        elif isinstance(item, BlockRef) and self.blocks is not None:
            start, end = int(self.blocks.start_ns[item.rectangle]), int(self.blocks.end_ns[item.rectangle])
        elif isinstance(item, OpRef) and self.document.plan is not None:
            op = self.document.plan.ops[item.op]
            axis = self.document.axis
            start = axis.to_profile(op.start_ns)
            end = start + op.duration_ns
        elif isinstance(item, FindingRef) and (spans := self.finding_spans(item)):
            start, end = spans[item.place if item.place < len(spans) else 0]
        elif isinstance(item, SpansRef) and item.spans:
            start, end = min(first for first, _ in item.spans), max(last for _, last in item.spans)
        else:
            return None
        return float(start - self.origin_ns), float(end - self.origin_ns)

    def reveal_selected(self) -> None:
        """Bring the selected item into view in every view."""
        span = self.selected_span()
        if span is not None:
            self.viewport.reveal(*span)

    def planned_op_of(self, item: ItemRef | None) -> int | None:
        """The plan's op behind `item`: the op itself, that of a planned slice, or a tensor's producer."""
        plan = self.document.plan
        if plan is None:
            return None
        if isinstance(item, OpRef):
            return item.op
        if isinstance(item, SliceRef):
            track = self.tracks.track(item.track)
            return track.planned.ops[item.index].index if track.planned is not None and track.planned.ops else None
        if isinstance(item, TensorRef) and self.map is not None:
            placement = plan.placements[int(self.map.placement[item.rectangle])]
            return self.map.tensors[placement.tensor].producer
        return None

    def add_marker(self, time: float) -> None:
        """Put a marker at `time`, or take away the one that is there."""
        if time in self.markers:
            self.markers.remove(time)
            self.marker_names.pop(time, None)
        else:
            self.markers = sorted([*self.markers, time])
        self.markers_changed.emit()

    def marker_name(self, time: float) -> str:
        """What the marker at `time` is called: by its number unless it was given a name."""
        return self.marker_names.get(time) or f"M{self.markers.index(time) + 1}"

    def name_marker(self, time: float, name: str) -> None:
        """Call the marker at `time` so; an empty name takes its name away."""
        self.marker_names[time] = name.strip()
        self.markers_changed.emit()

    def clear_markers(self) -> None:
        """Take every marker away."""
        self.markers = []
        self.marker_names = {}
        self.markers_changed.emit()
