"""A storage that was touched in part is held in part."""

from __future__ import annotations

from memplan.cost.l2 import ReuseStack


def test_a_cache_with_a_few_tokens_written_is_not_hot() -> None:
    stack = ReuseStack(1000)
    stack.touch("cache", 10)
    assert stack.held("cache", 10) == 1.0
    assert stack.held("cache", 100) == 0.1
    stack.touch("cache", 100)
    assert stack.held("cache", 100) == 1.0
    assert stack.held("cache", 10) == 1.0
