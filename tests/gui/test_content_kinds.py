"""The window opens a file as what it is, not as what it is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from memplan.core.errors import InputError
from memplan.core.progress import silent
from memplan.gui.model.compare.ab_differences import AmountUnit
from memplan.gui.model.compare.ab_plan import plan_ledgers
from memplan.gui.model.details.details import overview
from memplan.gui.model.kernel.kernel_subject import costliest
from memplan.gui.model.session.open_request import (
    Request,
    open_session,
    remarks_on,
    request_for,
    requests_for,
    wants_chip,
)
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PLAN, PROFILE, SAMPLES

READERS = Path(__file__).parents[1] / "readers" / "data"
STATIC = "Op Name,Node Index Start,Node Index End,Size(KB)\na,0,1,4\nb,1,2,8\n"
GE = (
    "[INFO] GE(1,atc): [IMAS]Set g name[a] optype[Relu] output[0] offset to [0] streamid[0] memtype[2] size[512] "
    "realsize[512] noalignsize[500] life time begin[1] life time end[3] child[0:0:0:0:0] isref[0] batch[]\n"
)
CACHE = {
    "graph_id": 0,
    "reused_memory_size": 512,
    "tensors": [
        {"tensor_id": number, "size": 512, "ori_size": 9, "lifelong_value": 0, "life_start": 0, "life_end": 1,
         "offset": 0}
        for number in range(2)
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "form"), [("run.zip", "zip"), ("run.tar.gz", "gztar"), ("RUN.TGZ", "gztar"), ("run.tar", "tar")]
)
def test_archives_of_profiles_open_as_profiles(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: of an archive the folder around it was opened, or it was read as a graph."""
    monkeypatch.setenv("MEMPLAN_CACHE_DIR", str(tmp_path / "cache"))
    file = Path(shutil.make_archive(str(tmp_path / "packed"), form, PROFILE)).rename(tmp_path / name)
    request = request_for([file])
    assert (request.plan, request.profile) == (None, file)
    document = open_session(request).document
    assert document.profile is not None
    assert document.profile.ranks == [0]
    assert document.rank is not None
    assert len(document.rank.kernels() or ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("static_op_mem.csv", STATIC),
        ("plog-1.txt", GE),
        ("plog-1.log", GE),
        ("somas_graph.json", json.dumps(CACHE)),
        ("dump.txt", (READERS / "somas_cnn.ir").read_text()),
        ("actors.ir", (READERS / "actor_set_cnn.ir").read_text()),
    ],
)
def test_plans_of_other_planners_open_as_plans(name: str, content: str, tmp_path: Path) -> None:
    """Went wrong once: the window told files by their suffix: tables and caches were opened as profiles."""
    file = tmp_path / name
    file.write_text(content)
    request = request_for([file], Request(chip="910B3"))
    assert (request.plan, request.profile) == (file, None)
    assert not wants_chip(request)
    session = open_session(request)
    plan = session.document.plan
    assert plan is not None
    assert not plan.timed
    said = [line for line in remarks_on(session) if str(line.text).startswith("not valid: ")]
    assert all(line.lost for line in said)
    assert len(said) == len(plan.violations)
    assert bool(said) == (name == "somas_graph.json")


def test_a_graph_is_a_graph_whatever_its_name(tmp_path: Path) -> None:
    for name in ("graph.json", "graph.txt", "graph.csv"):
        file = tmp_path / name
        shutil.copy(SAMPLES / "cnn.mindir", file)
        assert wants_chip(request_for([file]))
    session = open_session(Request(file, chip="910B3"))
    assert session.document.plan is not None
    assert session.document.plan.timed


def test_a_dump_is_planned_anew_only_for_a_chip_that_is_asked_for() -> None:
    session = open_session(Request(READERS / "somas_cnn.ir", chip="910B3"))
    assert session.document.plan is not None
    assert session.document.plan.chip == "Ascend910B3"


def test_a_plan_of_any_name_goes_with_the_file_of_a_profile(tmp_path: Path) -> None:
    plan = tmp_path / "plan.txt"
    shutil.copy(PLAN, plan)
    (table,) = PROFILE.rglob("kernel_details.csv")
    assert requests_for([plan, table]) == [Request(plan, table.parent)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("calibration.json", '{"format": "memplan calibration", "version": 1}', "a calibration"),
        ("config.json", '{"model_type": "llama", "hidden_size": 8}', "config.json"),
        ("notes.txt", "nothing known", "no known kind"),
    ],
)
def test_what_is_neither_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    """Went wrong once: by their suffix a calibration was a profile and any text a graph."""
    file = tmp_path / name
    file.write_text(content)
    request = request_for([file])
    assert request.profile is None
    assert not wants_chip(request)
    with pytest.raises(InputError, match=said):
        open_session(request)


def test_a_file_that_is_not_there_is_said_when_it_is_opened(tmp_path: Path) -> None:
    request = request_for([tmp_path / "missing.json"])
    with pytest.raises(InputError, match="can't be read"):
        open_session(request)


def test_a_plan_without_times_is_shown_and_compared_without_any() -> None:
    foreign, ours = (open_session(Request(path)) for path in (READERS / "somas_cnn.ir", PLAN))
    said = {str(fact.label) for section in overview(foreign) for fact in section.facts}
    assert "predicted time" not in said
    assert AmountUnit.TIME not in {ledger.measure for ledger in plan_ledgers(foreign, ours)}
    assert AmountUnit.TIME in {ledger.measure for ledger in plan_ledgers(ours, ours)}


def test_a_plan_without_times_counts_its_steps(shared_data: Path) -> None:
    """Went wrong once: its steps were told as nanoseconds, on the ruler and wherever a length is said."""
    table = shared_data / "profiles/gpt3-2023-handcut/test_rank_1/ASCEND_PROFILER_OUTPUT/static_op_mem.csv"
    session = open_session(Request(table))
    assert session.counted == "step"
    assert str(session.length_text(1)) == "1 step"
    assert str(session.moment_text(12)) == "step 12"
    facts = [fact for section in overview(session) for fact in section.facts]
    assert "steps of the plan: it has no times" in [str(fact.value) for fact in facts]
    assert costliest(session) is None


def test_a_history_without_times_tells_the_peak_by_its_event(shared_data: Path) -> None:
    session = open_session(Request(None, shared_data / "snapshots" / "snapshot_expandable.pkl"))
    session.keep_blocks(session.find_blocks(silent))
    at = next(str(fact.value) for section in overview(session) for fact in section.facts if str(fact.label) == "at")
    assert at.startswith("event ")


def test_a_profile_that_holds_nothing_says_so(qtbot: QtBot, tmp_path: Path) -> None:
    """Went wrong once: nothing was found in it, as if somebody had looked."""
    folder = tmp_path / "cut_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    folder.mkdir(parents=True)
    (folder / "kernel_details.csv").write_text("Step Id,Name,Type,Start Time(us),Duration(us)\n")
    window = MainWindow(open_session(Request(None, folder.parent)), background=False)
    qtbot.addWidget(window)
    window.show()
    window.show_page("overview")
    QApplication.processEvents()
    assert "neither slices nor kernels nor memory" in window.docks.view(OverviewView).said.text()
    window.close()
