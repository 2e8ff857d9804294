"""
Draw models, arguments and memory, split it with memplan and with SGLang's own code, and compare.

`token_draws.py PYTHON [--draws N] [--seed N] [--configs FOLDER]`: PYTHON is that of a venv with SGLang 0.5.23.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, StaticMemory, engine, resolve, static_share, token_pools
from memplan.kv.tokens import sees, start_up
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout

ENGINE = "sglang-0.5.23-npu"


def drawn(chance: random.Random, path: Path, model: ModelConfig) -> dict[str, Any]:
    """One question of a model: arguments of the server, and the memory of its NPU."""
    ranks = chance.choice((1, 2, 4, 8))
    asked: dict[str, Any] = {"tp_size": ranks, "context_length": model.max_positions}
    if ranks > 1 and chance.random() < 0.2:
        asked |= {"dp_size": chance.choice([d for d in (2, 4, 8) if d <= ranks]), "enable_dp_attention": True}
    for name, share, values in (
        ("kv_cache_dtype", 0.25, ("fp8_e4m3",)),
        ("page_size", 0.25, (1, 64, 128, 256, 512)),
        ("max_running_requests", 0.4, (8, 32, 128, 1000)),
        ("disable_radix_cache", 0.3, (True,)),
        ("mem_fraction_static", 0.4, (0.7, 0.85, 0.9, 0.95)),
        ("chunked_prefill_size", 0.3, (2048, 4096, 16_384)),
    ):
        if chance.random() < share:
            asked[name] = chance.choice(values)
    question: dict[str, Any] = {"name": path.stem, "args": asked}
    if model.mtp_layers and chance.random() < 0.5:
        steps = chance.choice((1, 3))
        asked |= {"speculative_algorithm": "EAGLE", "speculative_num_steps": steps, "speculative_eagle_topk": 1}
        asked["speculative_num_draft_tokens"] = steps + 1
    total = chance.choice((32, 64, 64, 64, 112)) * GIB
    found = int(total * chance.uniform(0.93, 0.97))
    free = found - int(found * chance.uniform(0.05, 0.75))
    return question | {"total": chance.choice((total, found)), "pre": found, "free": free}


def split(model: ModelConfig, question: dict[str, Any]) -> dict[str, Any]:
    """Memplan's split, in the same words."""
    asked, back_end = question["args"], engine(ENGINE)
    rules = back_end.token_pools
    if rules is None:
        raise ValueError(f"{ENGINE} has no pools of tokens")
    ranks = asked.get("dp_size", 1)
    layout = Layout(tensor=asked["tp_size"] // ranks, data=ranks, expert=asked["tp_size"] if ranks > 1 else 1)
    prefill = asked.get("chunked_prefill_size") or start_up(rules, question["total"]).prefill_tokens
    options = ServingOptions(
        length=asked.get("context_length") or model.max_positions,
        caches=CacheOptions(
            block_size=asked.get("page_size"),
            kv=asked.get("kv_cache_dtype"),
            speculative_tokens=asked.get("speculative_num_steps", 0),
        ),
        batched_tokens=prefill,
        prefix_caching=not asked.get("disable_radix_cache", False),
        requests=asked.get("max_running_requests"),
    )
    share = asked.get("mem_fraction_static")
    if share is None:
        share = static_share(model, rules, layout, question["total"], prefill, options.requests)
    pictures = rules.vision_cache if sees(model, rules) else 0
    memory = StaticMemory(question["pre"], question["pre"] - question["free"], share, pictures)
    try:
        options = resolve(model, back_end, options, layout).options
        pools, (room,) = token_pools(model, back_end, options, layout, (memory,))
    except InputError as error:
        return {"refused": str(error)}
    if pools.refusal:
        return {"refused": pools.refusal}
    return {
        "share": share,
        "available": room,
        "tokens": pools.tokens,
        "window_tokens": pools.window_tokens,
        "entries": {str(ratio): count for ratio, count in pools.entries.items() if ratio > 2},
        "rows": {str(ratio): count for ratio, count in pools.state_rows.items()},
        "requests": pools.requests,
        "states": pools.states,
    }


_UNREAD = (
    "Transformers does not recognize this architecture",
    "contains custom code which must be executed",
    "is a per-layer attribute and may vary across layers",
    "Could not find sparse config",
)
_OF_CLASSES = ("can't be divided among", "has no class for")


def unread(there: dict[str, Any]) -> bool:
    """Whether the engine could not read the config, for want of a field or of code that is no part of it."""
    return "unread" in there or any(text in there.get("refused", "") for text in _UNREAD)


def unlike(here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether two splits differ; the engine counts entries and rows of ratios that a model has not, too."""
    if any(text in here.get("refused", "") for text in _OF_CLASSES):
        # The engine's classes refuse it when they are looked for or built, behind the planner.
        return False
    if "refused" in here or "refused" in there:
        return ("refused" in here) != ("refused" in there)
    for name in ("entries", "rows"):
        if any(there[name][ratio] != count for ratio, count in here[name].items()):
            return True
    return any(here[name] != there[name] for name in here.keys() - {"entries", "rows"})


def main() -> int:
    """Print each difference and how many there are; exit with 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--configs", type=Path, default=Path(str(resources.files("memplan.samples"))))
    parser.add_argument("--rows", type=Path, help="write questions and the engine's answers here")
    asked = parser.parse_args()
    files = [path for path in sorted(asked.configs.glob("**/*.json")) if '"architectures"' in path.read_text("utf-8")]
    models = {path.stem: load_config(path) for path in files}
    chance = random.Random(asked.seed)
    questions = []
    for _ in range(asked.draws):
        path = chance.choice(files)
        questions.append({**drawn(chance, path, models[path.stem]), "config": json.loads(path.read_text("utf-8"))})
    lines = "".join(json.dumps(item) + "\n" for item in questions)
    planner = Path(__file__).with_name("sglang_planner.py")
    run = subprocess.run([asked.python, str(planner)], input=lines, capture_output=True, text=True, check=False)
    if run.returncode:
        print(run.stderr[-2000:], file=sys.stderr)
        return 2
    head, *answers = run.stdout.splitlines()
    wrong = refused = strange = 0
    rows = []
    for question, line in zip(questions, answers, strict=True):
        here, there = split(models[question["name"]], question), json.loads(line)
        if unread(there):
            strange += 1
            continue
        refused += "refused" in there
        rows.append({name: value for name, value in question.items() if name != "config"} | {"answer": there})
        if unlike(here, there):
            wrong += 1
            print(f"{question['name']} {question['args']}\n  memplan {here}\n  engine  {there}")
    if asked.rows is not None:
        asked.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    counted = f"{len(questions)} draws, {refused} of them refused, {wrong} differ"
    print(f"{json.loads(head)['engine']}: {counted}, {strange} unread")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
