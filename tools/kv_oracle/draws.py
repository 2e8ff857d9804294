"""
Draw models, layouts and options, plan each with memplan and with vLLM's own planner, and compare.

`draws.py VERSION PYTHON [--draws N] [--seed N] [--configs FOLDER]`: PYTHON is that of a venv with vLLM VERSION. Models
are those of FOLDER and the families that the tests describe, half of them with other depths, heads and windows than
anybody published.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import BlockPool, CacheOptions, Engine, EngineSettings, ServingOptions, engine, plan_stages, resolve
from memplan.kv.layers import cache_specs
from memplan.kv.settings import cache_types
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout, stage_spans

FAMILIES = Path(__file__).parents[2] / "tests" / "models"
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


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    """The configs of `folder` and of the families that the tests describe, by name."""
    found = {}
    for path in sorted(folder.glob("**/*.json")):
        document = json.loads(path.read_text("utf-8"))
        if isinstance(document, dict) and "model_type" in document:
            found[path.stem] = document
    for name in ("described.json", "families.json"):
        rows = json.loads((FAMILIES / name).read_text("utf-8"))
        rows = rows.get("families", rows)
        found |= {family: row["config"] for family, row in rows.items() if isinstance(row, dict)}
    return found


def changed(chance: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """The config with another depth, other heads and another window, as far as it does not say more of each layer."""
    inner = document.get("text_config")
    values = dict(inner if isinstance(inner, dict) else document)
    if not any(isinstance(value, list) for value in values.values()) and "hybrid_override_pattern" not in values:
        values["num_hidden_layers"] = chance.randint(1, 70)
    heads, kv_heads = values.get("num_attention_heads"), values.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(kv_heads, int) and kv_heads > 1:
        values["num_key_value_heads"] = chance.choice([count for count in (2, 4, 8, 16, heads) if heads % count == 0])
    if isinstance(values.get("sliding_window"), int):
        values["sliding_window"] = chance.choice((64, 128, 500, 1024, 4096))
    return {**document, "text_config": values} if isinstance(inner, dict) else values


def drawn_model(chance: random.Random, known: dict[str, dict[str, Any]]) -> ModelConfig:
    """One of the models, as it is or changed."""
    name = chance.choice(sorted(known))
    document = changed(chance, known[name]) if chance.random() < 0.5 else known[name]
    return replace(load_config(document), name=name)


def drawn_layout(chance: random.Random, model: ModelConfig) -> Layout:
    """Ranks of tensor, pipeline and context parallelism; stages may be of several lengths."""
    pipeline = chance.choice((1, 1, 1, 2, 3, 4, 8))
    layers = len(model.layers)
    uneven: tuple[int | None, ...] = ()
    if pipeline > 1 and chance.random() < 0.3 and layers > pipeline:
        cuts = sorted(chance.sample(range(1, layers), pipeline - 1))
        uneven = tuple(stop - start for start, stop in zip((0, *cuts), (*cuts, layers), strict=True))
    return Layout(
        tensor=chance.choice((1, 2, 4, 8, 16)),
        pipeline=pipeline,
        context=chance.choice((1, 1, 1, 2, 4)) if pipeline == 1 else 1,
        stage_layers=uneven,
    )


def drawn_options(chance: random.Random, model: ModelConfig, back_end: Engine) -> ServingOptions:
    """How the engine is started."""
    types = cache_types(model, back_end)
    return ServingOptions(
        length=chance.choice((1, 17, 1024, 8192, 32_768, 131_072, 1_000_003)),
        caches=CacheOptions(
            block_size=chance.choice((None, None, 1, 16, 32, 48, 64, 128, 256, 1024)),
            kv=chance.choice((None, *types)) if types else None,
            speculative_tokens=chance.choice((0, 0, 1, 2, 3, 7)) if model.mtp_layers else 0,
        ),
        batched_tokens=chance.choice((1, 512, 2048, 8192, 16_384, 100_000)),
        asynchronous=chance.choice((None, None, False)),
        prefix_caching=chance.choice((None, True, False)),
        hybrid=chance.random() > 0.1,
        blocks=chance.choice((None, None, None, None, 3, 1000)),
        fits_length=chance.random() < 0.1,
    )


def draws(known: dict[str, dict[str, Any]], engines: Sequence[Engine], count: int, seed: int) -> Iterator[Draw]:
    """So many draws that the engine's settings take; those that they refuse are drawn anew."""
    chance = random.Random(seed)
    found = 0
    while found < count:
        memory = int(chance.choice((0.5, 4, 20, 37.5, 200)) * GIB)
        try:
            model, back_end = drawn_model(chance, known), chance.choice(engines)
            layout, options = drawn_layout(chance, model), drawn_options(chance, model, back_end)
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
    kept, aligned = draw.settings.state_blocks, options.caches.state_aligned
    checkpoints = 0 if kept is None or not aligned else max(0, kept - 2 - options.caches.speculative_tokens)
    return {
        "stages": [[_cache(spec, layouts) for spec in specs if spec.layer in span] for span in spans],
        "length": options.length,
        "in_flight": options.in_flight_tokens,
        "hybrid": options.hybrid,
        "side_by_side": draw.settings.block_outermost,
        "mode": "all" if kept is None else "align" if aligned else "none",
        "drafts": options.caches.speculative_tokens,
        "checkpoints": checkpoints,
        "available": list(draw.available),
        "context": draw.layout.context,
        "blocks": options.blocks,
        "fits": options.fits_length,
    }


def _cache(spec: CacheSpec, layouts: dict[tuple[object, ...], int]) -> dict[str, Any]:
    ratio = 1
    if spec.kind is CacheKind.LATENT and len(spec.layout) == 3 and isinstance(spec.layout[-1], int):
        # Entries and pooled keys are one for so many tokens; their layout says how many behind the bytes of one.
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


_OF_WORKERS = "its workers disagree"
"""A refusal by workers' attention kernels, which the planner alone does not ask; `model_draws` does."""


def differs(here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether two plans differ, or two refusals in the bytes they name."""
    if _OF_WORKERS in here.get("refused", ""):
        return False
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
    known = documents(asked.configs)
    drawn = list(draws(known, [engine(name) for name in ENGINES[asked.version]], asked.draws, asked.seed))
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
