"""
SGLang's own server arguments asked to take exported command lines; run by the Python of a venv that has it.

Reads a JSON line for each export, `{"arguments": [...]}`, and answers with what the server understood, or its words
of refusal.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "kv_oracle"))

import sglang_planner
from sglang.srt.server_args import ServerArgs

READ = (
    "tp_size", "dp_size", "attn_dp_size", "pp_size", "ep_size", "context_length", "chunked_prefill_size", "page_size",
    "max_running_requests", "mem_fraction_static", "kv_cache_dtype", "device", "attention_backend", "hicache_size",
)  # fmt: skip


class RefusedError(Exception):
    """The parser's words."""


def answer(words):
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)

    def refuse(message):
        raise RefusedError(message)

    parser.error = refuse
    try:
        found = parser.parse_args(["--model-path", "/nowhere", *words])
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}
    return {"understood": {name: getattr(found, name) for name in READ}}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)["arguments"]), default=str), file=sglang_planner.ANSWERS, flush=True)
