"""The KV budget: from what is set to pools and the stack of HBM, as the command line says it, and driven by hand."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QWheelEvent
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget
from typer.testing import CliRunner

from memplan.cli.app import app
from memplan.cli.kv import budget_document
from memplan.errors import InputError
from memplan.gui.model.kv_budget import answer, answers, headline, stack, warnings
from memplan.gui.model.kv_choice import (
    SAMPLE,
    KvChoice,
    batch_steps,
    chip_names,
    context_steps,
    doubled,
    engine_versions,
    offer,
)
from memplan.gui.model.kv_colours import cache_colour, stack_colours
from memplan.gui.model.kv_further import fitting_text, further, further_lines
from memplan.gui.model.kv_labels import spread
from memplan.gui.model.kv_sheet import budget_sheet
from memplan.gui.model.palette import load_palette, palette_names, theme_names
from memplan.gui.views.kv_budget import KvBudgetView
from memplan.hardware import chip
from memplan.kv import engine

pytestmark = pytest.mark.gui

EVERYTHING = KvChoice(
    SAMPLE, "910_9382", "vllm-ascend-0.23.0.post1-a3", tp=4, pp=2, dp=2, context=4096, batch=3, block_size=64,
    batched_tokens=4096, step_sequences=64, asynchronous=True, weights="w8a8", utilization=0.85, hbm="60GiB",
    activations="3GiB", graphs="1GiB", hccl_buffer_mb=300, host_memory="64GiB", pooled_memory="1TiB", effects=True,
)  # fmt: skip
CHOICES = {
    "sample": KvChoice(SAMPLE),
    "everything": EVERYTHING,
    "logical": KvChoice(SAMPLE, engine="logical", context=100_000, batch=64),
    "mindie": KvChoice(SAMPLE, engine="mindie-atb"),
    "too small": KvChoice(SAMPLE, hbm="24GiB", batch=2),
    "does not start": KvChoice(SAMPLE, hbm="16GiB"),
    "contexts": KvChoice(SAMPLE, engine="vllm", chip="910B3", cp=2, context=5000),
}


def printed(command: str) -> tuple[int, dict[str, Any]]:
    """What the command line answers to `command`, as a document."""
    words = shlex.split(command)
    assert words[0] == "memplan"
    done = CliRunner().invoke(app, [*words[1:], "--json"], standalone_mode=False)
    return done.return_value, json.loads(done.stdout)


def plain(document: dict[str, Any]) -> Any:
    """A document as JSON gives it back."""
    return json.loads(json.dumps(document))


# -- the model, without a window -------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_command_prints_the_same_budget(choice: KvChoice) -> None:
    result = answer(choice).result
    code, document = printed(choice.command)
    assert code == (0 if result.fits else 1)
    more = further(choice)
    assert document.pop("longest_context", {}).get("tokens", more.longest) == more.longest
    assert {name: tier["tokens"] for name, tier in document.pop("tiers", {}).items()} == {
        name: tier.tokens for name, tier in more.tiers.items()
    }
    assert document.pop("recompute_ns", None) == more.recompute_ns
    assert [item["value"] for item in document.pop("effects", [])] == [effect.value for effect in more.effects]
    assert document == plain(budget_document(result))


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_stack_goes_from_the_card_to_free_blocks(choice: KvChoice) -> None:
    found = answer(choice)
    parts, card = stack(found), found.result.items[0].nbytes
    assert card is not None
    assert parts[0].name == "driver"
    names = [part.name for part in parts]
    assert names.index("activations") > max(place for place, name in enumerate(names) if name == "weights")
    assert names.index("KV cache") > names.index("workspace")
    total = sum(part.nbytes for part in parts)
    assert total == card if found.result.available_bytes else total >= card
    cache = sum(part.nbytes for part in parts if part.role in ("kv", "free") or part.name == "in no block")
    assert cache == found.result.available_bytes


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_pool_adds_up(choice: KvChoice) -> None:
    found = answer(choice)
    pool, result = found.pool, found.result
    assert pool.sequence.total == result.pool.blocks_per_request * result.pool.planned_per_block
    assert pool.sequence.waste == (result.waste_bytes if pool.shares else 0)
    for share in pool.shares:
        assert share.block.total == result.pool.planned_per_block
        assert 0 < share.filled <= 1
    assert pool.fit == max(0, pool.blocks - pool.null_blocks) // pool.blocks_per_sequence
    assert (pool.missing > 0) == (pool.batch > pool.fit)
    assert found.enough == (result.fits and not pool.missing)


def test_the_headline_says_how_many_fit_or_what_is_missing() -> None:
    fits = answer(KvChoice(SAMPLE, batch=4))
    assert headline(fits).plain() == f"Fits: 4 × 32,768 tokens wanted, room for {fits.result.sequences}"
    more = answer(KvChoice(SAMPLE, batch=fits.result.sequences + 1))
    assert headline(more).plain().startswith("Does not fit: ")
    small = answer(KvChoice(SAMPLE, hbm="16GiB"))
    assert "missing for the engine to start" in headline(small).plain()


def test_what_is_likely_not_meant_is_said() -> None:
    found = answer(KvChoice(SAMPLE, context=200_000, batch=300))
    said = " ".join(words.plain() for words in warnings(found))
    assert "200,000 tokens are more than the model's own 131,072" in said
    assert "300 sequences are more than the 256 of one step" in said


def test_the_layout_that_would_fit_has_room_and_half_of_its_ranks_has_none() -> None:
    choice = KvChoice(SAMPLE, context=131072, batch=8)
    fitting = further(choice).fitting
    assert fitting is not None
    assert answer(fitting).enough
    assert not answer(replace(fitting, tp=fitting.tp // 2)).enough
    assert fitting_text(fitting) == f"TP {fitting.tp}"
    assert further(fitting).fitting is None


def test_the_longest_context_of_the_batch_fits_and_one_token_more_does_not() -> None:
    choice = KvChoice(SAMPLE, batch=20)
    longest = further(choice).longest
    assert answer(replace(choice, context=longest)).enough
    assert not answer(replace(choice, context=longest + 128)).enough
    lines = [line.label.plain() for line in further_lines(further(EVERYTHING), 131072)]
    assert lines[0] == "longest for 3 at once"
    assert "block size 64: sequences" in lines


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (KvChoice(SAMPLE.with_name("none.json")), "none.json"),
        (KvChoice(SAMPLE, chip="910X"), "910X"),
        (KvChoice(SAMPLE, engine="vllm-ascend", chip="310P3"), "is not known for"),
        (KvChoice(SAMPLE, tp=3), "3"),
        (KvChoice(SAMPLE, pp=64), "64"),
        (KvChoice(SAMPLE, hbm="much"), "much"),
        (KvChoice(SAMPLE, draft_tokens=1), "multi-token prediction"),
        (KvChoice(SAMPLE, ep=8), "expert parallelism"),
        (KvChoice(SAMPLE, kv_dtype="int3"), "int3"),
    ],
)
def test_what_can_not_be_used_is_refused_in_a_line(choice: KvChoice, said: str) -> None:
    with pytest.raises(InputError, match=said):
        answer(choice)


def test_only_what_the_model_and_the_engine_take_is_offered() -> None:
    found = offer(KvChoice(SAMPLE))
    assert found.positions == 131072
    assert found.engine == "vllm-ascend-0.23.0.post1-a2"
    assert found.default_kv in found.kv_types
    assert [found.has_drafts, found.has_indexer, found.has_experts] == [False] * 3
    for kind in found.kv_types:
        answer(KvChoice(SAMPLE, kv_dtype=kind))
    for size in found.block_sizes:
        answer(KvChoice(SAMPLE, block_size=size))


def test_every_chip_and_engine_that_is_offered_is_known() -> None:
    for name, shown in chip_names():
        assert chip(name).hbm_bytes
        assert shown.startswith(name)
    for rows in engine_versions().values():
        for name, _ in rows:
            assert engine(name, chip("910B3"))


def test_sliders_stop_at_round_numbers_and_at_the_models_own_context() -> None:
    assert {1024, 32768, 40960, 131072, 1 << 20} <= set(context_steps(40960))
    assert context_steps(10_000_000)[-1] == 10_000_000
    for steps in (context_steps(40960), batch_steps()):
        assert steps == sorted(set(steps))
    assert batch_steps()[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 10]


@given(st.integers(1, 1024), st.integers(-12, 12))
def test_doubling_keeps_to_powers_of_two_and_the_limits(value: int, times: int) -> None:
    found = doubled(value, times, low=1, high=1024)
    assert 1 <= found <= 1024
    if times:
        assert found & (found - 1) == 0


@given(st.lists(st.floats(0, 500), min_size=1, max_size=20), st.floats(5, 30))
def test_labels_keep_their_order_and_distance(centres: list[float], height: float) -> None:
    centres.sort()
    rows = spread(centres, height, 0, 500)
    assert len(rows) == len(centres)
    assert all(later - earlier >= height * 0.999 for earlier, later in itertools.pairwise(rows))
    if len(rows) * height <= 500:
        assert rows[0] >= height / 2 - 1e-6
        assert rows[-1] <= 500 - height / 2 + 1e-6


def test_the_cache_has_a_colour_of_its_own_in_every_palette() -> None:
    for theme in theme_names():
        for name in palette_names():
            palette = load_palette(theme, name)
            colours = stack_colours(palette)
            assert colours["kv"] == cache_colour(palette)
            assert colours["kv"] not in [
                colour for role, colour in colours.items() if role not in ("kv", "communication")
            ]


def test_the_sheet_holds_the_choice_the_memory_and_the_answers() -> None:
    found = answer(EVERYTHING)
    rows = budget_sheet(found, further(EVERYTHING)).rows
    assert ("choice", "", "tp", 4, "", "") in rows
    assert [row[3] for row in rows if row[0] == "memory"] == [item.nbytes for item in found.result.items]
    assert ("answer", "", "sequences", found.result.sequences, "sequences", "") in rows
    assert {row[1] for row in rows if row[0] == "tier"} >= {"host", "pool"}
    assert any(row[0] == "effect" for row in rows)
    assert all(len(row) == 6 for row in rows)


def test_published_models_add_up_too(shared_data: Path) -> None:
    for path in sorted((shared_data / "configs").glob("*.json"))[::5]:
        for name in ("vllm-ascend", "logical"):
            found = answer(KvChoice(path, tp=8, engine=name))
            assert found.pool.sequence.waste == (found.result.waste_bytes if found.pool.shares else 0), path.name
            assert answers(found)


# -- the view, driven by hand ----------------------------------------------------------------------------------------


@pytest.fixture
def make(qtbot: Any) -> Callable[..., KvBudgetView]:
    """A view as it opens, shown."""

    def made(*given: Any, size: tuple[int, int] = (1400, 500), **named: Any) -> KvBudgetView:
        view = KvBudgetView(load_palette(), None, *given, **named)
        qtbot.addWidget(view)
        view.resize(*size)
        view.show()
        qtbot.waitExposed(view)
        return view

    return made


@pytest.fixture
def view(make: Callable[..., KvBudgetView]) -> KvBudgetView:
    """The view as it opens."""
    return make()


def type_into(qtbot: Any, field: QWidget, text: str) -> None:
    """Replace the text of a field."""
    field.setFocus()
    qtbot.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClicks(field, text)


def test_it_opens_on_the_sample(view: KvBudgetView) -> None:
    assert view.found is not None
    assert view.found.choice.config == SAMPLE
    assert "Fits: 4 × 32,768 tokens wanted" in view.verdict.text()
    assert view.stack.segments == stack(view.found)
    assert "bytes per token" in view.figures.text()


def test_context_and_batch_follow_the_arrow_keys_at_once(view: KvBudgetView, qtbot: Any) -> None:
    assert view.found is not None
    before = view.found.result.sequences
    for _ in range(4):
        qtbot.keyClick(view.form.context.slider, Qt.Key.Key_Left)
    assert view.form.context.value() == 24576
    assert view.found.result.context == view.form.context.value()
    assert view.found.result.sequences > before
    qtbot.keyClick(view.form.context.slider, Qt.Key.Key_End)
    assert view.found.result.context == 1 << 20
    assert "more than the model's own" in view.notes.text()
    assert "Does not fit" in view.verdict.text()
    qtbot.keyClick(view.form.context.slider, Qt.Key.Key_Home)
    assert view.found.result.context == 1024
    qtbot.keyClick(view.form.batch.slider, Qt.Key.Key_End)
    assert view.found.pool.batch == 4096


def test_numbers_between_the_stops_can_be_typed(view: KvBudgetView, qtbot: Any) -> None:
    type_into(qtbot, view.form.context.field, "5000")
    assert view.found is not None
    assert view.found.result.context == 5000
    share = view.found.pool.shares[0]
    assert share.last == 5000 % 128
    assert view.form.context.slider.value() in range(1, view.form.context.slider.maximum())


def test_ranks_double_and_weights_and_chips_are_chosen_by_key(view: KvBudgetView, qtbot: Any) -> None:
    assert view.found is not None
    before = view.found.result.sequences
    qtbot.keyClick(view.form.ranks["tp"], Qt.Key.Key_Up)
    qtbot.keyClick(view.form.ranks["tp"], Qt.Key.Key_Up)
    assert view.found.choice.tp == 4
    assert view.found.result.sequences > before
    qtbot.keyClick(view.form.ranks["tp"], Qt.Key.Key_Down)
    assert view.found.choice.tp == 2
    card = view.found.result.items[0].nbytes
    qtbot.keyClicks(view.form.chip, "910B4")
    assert view.found.choice.chip == "910B4"
    assert view.found.result.items[0].nbytes != card
    weights = sum(part.nbytes for part in view.stack.segments if part.role == "weight")
    qtbot.keyClicks(view.form.weights, "w8a8")
    assert sum(part.nbytes for part in view.stack.segments if part.role == "weight") < weights
    before = view.found.result.bytes_per_token
    qtbot.keyClick(view.form.kv, Qt.Key.Key_End)
    assert view.found.choice.kv_dtype == view.form.kv.currentText()
    assert view.found.result.bytes_per_token <= before


def test_an_engine_has_its_versions_and_the_chip_settles_one(view: KvBudgetView, qtbot: Any) -> None:
    assert view.form.version.currentText() == "for the chip: 0.23.0.post1-a2"
    qtbot.keyClick(view.form.version, Qt.Key.Key_End)
    assert view.found is not None
    assert view.found.result.engine == "vllm-ascend-0.23.0.post1-a5"
    qtbot.keyClicks(view.form.engine, "logical")
    assert view.found.result.engine == "logical"
    assert not view.form.version.isEnabled()
    assert not view.found.pool.shares
    qtbot.keyClick(view.form.engine, Qt.Key.Key_End)
    assert view.found.result.engine == "vllm-ascend-0.23.0.post1-a2"


def test_more_holds_every_other_option(view: KvBudgetView, qtbot: Any) -> None:
    assert not view.form.more.isVisible()
    qtbot.mouseClick(view.form.more_button, Qt.MouseButton.LeftButton)
    assert view.form.more.isVisible()
    assert view.found is not None
    type_into(qtbot, view.form.sizes["hbm"], "48GiB")
    assert view.found.result.items[0].nbytes == 48 << 30
    assert "48.00 GiB" in view.stack.title
    qtbot.keyClick(view.form.counts["step_sequences"], Qt.Key.Key_Up)
    assert view.found.choice.step_sequences == 512
    qtbot.keyClick(view.form.counts["block_size"], Qt.Key.Key_Up)
    assert view.found.choice.block_size == 16
    assert view.found.pool.shares[0].tokens == 16
    qtbot.keyClick(view.form.counts["block_size"], Qt.Key.Key_Down)
    assert view.found.choice.block_size is None
    qtbot.keyClick(view.form.flags["effects"], Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: "block size 64" in view.figures.text(), timeout=5000)
    assert not view.form.counts["draft_tokens"].isEnabled()
    assert not view.form.flags["index_c8"].isEnabled()
    assert not view.form.ranks["ep"].isEnabled()


def test_a_size_that_is_none_is_a_line_until_it_is_mended(view: KvBudgetView, qtbot: Any) -> None:
    qtbot.mouseClick(view.form.more_button, Qt.MouseButton.LeftButton)
    type_into(qtbot, view.form.sizes["graphs"], "x")
    assert view.found is None
    assert "is not a size" in view.verdict.text()
    assert not view.copy_button.isEnabled()
    type_into(qtbot, view.form.sizes["graphs"], "1GiB")
    assert view.found is not None
    assert view.copy_button.isEnabled()


def test_the_copied_command_prints_what_is_shown(view: KvBudgetView, qtbot: Any) -> None:
    qtbot.keyClick(view.form.ranks["tp"], Qt.Key.Key_Up)
    qtbot.keyClick(view.form.context.slider, Qt.Key.Key_PageDown)
    qtbot.keyClicks(view.form.weights, "w8a8")
    qtbot.mouseClick(view.copy_button, Qt.MouseButton.LeftButton)
    assert view.found is not None
    command = QGuiApplication.clipboard().text()
    assert command == view.found.choice.command
    _, document = printed(command)
    assert document.pop("longest_context")["sequences"] == 4
    assert document == plain(budget_document(view.found.result))


def test_the_layout_that_would_fit_is_a_key_away(view: KvBudgetView, qtbot: Any) -> None:
    qtbot.keyClick(view.form.batch.slider, Qt.Key.Key_PageUp)
    qtbot.keyClick(view.form.context.slider, Qt.Key.Key_PageUp)
    assert "Does not fit" in view.verdict.text()
    qtbot.waitUntil(lambda: "use TP" in view.verdict.text(), timeout=5000)
    view.verdict.setFocus()
    qtbot.keyClick(view.verdict, Qt.Key.Key_Tab)
    qtbot.keyClick(view.verdict, Qt.Key.Key_Return)
    assert view.found is not None
    assert view.found.enough
    assert view.form.ranks["tp"].value() > 1
    assert "use TP" not in view.verdict.text()


def test_longest_context_follows_when_nothing_changes_for_a_moment(view: KvBudgetView, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: "longest for 4 at once" in view.figures.text(), timeout=5000)
    qtbot.keyClick(view.form.batch.slider, Qt.Key.Key_Right)
    assert "longest for" not in view.figures.text()
    qtbot.waitUntil(lambda: "longest for 5 at once" in view.figures.text(), timeout=5000)


def test_a_model_is_opened_kept_and_chosen_again(
    make: Callable[..., KvBudgetView], qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name / "config.json" for name in ("one", "two")]
    for path, layers in zip(paths, (8, 16), strict=True):
        path.parent.mkdir()
        path.write_text(SAMPLE.read_text("utf-8").replace('layers": 32', f'layers": {layers}'), encoding="utf-8")
    view = make(models=[paths[0], tmp_path / "gone.json"])
    assert [view.form.model.itemText(place) for place in range(view.form.model.count())][1:] == ["one"]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(paths[1]), ""))
    with qtbot.waitSignal(view.model_opened) as opened:
        qtbot.mouseClick(view.form.open_button, Qt.MouseButton.LeftButton)
    assert opened.args == [paths[1]]
    assert view.models == [paths[1], paths[0]]
    assert view.found is not None
    assert len(view.found.case.model.layers) == 16
    qtbot.keyClick(view.form.model, Qt.Key.Key_Down)
    assert len(view.found.case.model.layers) == 8
    shutil.rmtree(paths[1].parent)
    qtbot.keyClick(view.form.model, Qt.Key.Key_Up)
    assert view.found is None
    assert "config.json" in view.verdict.text()


def test_what_is_no_config_is_one_line_and_not_kept(view: KvBudgetView, qtbot: Any, tmp_path: Path) -> None:
    bad = tmp_path / "config.json"
    bad.write_text("{", encoding="utf-8")
    with qtbot.assertNotEmitted(view.model_opened):
        view.show_model(bad)
    assert view.found is None
    assert "config.json: this is not a config.json" in view.verdict.text()
    assert str(tmp_path) not in view.verdict.text()
    assert not view.stack.segments
    assert view.pool.picture is None
    assert view.models == []
    assert view.sheet().rows[0][0] == "error"
    qtbot.keyClick(view.form.model, Qt.Key.Key_End)
    assert view.found is not None


def test_the_mouse_tells_where_a_part_is_from(view: KvBudgetView) -> None:
    for part, box in zip(view.stack.segments, view.stack.rectangles(), strict=True):
        if box.height() > 2:
            assert view.stack.part_at(box.center().x(), box.center().y()) == part
    for part, row in zip(view.stack.segments, view.stack.label_rows(), strict=True):
        assert view.stack.part_at(300, row) == part
    view.pool.grab()
    assert all(spot.text for spot in view.pool.spots)
    assert any("content" in spot.text for spot in view.pool.spots)


def test_the_wheel_scrolls_past_and_turns_what_has_the_focus(view: KvBudgetView) -> None:
    def turn(widget: QWidget) -> None:
        centre = QPointF(widget.rect().center())
        event = QWheelEvent(
            centre, QPointF(widget.mapToGlobal(centre.toPoint())), QPoint(0, 0), QPoint(0, -120),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, event)

    view.form.context.slider.setFocus()
    chosen = view.form.chip.currentIndex()
    turn(view.form.chip)
    assert view.form.chip.currentIndex() == chosen
    view.form.chip.setFocus()
    turn(view.form.chip)
    assert view.form.chip.currentIndex() == chosen + 1


@pytest.mark.parametrize("size", [(1400, 500), (900, 260), (700, 400)])
def test_everything_is_reached_at_every_size(
    make: Callable[..., KvBudgetView], qtbot: Any, size: tuple[int, int]
) -> None:
    view = make(size=size)
    qtbot.mouseClick(view.form.more_button, Qt.MouseButton.LeftButton)
    QApplication.processEvents()
    assert (view.width(), view.height()) == size
    for area in (view.left, view.right):
        content = area.widget()
        assert content.height() <= area.viewport().height() + area.verticalScrollBar().maximum()
        assert content.minimumSizeHint().width() <= area.viewport().width()
    assert view.stack.height() >= view.stack.sizeHint().height()
    assert view.pool.height() >= view.pool.sizeHint().height()
    assert view.copy_button.visibleRegion().boundingRect().height() == view.copy_button.height()


def test_other_colours_are_taken_at_once(view: KvBudgetView) -> None:
    light = view.stack.grab().toImage()
    view.set_palette(load_palette("dark"))
    assert view.stack.grab().toImage() != light
    assert load_palette("dark").css("text").lower() in view.verdict.text().lower()
