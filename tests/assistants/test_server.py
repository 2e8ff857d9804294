"""The MCP server, asked by the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.assistants.folders import ReadableFolders
from memplan.core.errors import InputError

SAMPLES = Path(memplan.__file__).parent / "samples"
Ask = Callable[..., tuple[bool, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the bundled files, and a file beside it that nobody may read."""
    named = tmp_path / "named"
    shutil.copytree(SAMPLES, named)
    (tmp_path / "secret.json").write_text('{"password": "wolf"}')
    return named


@pytest.fixture
def ask(folder: Path) -> Ask:
    """Calls a tool of one server; whether it went well, and the text of its answer."""
    client_module = pytest.importorskip("mcp.client")
    from memplan.assistants.server import assistant_server

    server = assistant_server([folder])

    def call(tool: str, **arguments: Any) -> tuple[bool, str]:
        async def talk() -> Any:
            async with client_module.Client(server) as client:
                return await client.call_tool(tool, arguments)

        result = asyncio.run(talk())
        return not result.is_error, "".join(getattr(part, "text", "") for part in result.content)

    return call


def test_tools_are_listed_and_say_that_they_only_read(folder: Path) -> None:
    client_module = pytest.importorskip("mcp.client")
    from memplan.assistants.server import ASSISTANT_TOOLS, assistant_server

    async def tools() -> Any:
        async with client_module.Client(assistant_server([folder])) as client:
            return (await client.list_tools()).tools

    found = asyncio.run(tools())
    assert [tool.name for tool in found] == list(ASSISTANT_TOOLS)
    assert all(tool.annotations.read_only_hint and not tool.annotations.open_world_hint for tool in found)
    assert all(tool.description and tool.input_schema["type"] == "object" for tool in found)


def test_a_plan_is_told_and_its_tables_can_be_asked_for(ask: Ask) -> None:
    good, text = ask("show_plan", plan="llama_train.plan.json")
    assert good
    assert "answer: yes" in text
    assert "HBM peak" in text
    good, rows = ask("table", report="report-1", number=0)
    assert good
    document = json.loads(rows)
    assert document["rows"][0]["tier"] == "HBM"
    assert document["rows"][0]["peak_bytes"] > 0
    assert document["rows_in_all"] == len(document["rows"])


def test_a_kv_budget_takes_the_options_of_its_command(ask: Ask) -> None:
    good, text = ask("kv", config="example_config.json", options={"chip": "910B3", "context": 32768})
    assert good
    assert "blocks" in text
    good, text = ask("kv", config="example_config.json", options={"output": "/tmp/written"})
    assert not good
    assert "there is no option 'output'" in text
    good, text = ask("kv", config="example_config.json", options={"context": "many"})
    assert not good
    assert "option context" in text


@pytest.mark.parametrize(("name", "value"), [("context", "9" * 400), ("context", 2**80), ("batch", 0), ("batch", -3)])
def test_numbers_that_no_option_takes_are_refused_in_one_line(name: str, value: str | int, ask: Ask) -> None:
    good, text = ask("kv", config="example_config.json", options={"chip": "910B3", name: value})
    assert not good
    assert f"option {name}" in text
    assert len(text) < 300


def test_a_profile_is_diagnosed(ask: Ask) -> None:
    good, text = ask("diagnose", profile="llama_train_profile")
    assert good
    assert "SIMULATED" in text or "finding" in text.casefold()


def test_two_plans_are_held_against_each_other(ask: Ask, folder: Path) -> None:
    plan = memplan.load_plan(folder / "llama_train.plan.json")
    hbm, *others = plan.tiers
    other = replace(plan, tiers=(replace(hbm, peak=hbm.peak + (3 << 20)), *others))
    other.save(folder / "other.plan.json")
    good, text = ask("diff", before="llama_train.plan.json", after="other.plan.json")
    assert good, text
    assert "+3.00 MiB" in text
    good, text = ask("diff", before="llama_train.plan.json", after="../secret.json")
    assert not good
    assert "outside the folders" in text
    assert "wolf" not in text


@pytest.mark.parametrize(
    "name",
    [
        "%2e%2e/secret.json", "..\\secret.json", "file:///etc/passwd", "~/secret.json", "named\n../secret.json",
        "/proc/self/environ", "/dev/zero", "fifo.json", "loop.json", "a/" * 3000 + "b", "a" * 5000, "",
    ],
)  # fmt: skip
def test_hostile_names_are_refused_in_one_line(name: str, ask: Ask, folder: Path) -> None:
    os.mkfifo(folder / "fifo.json")
    (folder / "loop.json").symlink_to("loop.json")
    for tool, arguments in (("show_plan", ("plan",)), ("diff", ("before", "after")), ("compare", ("plan", "profile"))):
        good, text = ask(tool, **dict.fromkeys(arguments, name))
        assert not good
        assert "Traceback" not in text
        assert len(text.strip().splitlines()) == 1
        assert "wolf" not in text
        assert "root:" not in text


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "named/../../secret.json", "link.json", "a\0b"])
def test_nothing_outside_the_named_folders_is_read(name: str, ask: Ask, folder: Path) -> None:
    (folder / "link.json").symlink_to(folder.parent / "secret.json")
    for tool, argument in (("show_plan", "plan"), ("kv", "config"), ("diagnose", "profile"), ("plan", "source")):
        good, text = ask(tool, **{argument: name})
        assert not good
        assert "wolf" not in text
        assert "outside the folders" in text or "zero byte" in text


def test_a_profile_with_a_link_that_leads_outside_is_refused(ask: Ask, folder: Path) -> None:
    target = folder / "llama_train_profile" / "ASCEND_PROFILER_OUTPUT" / "communication.json"
    target.symlink_to(folder.parent / "secret.json")
    good, text = ask("diagnose", profile="llama_train_profile")
    assert not good
    assert "leads outside" in text


def test_hostile_files_leave_no_trace(ask: Ask, folder: Path) -> None:
    payload = '=HYPERLINK("x");__import__("os").system("touch owned"),../../owned,\x1b[2J'
    for file in (folder / "llama_train_profile").rglob("*.csv"):
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join([lines[0], f'"{payload}"', *lines[1:]]), encoding="utf-8")
    (folder / "llama_train_profile" / "profiler_info_0.json").write_text('{"__class__": "os.system"}')
    (folder / "bad.plan.json").write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    ask("diagnose", profile="llama_train_profile")
    ask("compare", plan="llama_train.plan.json", profile="llama_train_profile")
    assert not ask("show_plan", plan="bad.plan.json")[0]
    assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before


def test_errors_are_one_line(ask: Ask) -> None:
    good, text = ask("show_plan", plan="cnn.mindir")
    assert not good
    assert "Traceback" not in text
    good, text = ask("table", report="report-9", number=0)
    assert not good
    assert "there is no report" in text


def test_a_server_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder was named"):
        ReadableFolders([])
    with pytest.raises(InputError, match="is no folder"):
        ReadableFolders([tmp_path / "none"])


def test_the_command_serves_on_standard_input(folder: Path) -> None:
    pytest.importorskip("mcp.client")
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    run = subprocess.run(
        [sys.executable, "-m", "memplan", "mcp", str(folder)],
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer = json.loads(run.stdout.splitlines()[0])
    assert answer["result"]["serverInfo"]["name"] == "memplan"
