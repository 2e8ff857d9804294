"""What tools/compare_outputs.py calls a difference."""

from __future__ import annotations

from compare_outputs import COMMANDS, decoded, differences, reason


def test_json_is_compared_by_key_and_other_text_by_line() -> None:
    assert dict(decoded('{"a": {"b": [1, {"c": null}]}, "d": []}', "out")) == {
        "out:.a.b.0": 1,
        "out:.a.b.1.c": None,
        "out:.d": [],
    }
    assert dict(decoded("peak 3 MiB\nfits", "out")) == {"out:line 1": "peak 3 MiB", "out:line 2": "fits"}


def test_what_is_gone_new_or_of_another_type_differs() -> None:
    base = {"same": 1, "gone": 2, "type": 1, "value": "a"}
    new = {"same": 1, "type": 1.0, "value": "b", "new": None}
    assert [key for key, _ in differences(base, new)] == ["gone", "type", "value", "new"]


def test_an_intended_difference_needs_command_and_key() -> None:
    intended = [{"command": "plan*", "key": "out:.ops.*.launches", "reason": "said by the plan now"}]
    assert reason("plan-910b4", "out:.ops.17.launches", intended) == "said by the plan now"
    assert reason("show", "out:.ops.17.launches", intended) is None
    assert reason("plan", "out:.ops.17.bound", intended) is None


def test_enough_commands_are_compared() -> None:
    kinds = {command.split(" ")[0] for command in COMMANDS.values()}
    assert len(COMMANDS) >= 20
    assert kinds >= {"plan", "graph", "pack", "import", "show", "compare", "profile", "ranks", "kv", "fit", "step"}
    assert kinds >= {"train-memory", "op", "chips", "calibrate", "export", "simulate"}
