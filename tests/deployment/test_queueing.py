"""Waiting: exact formulas of special queues."""

from __future__ import annotations

import math

import pytest

from memplan.deployment.queueing import Queue


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    # M/D/1: W = rho S / (2 (1 - rho)); M/M/1: rho S / (1 - rho).
    assert Queue(1, 0.5, 1.0).mean_wait == pytest.approx(0.5)
    assert Queue(1, 0.5, 1.0, variability=1.0).mean_wait == pytest.approx(1.0)


def test_the_tail_of_one_server_is_exact_for_exponential_service() -> None:
    queue = Queue(1, 0.8, 1.0, variability=1.0)
    for part in (0.5, 0.9, 0.99):
        assert 0.8 * math.exp(-0.2 * queue.wait(part)) == pytest.approx(1 - part)


def test_two_servers_wait_as_erlang_says() -> None:
    # M/M/2 with a = 1: the chance of waiting is 1/3.
    assert Queue(2, 1.0, 1.0).waits == pytest.approx(1 / 3)


def test_nothing_waits_where_few_do() -> None:
    assert Queue(4, 0.1, 1.0).wait(0.9) == 0


def test_too_much_waits_for_ever() -> None:
    assert Queue(2, 2.0, 1.0).mean_wait == math.inf
    assert Queue(2, 2.5, 1.0).wait(0.5) == math.inf
