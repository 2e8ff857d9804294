"""The MCP server: the questions as read-only tools of the official SDK."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.assistants.folders import ReadableFolders
from memplan.assistants.questions import Questions
from memplan.core.errors import InputError, MemplanError
from memplan.core.version import MEMPLAN_VERSION

if TYPE_CHECKING:
    from mcp.server import MCPServer

_INSTRUCTIONS = (
    "Plans the memory of Huawei Ascend NPUs and reads CANN profiles. Files are named relative to the folders that the "
    "server was started with. Start with plan or kv before a run and diagnose or compare after one; every answer has "
    "a name and lists its tables, whose rows the tool `table` gives."
)
ASSISTANT_TOOLS = ("plan", "show_plan", "kv", "diagnose", "compare", "diff", "chips", "table")


def assistant_server(folders: Sequence[Path]) -> MCPServer[Any]:
    """
    A server that reads below `folders` only and writes nothing.

    Raises `InputError` for no folder, one that doesn't exist, and where the SDK is not installed.
    """
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp_types import ToolAnnotations
    except ImportError as error:
        raise InputError(f"the MCP SDK can't be imported: {error}", remedy="pip install 'memplan[mcp]'") from None
    questions = Questions(ReadableFolders(folders))
    server = MCPServer("memplan", instructions=_INSTRUCTIONS, version=MEMPLAN_VERSION, log_level="ERROR")

    def answering(ask: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(ask)
        def answer(**asked: Any) -> str:
            try:
                return ask(**asked)
            except MemplanError as error:
                raise ToolError(str(error)) from None

        return answer

    quiet = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    for name in ASSISTANT_TOOLS:
        server.tool(name=name, annotations=quiet, structured_output=False)(answering(getattr(questions, name)))
    return server
