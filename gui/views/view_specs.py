"""Every view of the window, in the order of its menu: to add one, describe it here."""

from __future__ import annotations

from memplan.gui.views.view import PageSpec, ViewArea, ViewSpec

_MIDDLE, _RIGHT, _BOTTOM = ViewArea.MIDDLE, ViewArea.RIGHT, ViewArea.BOTTOM
_VIEWS = "memplan.gui.views"

VIEW_SPECS = (
    ViewSpec("overview", "Overview", f"{_VIEWS}.overview.overview_view:OverviewView", _MIDDLE, picture="overview"),
    ViewSpec("cluster", "Cluster", f"{_VIEWS}.cluster.cluster_view:ClusterView", _MIDDLE, lazy=True, picture="cluster"),
    ViewSpec("timeline", "Timeline", f"{_VIEWS}.timeline.timeline_view:TimelineView", _MIDDLE),
    ViewSpec("details", "Details", f"{_VIEWS}.details_panel:DetailsView", _RIGHT),
    ViewSpec("problems", "Problems", f"{_VIEWS}.problems_panel:ProblemsView", _RIGHT, tab_with="details"),
    ViewSpec("notes", "Notes", f"{_VIEWS}.notes_view:NotesView", _RIGHT, tab_with="details"),
    ViewSpec("map", "Memory map", f"{_VIEWS}.memory.memory_map_view:MemoryMapView", _BOTTOM),
    ViewSpec("curve", "Memory over time", f"{_VIEWS}.memory.memory_curve_view:CurveView", _BOTTOM, below="map"),
    ViewSpec(
        "process",
        "Process to allocator",
        f"{_VIEWS}.memory.process_view:ProcessView",
        _BOTTOM,
        needs_run=True,
        tab_with="curve",
        picture="process",
    ),
    ViewSpec(
        "statistics",
        "Statistics",
        f"{_VIEWS}.statistics_view:StatisticsView",
        _BOTTOM,
        tab_with="curve",
        picture="statistics",
    ),
    ViewSpec(
        "difference",
        "Planned − measured",
        f"{_VIEWS}.memory.memory_delta_view:MemoryDeltaView",
        _BOTTOM,
        needs_plan=True,
        needs_run=True,
        tab_with="curve",
        picture="difference",
    ),
    ViewSpec(
        "deviations",
        "Plan against profile",
        f"{_VIEWS}.compare.deviations_view:DeviationsView",
        _BOTTOM,
        tab_with="curve",
        picture="differences",
    ),
    ViewSpec(
        "alive",
        "Alive at the cursor",
        f"{_VIEWS}.memory.live_tensors_view:LiveTensorsView",
        _BOTTOM,
        needs_plan=True,
        tab_with="curve",
        picture="alive",
    ),
    ViewSpec(
        "transfers",
        "Moves",
        f"{_VIEWS}.memory.transfers_view:TransfersView",
        _BOTTOM,
        needs_plan=True,
        tab_with="curve",
        picture="moves",
    ),
    ViewSpec(
        "arcs",
        "Moves between tiers",
        f"{_VIEWS}.memory.move_arcs_view:MoveArcsView",
        _BOTTOM,
        needs_plan=True,
        tab_with="map",
        picture="arcs",
    ),
    ViewSpec(
        "roofline",
        "Roofline",
        f"{_VIEWS}.kernel.roofline_view:RooflineView",
        _BOTTOM,
        needs_plan=True,
        tab_with="curve",
        lazy=True,
        keys=("Ctrl+R",),
        picture="roofline",
    ),
    ViewSpec(
        "kernel",
        "Kernel",
        f"{_VIEWS}.kernel.kernel_view:KernelView",
        _BOTTOM,
        tab_with="curve",
        lazy=True,
        keys=("Ctrl+Shift+E",),
        picture="kernel",
    ),
    ViewSpec(
        "planning",
        "Planning",
        f"{_VIEWS}.planning.planning_view:PlanningView",
        _MIDDLE,
        lazy=True,
        keys=("Ctrl+Shift+L",),
        picture="planning",
    ),
    ViewSpec(
        "kv",
        "KV budget",
        f"{_VIEWS}.kv.kv_budget_view:KvBudgetView",
        _MIDDLE,
        lazy=True,
        keys=("Ctrl+K",),
        picture="kv-budget",
    ),
)

_BESIDE = {"details": 360, "notes": 0}

PAGES = (
    PageSpec("overview", "Overview", "overview"),
    PageSpec("timeline", "Timeline", "timeline", {**_BESIDE, "problems": 0, "curve": 240, "statistics": 0}),
    PageSpec(
        "memory",
        "Memory",
        "timeline",
        {**_BESIDE, "map": 430, "arcs": 0, "curve": 280, "process": 0, "difference": 0, "alive": 0, "transfers": 0},
    ),
    PageSpec("plan", "Plan and run", "timeline", {**_BESIDE, "deviations": 320}, needs="plan and run"),
    PageSpec("kernels", "Kernels", "timeline", {**_BESIDE, "kernel": 420, "roofline": 0, "statistics": 0}),
    PageSpec("cluster", "Cluster", "cluster", needs="ranks"),
    PageSpec("planning", "Planning", "planning", alone=True),
    PageSpec("kv", "KV", "kv", alone=True),
)
"""The pages of the window in the order of its rail."""
