"""
vLLM's own parser and engine arguments asked to take exported command lines; run by the Python of a venv that has it.

Reads a JSON line for each export, `{"arguments": [...]}`, and answers with what the engine understood, or its words
of refusal.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "kv_oracle"))

import planner
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform

vllm.platforms._current_platform = CpuPlatform()

from vllm.config import KVTransferConfig  # noqa: E402 - finds the platform set above
from vllm.engine.arg_utils import EngineArgs  # noqa: E402 - finds the platform set above

try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
except ImportError:
    from vllm.utils import FlexibleArgumentParser

READ = (
    "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel", "max_model_len",
    "max_num_batched_tokens", "max_num_seqs", "block_size", "enable_prefix_caching", "async_scheduling",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "kv_offloading_size",
)  # fmt: skip


class RefusedError(Exception):
    """The parser's words."""


def answer(words):
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())

    def refuse(message):
        raise RefusedError(message)

    parser.error = refuse
    try:
        # Any folder does: what is not one is taken for a name on a hub, whose form is checked.
        folder = str(Path(__file__).parent)
        arguments = EngineArgs.from_cli_args(parser.parse_args(["--model", folder, *words]))
        transfer = arguments.kv_transfer_config
        if transfer is not None and not isinstance(transfer, KVTransferConfig):
            KVTransferConfig(**transfer)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}
    return {"understood": {name: getattr(arguments, name) for name in READ}}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)["arguments"]), default=str), file=planner.ANSWERS, flush=True)
