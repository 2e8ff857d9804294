"""Real kernels are shown in the words of the model that ran: in labels, hover, details and search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.gui.model.details.details import item_sections
from memplan.gui.model.document import Document, make_document
from memplan.gui.model.kernels_of_slices import kernels_of_slices
from memplan.gui.model.model_places import ModelPlaces
from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.model.slices.slice_search import search_slices
from memplan.gui.model.slices.slice_text import slice_lines
from memplan.simulator import Behaviour, simulate
from memplan.traces.profile import Slices
from memplan.traces.readers.host_ops import host_kernels
from tests.align.simulated_runs import model_plans

PLACE = "layers.2.o_proj, forward, micro-batch 1"


@pytest.fixture(scope="module")
def document(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Document:
    plan = model_plans(shared_data / "configs")["qwen3 PP2 DP2"]
    folder = simulate(plan, tmp_path_factory.mktemp("run") / "run", behaviour=Behaviour(hidden_names=True), seed=2)
    return make_document(plan, memplan.open_profile(folder))


@pytest.fixture
def session(document: Document) -> Session:
    session = Session(document)
    for track in session.tracks.all:
        session.tracks.load(track)
    return session


def places_of(document: Document) -> ModelPlaces:
    assert document.places is not None
    return document.places


def kernel_slice(session: Session) -> SliceRef:
    """The slice of a kernel whose name says nothing of its place."""
    hits = search_slices(session.tracks, "layers.2.o_proj, forward, micro-batch 1", document=session.document)
    measured = [
        hits.item(row) for row in range(len(hits)) if session.tracks.track(hits.item(row).track).planned is None
    ]
    assert len(measured) == 1
    return measured[0]


def test_a_kernel_is_found_by_its_place(session: Session) -> None:
    item = kernel_slice(session)
    lanes = session.tracks.lanes(session.tracks.track(item.track))
    assert lanes is not None
    assert lanes.slices.names[lanes.slices.name[item.index]].startswith("aclnnMatMul")
    # Without places there is nothing of that name on a measured track.
    hits = search_slices(session.tracks, PLACE)
    assert all(session.tracks.track(hits.item(row).track).planned is not None for row in range(len(hits)))


def test_hover_and_details_say_the_place_and_the_planned_op(session: Session) -> None:
    item = kernel_slice(session)
    assert slice_lines(session, item)[0] == PLACE
    facts = {str(fact.label): str(fact.value) for section in item_sections(session, item) for fact in section.facts}
    assert facts["place"] == PLACE
    assert facts["op"].endswith("layers.2.o_proj")
    assert "predicted" in facts
    assert "measured" in facts


def test_labels_are_places(session: Session) -> None:
    item = kernel_slice(session)
    track = session.tracks.track(item.track)
    lanes = session.tracks.lanes(track)
    assert lanes is not None
    labels = places_of(session.document).labels(track.kind, lanes.slices, np.array([item.index], dtype=np.int64))
    assert list(labels) == [PLACE]


def test_slices_that_are_no_kernels_have_no_place(session: Session) -> None:
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is not None and track.kind == "host":
            assert (kernels_of_slices(places_of(session.document).kernels, track.kind, lanes.slices) == -1).all()


def test_a_slice_is_the_kernel_with_its_start_and_length_as_texts_round_them() -> None:
    """Went wrong once: of a real trace whose lengths are a nanosecond longer some kernels were none."""
    starts, lengths = [1000, 1000, 5000, 9000], [700, 40, 300, 20]
    table = host_kernels(starts, lengths, [0] * 4, ["a", "b", "c", "d"], ["Mul"] * 4, ["3"] * 4, ["N/A"] * 4)
    asked = [(1000, 40), (1000, 700), (1001, 701), (5000, 301), (5000, 302), (5002, 300), (9001, 20), (20_000, 20)]
    zeros = np.zeros(len(asked), dtype=np.int32)
    start, took = (np.array(side, dtype=np.int64) for side in zip(*asked, strict=True))
    slices = Slices(start, took, zeros, zeros.astype(np.int16), zeros, ["other"], [""])
    assert kernels_of_slices(table, "stream", slices).tolist() == [1, 0, 0, 2, -1, -1, 3, -1]
    assert kernels_of_slices(table, "stream", slices, np.array([6])).tolist() == [3]
    assert (kernels_of_slices(table, "host", slices) == -1).all()
