"""Pieces of work keep their order, whatever number of threads does them."""

from __future__ import annotations

import threading

import pytest

from memplan.core.workers import JOBS_VARIABLE, in_threads


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_results_come_in_the_order_of_the_pieces(jobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOBS_VARIABLE, jobs)
    seen = list(in_threads(lambda piece: (piece, threading.current_thread() is threading.main_thread()), range(20)))
    assert [piece for piece, _ in seen] == list(range(20))
    assert all(here for _, here in seen) == (jobs == "1")
