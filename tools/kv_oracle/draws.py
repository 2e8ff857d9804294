"""
Draw models, layouts and options, plan each with memplan and with vLLM's own planner, and compare.

`draws.py VERSION PYTHON [--draws N] [--seed N] [--configs FOLDER]`: PYTHON is that of a venv with vLLM VERSION.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import BlockPool, CacheOptions, Engine, EngineSettings, ServingOptions, engine, plan_stages, resolve
from memplan.kv.layers import cache_specs
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout, stage_spans

ENGINES = {"0.23.0": ("vllm-0.23.0",), "0.33.0": ("vllm-0.33.0-h100", "vllm-0.33.0-b200")}


@dataclass(frozen=True)
class Draw:
    """One question: a model by name, an engine, its options as resolved, the layout and the memory of each stage."""

    model: ModelConfig
    engine: Engine
    options: ServingOptions
    settings: EngineSettings
    layout: Layout
    available: tuple[int, ...]


def draws(models: Sequence[ModelConfig], engines: Sequence[Engine], count: int, seed: int) -> Iterator[Draw]:
    """So many draws that the engine's settings take; those that they refuse are drawn anew."""
    chance = random.Random(seed)
    found = 0
    while found < count:
        model, back_end = chance.choice(models), chance.choice(engines)
        layout = Layout(tensor=chance.choice((1, 2, 4, 8)), pipeline=chance.choice((1, 1, 1, 2, 4)))
        drafts = chance.choice((0, 0, 1, 3)) if model.mtp_layers else 0
        options = ServingOptions(
            length=chance.choice((1024, 8192, 32_768, 131_072, 1_000_003)),
            caches=CacheOptions(
                block_size=chance.choice((None, None, 16, 64, 128, 256)),
                kv=chance.choice((None, "fp8")),
                speculative_tokens=drafts,
            ),
            batched_tokens=chance.choice((512, 2048, 8192, 16_384)),
            asynchronous=chance.choice((None, None, False)),
            prefix_caching=chance.choice((None, True, False)),
            hybrid=chance.random() > 0.1,
        )
        memory = int(chance.choice((0.5, 4, 20, 37.5, 200)) * GIB)
        try:
            settings = resolve(model, back_end, options, layout)
            cache_specs(model, back_end, settings.options.caches, options.length, layout)
            stage_spans(len(model.layers), layout)
        except InputError:
            continue
        found += 1
        yield Draw(model, back_end, options, settings, layout, (memory,) * layout.pipeline)


def told(draw: Draw) -> dict[str, Any]:
    """What the engine's planner is told: the caches of each stage, before any grouping."""
    options = draw.settings.options
    specs = cache_specs(draw.model, draw.engine, options.caches, options.length, draw.layout)
    layouts: dict[tuple[object, ...], int] = {}
    spans = stage_spans(len(draw.model.layers), draw.layout)
    last = spans[-1]
    spans = (*spans[:-1], range(last.start, last.stop + len(draw.model.mtp_layers)))
    checkpoints = draw.settings.state_blocks - 1 - options.caches.speculative_tokens
    return {
        "stages": [[_cache(spec, layouts) for spec in specs if spec.layer in span] for span in spans],
        "length": options.length,
        "in_flight": options.in_flight_tokens,
        "hybrid": options.hybrid,
        "side_by_side": draw.settings.block_outermost,
        "mode": "align" if options.caches.state_aligned else "none",
        "drafts": options.caches.speculative_tokens,
        "checkpoints": max(0, checkpoints - 1) if options.caches.state_aligned else 0,
        "available": list(draw.available),
    }


def _cache(spec: CacheSpec, layouts: dict[tuple[object, ...], int]) -> dict[str, Any]:
    ratio = 1
    if spec.kind is CacheKind.LATENT and spec.layout[0] in ("attn", "indexer") and isinstance(spec.layout[-1], int):
        ratio = spec.layout[-1]
    return {
        "name": spec.name,
        "kind": spec.kind.value,
        "block": spec.block_size,
        "payload": spec.payload_bytes,
        "page": spec.page_bytes,
        "layout": layouts.setdefault(spec.layout, len(layouts)),
        "ratio": ratio,
        "window": spec.window,
        "chunk": spec.chunk,
        "stride": spec.stride,
        "alignment": spec.alignment,
    }


def ours(draw: Draw) -> dict[str, Any]:
    """Memplan's plan, in the same words."""
    try:
        pools = plan_stages(draw.model, draw.engine, draw.options, draw.available, draw.layout)
    except InputError as error:
        return {"refused": str(error)}
    refusal = next((pool.refusal for pool in pools if pool.refusal is not None), None)
    if refusal is not None:
        return {"refused": refusal.message}
    return _planned(pools)


def _planned(pools: Sequence[BlockPool]) -> dict[str, Any]:
    return {
        "num_blocks": pools[0].num_blocks,
        "allocated": [pool.allocated_bytes for pool in pools],
        "groups": sorted(len(group.members) for group in pools[0].groups),
        "concurrency": pools[0].max_concurrency,
    }


def differs(here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether two plans differ, or two refusals in the bytes they name."""
    if ("refused" in here) != ("refused" in there):
        return True
    if "refused" not in here:
        return here != there
    figures = "GiB KV cache is needed"
    if figures not in there["refused"]:
        return False
    needed = there["refused"].split(figures)[0].rsplit("(", 1)[-1].strip()
    return f" {needed} {figures}" not in here["refused"]


def main() -> int:
    """Print each difference and how many there are; exit with 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", choices=sorted(ENGINES))
    parser.add_argument("python")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--configs", type=Path, default=Path(str(resources.files("memplan.samples"))))
    asked = parser.parse_args()
    files = [path for path in sorted(asked.configs.glob("**/*.json")) if '"model_type"' in path.read_text("utf-8")]
    models = [load_config(path) for path in files]
    drawn = list(draws(models, [engine(name) for name in ENGINES[asked.version]], asked.draws, asked.seed))
    lines = "".join(json.dumps(told(draw)) + "\n" for draw in drawn)
    planner = Path(__file__).with_name("planner.py")
    run = subprocess.run([asked.python, str(planner)], input=lines, capture_output=True, text=True, check=False)
    if run.returncode:
        print(run.stderr[-2000:], file=sys.stderr)
        return 2
    head, *answers = run.stdout.splitlines()
    wrong = refused = 0
    for draw, line in zip(drawn, answers, strict=True):
        here, there = ours(draw), json.loads(line)
        refused += "refused" in there
        if differs(here, there):
            wrong += 1
            print(f"{draw.model.name} {draw.engine.name} {draw.layout} {draw.options}")
            print(f"  memplan {here}")
            print(f"  engine  {there}")
    print(f"{json.loads(head)['vllm']}: {len(drawn)} draws, {refused} of them refused, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
