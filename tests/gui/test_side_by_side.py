"""Two documents side by side: linked viewports, what differs, and where that is seen in both."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import CancelledError
from memplan.gui.model.compare.ab_differences import (
    AB_MOST,
    AB_SHAPE,
    AbAmount,
    AbDifference,
    AbDifferences,
    AbGroup,
    AbLedger,
    AmountUnit,
    compared,
    difference_rows,
    differences_sheet,
)
from memplan.gui.model.compare.ab_profile import collective_pairs
from memplan.gui.model.compare.side_by_side import SideBySide, document_differences
from memplan.gui.model.compare.viewport_link import AlignBy, ViewportLink, default_moments, moments, one_clock
from memplan.gui.model.document import make_document
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, SliceRef
from memplan.gui.model.viewport import Viewport
from memplan.schema import Plan, Tier, load_plan
from tests.gui.conftest import PLAN, PROFILE, slower

pytestmark = pytest.mark.gui


def window(viewport: Viewport) -> tuple[float, float]:
    return viewport.start, viewport.end


def profile(path: Path = PROFILE, rank: int | None = None) -> Session:
    return open_session(Request(profile=path, rank=rank))


def of(found: AbDifferences, group: AbGroup, name: str) -> AbDifference:
    return next(item for item in found.found if item.group is group and item.name == name)


# -- the link ----------------------------------------------------------------------------------------------------


def test_either_viewport_leads_and_the_other_follows_shifted_by_the_offset() -> None:
    first, second = Viewport((0.0, 1000.0)), Viewport((0.0, 1000.0))
    ViewportLink(first, second, 100.0)
    first.show(200.0, 300.0)
    assert window(second) == (300.0, 400.0)
    second.zoom(0.5, 350.0)
    assert window(second) == (325.0, 375.0)
    assert window(first) == (225.0, 275.0)
    first.cursor = 230.0
    assert second.cursor == 330.0
    second.selected_range = (340.0, 360.0)
    assert first.selected_range == (240.0, 260.0)
    first.cursor = None
    first.selected_range = None
    assert second.cursor is None
    assert second.selected_range is None


def test_one_move_is_told_once_to_each_side() -> None:
    first, second = Viewport((0.0, 1000.0)), Viewport((0.0, 1000.0))
    ViewportLink(first, second)
    told: list[str] = []
    first.changed.connect(lambda: told.append("first"))
    second.changed.connect(lambda: told.append("second"))
    first.zoom(0.5, 500.0)
    second.pan(10.0)
    assert sorted(told) == ["first", "first", "second", "second"]


@pytest.mark.parametrize("offset", [0.0, -350.0, 5_000.0])
def test_documents_of_different_length_stay_together_at_every_zoom(offset: float) -> None:
    short, long = Viewport((-1.0, 101.0)), Viewport((-100.0, 10_100.0))
    ViewportLink(short, long, offset)
    for viewport, factor, at in ((short, 0.1, 50.0), (long, 30.0, 9_000.0), (short, 1e6, 0.0), (long, 1e-7, 1.0)):
        viewport.zoom(factor, at)
        viewport.pan(viewport.span)
        assert long.start == pytest.approx(short.start + offset)
        assert long.span == pytest.approx(short.span)
    short.show_all()
    assert short.start <= min(-1.0, -100.0 - offset)
    assert long.end >= max(10_100.0, 101.0 + offset)


def test_going_back_takes_both_back() -> None:
    first, second = Viewport((0.0, 1000.0)), Viewport((0.0, 1000.0))
    link = ViewportLink(first, second)
    first.reveal(100.0, 110.0)
    second.reveal(500.0, 510.0)
    assert first.back()
    assert window(first) == window(second) == (95.0, 115.0)
    assert first.back()
    assert window(first) == window(second) == (0.0, 1000.0)
    link.forget()
    assert not second.back()


def test_a_link_that_is_off_or_forgotten_leaves_no_trace() -> None:
    first, second = Viewport((0.0, 100.0)), Viewport((0.0, 1000.0))
    link = ViewportLink(first, second)
    first.show(*first.bounds)
    link.on = False
    assert first.bounds == (0.0, 100.0)
    assert window(first) == (0.0, 100.0)
    first.show(10.0, 20.0)
    assert window(second) == (0.0, 1000.0)
    link.on = True
    assert window(second) == (10.0, 20.0)
    link.forget()
    assert (first.bounds, second.bounds) == ((0.0, 100.0), (0.0, 1000.0))
    second.show(30.0, 40.0)
    first.cursor = 1.0
    assert window(first) == (10.0, 20.0)
    assert second.cursor is None


def test_other_data_in_a_linked_viewport_moves_the_common_bounds() -> None:
    first, second = Viewport((0.0, 100.0)), Viewport((0.0, 100.0))
    link = ViewportLink(first, second)
    second.set_bounds((0.0, 5_000.0))
    assert first.bounds == second.bounds == (0.0, 5_000.0)
    assert window(first) == window(second)
    link.forget()
    assert (first.bounds, second.bounds) == ((0.0, 100.0), (0.0, 5_000.0))


def test_a_viewport_linked_with_itself_stays_as_it_is() -> None:
    viewport = Viewport((0.0, 100.0))
    link = ViewportLink(viewport, viewport, 10.0)
    viewport.show(10.0, 20.0)
    assert not link.on
    assert window(viewport) == (10.0, 20.0)


def test_aligning_puts_the_chosen_moments_on_each_other_and_shows_them() -> None:
    first, second = Viewport((0.0, 1000.0)), Viewport((0.0, 1000.0))
    link = ViewportLink(first, second)
    first.show(0.0, 100.0)
    link.align(700.0, 250.0)
    assert link.offset == -450.0
    assert first.start <= 700.0 < first.end
    assert window(second) == (first.start - 450.0, first.end - 450.0)


# -- moments -----------------------------------------------------------------------------------------------------


def test_profiles_of_one_time_share_the_clock_and_plans_begin_together(tmp_path: Path) -> None:
    first, second = profile(), profile(slower(tmp_path, 2.0))
    assert one_clock(first, second)
    assert moments(first, second, AlignBy.CLOCK) == (0.0, float(first.origin_ns - second.origin_ns))
    plans = open_session(Request(PLAN)), open_session(Request(PLAN))
    assert moments(*plans, AlignBy.CLOCK) is None
    assert default_moments(*plans) == (0.0, 0.0)


def test_a_plan_and_a_profile_are_aligned_at_the_step() -> None:
    plan, run = open_session(Request(PLAN)), profile()
    found = moments(plan, run, AlignBy.STEPS)
    assert found is not None
    kernels = run.document.rank.kernels()
    assert kernels is not None
    assert found == (0.0, float(kernels.start_ns[0] - run.origin_ns))


def test_the_selected_items_are_aligned_once_something_is_selected_in_both() -> None:
    model = SideBySide(open_session(Request(PLAN)), open_session(Request(PLAN)))
    assert not model.align(AlignBy.SELECTED)
    model.first.select(OpRef(3))
    assert not model.align(AlignBy.SELECTED)
    model.second.select(OpRef(9))
    assert model.align(AlignBy.SELECTED)
    ops = model.first.document.plan.ops
    assert model.link.offset == float(ops[9].start_ns - ops[3].start_ns)


def test_the_map_beside_shows_the_same_tier() -> None:
    model = SideBySide(open_session(Request(PLAN)), open_session(Request(PLAN)))
    model.first.show_tier(Tier.L2)
    assert Tier(model.second.tier) is Tier.HBM  # it has no addresses there
    model.second.show_tier(Tier.L2)
    model.first.show_tier(Tier.HBM)
    assert Tier(model.second.tier) is Tier.HBM
    model.forget()
    model.second.show_tier(Tier.L2)
    model.first.show_tier(Tier.L2)
    model.first.show_tier(Tier.HBM)
    assert Tier(model.second.tier) is Tier.L2


# -- differences -------------------------------------------------------------------------------------------------


def ledger(first: dict[str, int] | None, second: dict[str, int] | None, *, adds_up: bool = True) -> AbLedger:
    def amounts(values: dict[str, int] | None) -> dict[str, AbAmount] | None:
        return None if values is None else {name: AbAmount(1, value) for name, value in values.items()}

    return AbLedger(AbGroup.KERNEL, AmountUnit.TIME, amounts(first), amounts(second), adds_up)


def test_names_of_one_document_only_are_listed_with_a_dash() -> None:
    found = compared([ledger({"a": 100, "gone": 300}, {"a": 90, "new": 500})]).found
    assert [item.name for item in found] == ["new", "gone", "a"]
    assert [item.delta for item in found] == [500, -300, -10]
    assert [item.share for item in found] == [None, 0.75, 0.25]
    new, gone, _ = difference_rows(found)
    assert new.cells[3:6] == ("–", "500 ns", "+500 ns")
    assert gone.cells[3:7] == ("300 ns", "–", "−300 ns", "−100.0%")


def test_what_a_document_knows_nothing_of_is_not_taken_for_zero() -> None:
    unknown = compared([ledger({"a": 100}, None)]).found[0]
    assert unknown.delta is None
    level = compared([ledger({"UB capacity": 100}, {"HBM capacity": 5}, adds_up=False)]).found
    assert [item.delta for item in level] == [None, None]
    assert difference_rows([unknown])[0].cells[4:6] == ("–", "–")


def test_very_many_names_are_cut_to_those_that_differ_most() -> None:
    many = {f"k{index}": index for index in range(AB_MOST + 500)}
    found = compared([ledger(many, {})])
    assert (len(found.found), found.left_out) == (AB_MOST, 500)
    assert found.found[0].name == f"k{AB_MOST + 499}"
    assert found.totals == {AbGroup.KERNEL: (sum(many.values()), 0)}


def test_times_and_bytes_stand_in_one_table_each_by_its_largest_difference_first() -> None:
    times = ledger({"a": 1_000, "b": 900}, {"a": 500, "b": 890})
    sizes = AbLedger(AbGroup.MEMORY, AmountUnit.BYTES, {"m": AbAmount(None, 1 << 30)}, {"m": AbAmount(None, 3 << 28)})
    rows = difference_rows(compared([times, sizes]).found)
    by_name = {row.cells[1]: float(row.sort_keys[AB_SHAPE.sorted_by]) for row in rows}
    assert by_name["a"] > by_name["m"] > by_name["b"]
    assert all(len(row.cells) == len(row.sort_keys) == len(AB_SHAPE.header) for row in rows)


def test_a_slower_kernel_is_found_in_its_type_and_by_its_name(tmp_path: Path) -> None:
    first, second = profile(), profile(slower(tmp_path, 1.5))
    found = document_differences(first, second)
    kernels = first.document.rank.kernels()
    assert kernels is not None
    total = sum(int(time) for time, kind in zip(kernels.duration_ns, kernels.type, strict=True) if kind == "MatMul")
    item = of(found, AbGroup.TYPE, "MatMul")
    assert item.first is not None
    assert item.first.total == total
    assert item.delta == pytest.approx(total / 2, rel=1e-3)
    assert item.share == pytest.approx(total / int(kernels.duration_ns.sum()))
    named = [other for other in found.found if other.group is AbGroup.KERNEL]
    assert sum(other.delta or 0 for other in named) == item.delta
    assert {other.group for other in found.found} >= {AbGroup.STEP, AbGroup.PART, AbGroup.MEMORY}
    assert all(other.delta == 0 for other in found.found if other.group is AbGroup.MEMORY)


def test_a_profile_with_itself_differs_in_nothing() -> None:
    found = document_differences(profile(), profile())
    assert found.found
    assert all(item.delta == 0 for item in found.found)


def changed_plan() -> Plan:
    """The bundled plan with the first op slower, a larger peak, and one tier more."""
    plan = load_plan(PLAN)
    ops = (replace(plan.ops[0], duration_ns=plan.ops[0].duration_ns + 7_000), *plan.ops[1:])
    tiers = tuple(replace(use, peak=use.peak + 4096) if use.tier is Tier.HBM else use for use in plan.tiers)
    return replace(plan, ops=ops, tiers=tiers, makespan_ns=plan.makespan_ns + 7_000)


def test_two_plans_differ_in_times_tiers_and_who_holds_the_peak() -> None:
    first, second = open_session(Request(PLAN)), Session(make_document(changed_plan()))
    found = document_differences(first, second)
    plan = load_plan(PLAN)
    assert of(found, AbGroup.PLANNED_TIME, "makespan").delta == 7_000
    assert of(found, AbGroup.TIER, "HBM peak").delta == 4096
    assert of(found, AbGroup.TIER, "HBM lower bound").delta == 0
    kind = of(found, AbGroup.PLANNED_TYPE, plan.ops[0].type)
    assert kind.delta == 7_000
    assert kind.first is not None
    assert kind.first.total == sum(op.duration_ns for op in plan.ops if op.type == plan.ops[0].type)
    held = [item for item in found.found if item.group is AbGroup.KIND and item.name.startswith("HBM ")]
    assert first.peak is not None
    assert sum(item.first.total for item in held if item.first is not None) == first.peak.alive


def test_a_plan_and_a_profile_apart_are_not_compared() -> None:
    found = document_differences(open_session(Request(PLAN)), profile())
    assert found.found == ()
    assert "opened as one document" in str(found.reason)
    assert document_differences(Session(make_document()), profile()).reason


def test_collectives_of_two_runs_are_paired_whatever_their_group_is_called() -> None:
    first = ["hcom_allReduce__868_0_1", "hcom_allReduce__868_1_1", "hcom_broadcast__11_0", "MatMul"]
    second = ["hcom_allReduce__576_1_1", "hcom_broadcast__22_0", "hcom_allReduce__576_0_1"]
    assert collective_pairs(first, second) == {
        "hcom_allReduce__868_0_1": "hcom_allReduce__576_0_1",
        "hcom_allReduce__868_1_1": "hcom_allReduce__576_1_1",
        "hcom_broadcast__11_0": "hcom_broadcast__22_0",
    }
    assert collective_pairs(first, first) == {}


def test_the_work_can_be_stopped() -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise CancelledError(what)

    with pytest.raises(CancelledError):
        document_differences(profile(), profile(), stop)


def test_the_sheet_has_plain_numbers() -> None:
    sheet = differences_sheet(compared([ledger({"a": 100}, {"a": 90, "b": 1})]).found)
    assert sheet.rows == [
        ("Kernel", "a", "ns", 1, 1, 100, 90, -10, 1.0),
        ("Kernel", "b", "ns", None, 1, None, 1, 1, None),
    ]


# -- jumping -----------------------------------------------------------------------------------------------------


def test_a_jump_selects_the_costliest_slice_of_that_name_in_both(tmp_path: Path) -> None:
    model = SideBySide(profile(), profile(slower(tmp_path, 1.5)))
    model.jump(of(document_differences(model.first, model.second), AbGroup.TYPE, "MatMul"))
    for session in (model.first, model.second):
        kernels = session.document.rank.kernels()
        assert kernels is not None
        rows = [track for track, kind in enumerate(kernels.type) if kind == "MatMul"]
        costliest = max(rows, key=lambda track: int(kernels.duration_ns[track]))
        selected = session.selected
        assert isinstance(selected, SliceRef)
        session.tracks.load(session.tracks.track(selected.track))
        lanes = session.tracks.lanes(session.tracks.track(selected.track))
        assert lanes is not None
        assert lanes.slices.names[lanes.slices.name[selected.index]] == kernels.name[costliest]
        assert int(lanes.slices.start_ns[selected.index]) == int(kernels.start_ns[costliest])
        start, end = session.selected_span() or (0.0, 0.0)
        assert session.viewport.start < start < end < session.viewport.end
    assert model.second.viewport.start == model.first.viewport.start + model.link.offset


def test_every_difference_can_be_shown_in_every_document_that_has_it(tmp_path: Path) -> None:
    plan = Session(make_document(changed_plan()))
    models = [SideBySide(profile(), profile(slower(tmp_path, 1.5))), SideBySide(open_session(Request(PLAN)), plan)]
    for model in models:
        for item in document_differences(model.first, model.second).found:
            model.jump(item)
            for side, place in zip((item.first, item.second), model.places, strict=True):
                if side is None:
                    assert place is None
                elif item.name not in (
                    "waiting for moves",
                    "missing",
                    "Communication",
                    "Communication(Not Overlapped)",
                ):
                    assert place is not None or side.total == 0 or item.group is AbGroup.TIER


def test_unlinked_documents_jump_each_for_itself() -> None:
    model = SideBySide(profile(), profile())
    model.link.on = False
    model.second.viewport.show(0.0, 50.0)
    item = next(item for item in document_differences(model.first, model.second).found if item.group is AbGroup.TYPE)
    model.jump(replace(item, second=None))
    assert model.places[1] is None
    assert window(model.second.viewport) == (0.0, 50.0)
    assert model.first.selected is not None
    assert model.second.selected is None


# -- real and damaged profiles -----------------------------------------------------------------------------------


def test_two_ranks_of_one_run(shared_data: Path) -> None:
    path = shared_data / "profiles" / "alexnet-ddp-2rank" / "text" / "level2"
    model = SideBySide(profile(path, 0), profile(path, 1))
    assert model.link.offset == float(model.first.origin_ns - model.second.origin_ns)
    found = document_differences(model.first, model.second)
    reduce = of(found, AbGroup.COMMUNICATION, "hcom_allReduce__271_0_1")
    tables = [session.document.rank.kernels() for session in (model.first, model.second)]
    times = [int(table.duration_ns[list(table.name).index(reduce.name)]) for table in tables if table is not None]
    assert reduce.delta == times[1] - times[0] < -2_000_000
    assert all("hcom" not in item.name for item in found.found if item.group is AbGroup.KERNEL)
    assert of(found, AbGroup.STEP, "step 50").first == AbAmount(None, 129_862_875)
    model.jump(reduce)
    for session, place in zip((model.first, model.second), model.places, strict=True):
        assert place is not None
        assert place.track is not None
        assert session.tracks.track(place.track).kind == "communication"
    assert model.link.offset == float(model.first.origin_ns - model.second.origin_ns)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("alexnet-ddp-2rank/text/level0", "alexnet-ddp-2rank/db/level2"),
        ("mindspore-alexnet-2023", "alexnet-ddp-2rank/db/level0"),
        ("qwen3-0.6b-train-4rank", "gpt3-2023-handcut"),
        ("cluster-16rank", "qwen3-0.6b-train-4rank"),
        ("msprof-analyze-fixtures", "msprof-cli-metric-sets"),
    ],
)
def test_profiles_of_any_two_kinds(shared_data: Path, first: str, second: str) -> None:
    model = SideBySide(profile(shared_data / "profiles" / first), profile(shared_data / "profiles" / second))
    found = document_differences(model.first, model.second)
    assert found.found
    for item in found.found[::5]:
        model.jump(item)
    assert len(differences_sheet(found.found).rows) == len(found.found)


def test_damaged_profiles_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(PROFILE, broken)
    for table in broken.rglob("*.csv"):
        raw = table.read_bytes()
        table.write_bytes(raw[: len(raw) // 2] + b"\xff\x00,,\n" + raw[: len(raw) // 7])
    for trace in broken.rglob("trace_view.json"):
        trace.write_bytes(trace.read_bytes()[: trace.stat().st_size // 3])
    model = SideBySide(profile(), profile(broken))
    found = document_differences(model.first, model.second)
    assert found.found
    for item in found.found:
        model.jump(item)
