"""What a step function reaches through what it names."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from memplan.readers.named_objects import named_objects


class Weights:
    """What a step works on."""


WEIGHTS, OTHER = Weights(), Weights()


def helper(value: int) -> object:
    return [WEIGHTS for _ in range(value)]


def step(value: int) -> object:
    return helper(value)


def unrelated() -> object:
    return OTHER


class Trainer:
    """An object that holds what its method works on."""

    def __init__(self) -> None:
        self.inner = Weights()

    def loss(self) -> object:
        return self.inner

    def step(self) -> object:
        return self.loss()


def found(source: Any) -> list[object]:
    return [value for value in named_objects(source).values() if isinstance(value, Weights)]


def test_helpers_and_what_is_inside_comprehensions_are_followed() -> None:
    assert found(step) == [WEIGHTS]
    assert found(functools.partial(step, 2)) == [WEIGHTS]
    assert found(functools.wraps(step)(lambda value: step(value))) == [WEIGHTS]
    assert found(unrelated) == [OTHER]


def test_an_object_that_a_function_names_is_looked_into() -> None:
    trainer, held = Trainer(), SimpleNamespace(weights=WEIGHTS, parts={"more": [OTHER]})
    assert found(trainer.step) == [trainer.inner]
    assert found(lambda: trainer.step()) == [trainer.inner]
    assert found(lambda: held) == [WEIGHTS, OTHER]


def test_equal_names_are_told_apart_by_their_holders() -> None:
    first, second = SimpleNamespace(weights=WEIGHTS), SimpleNamespace(weights=OTHER)
    names = {name for name, value in named_objects(lambda: (first, second)).items() if isinstance(value, Weights)}
    assert names == {"weights", "second.weights"}


def test_circles_and_what_is_not_bound_yet_end() -> None:
    held = SimpleNamespace()
    held.own = held

    def early() -> object:
        return late, held

    assert "held" in named_objects(early)
    late = 1


def test_packages_that_are_installed_are_not_searched() -> None:
    assert named_objects(functools.reduce) == {}
    assert not any(name == "_initial_missing" for name in named_objects(functools.singledispatch))
