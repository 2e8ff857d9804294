"""
Export what was planned for drawn models, layouts and options, and ask the consumer's own code whether it takes it.

`check.py CONSUMER PYTHON [--draws N] [--seed N]`: PYTHON is that of a venv with the consumer. Of vLLM its planner is
asked too, with the memory, the length and the tokens that its own parser read: it has to come to the planned number
of blocks.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "kv_oracle"))

from draws import ENGINES, Draw, documents, draws, told

from memplan.core.errors import InputError
from memplan.core.progress import silent
from memplan.deployment.cases import Case
from memplan.export import export_budget
from memplan.export.chrome_trace import write_chrome_trace, write_trace_beside
from memplan.export.consumer_settings import plan_settings
from memplan.export.settings import ConsumerSettings
from memplan.export.settings_text import argument_words, settings_text
from memplan.hardware import chip
from memplan.kv import Memory, ServingOptions, engine
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.planner import plan
from memplan.schema import Plan, Tier
from memplan.simulator.simulation import simulate
from memplan.traces import open_profile

HERE = Path(__file__).parent
SCRIPTS = {"vllm": "vllm_arguments.py", "sglang": "sglang_arguments.py", "torchtitan": "torchtitan_job.py",
           "megatron": "megatron_config.py", "mindformers": "mindformers_config.py",
           "memcache": "memcache_conf.py", "perfetto": "perfetto_trace.py"}  # fmt: skip
TRAINED = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 512, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 1024, "vocab_size": 4096,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


def asked(python: str, script: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers of the consumer's code, a line each."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run = subprocess.run([python, str(HERE / script)], input=text, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or len(answers) < len(lines):
        raise SystemExit(f"{script} ended early:\n{run.stderr[-3000:]}")
    return answers


_TRIES = 20  # draws an export, at the most
SAMPLES = Path(str(resources.files("memplan.samples")))


def models() -> list[ModelConfig]:
    """The models that ship with memplan's samples."""
    files = sorted(SAMPLES.glob("**/*.json"))
    return [load_config(path) for path in files if '"model_type"' in path.read_text("utf-8")]


def served(consumer: str, count: int, seed: int) -> Iterator[tuple[Draw, Case, ConsumerSettings]]:
    """So many budgets that fit, their cases and exports; why others are left out is said on standard error."""
    die = chip("910B3")
    engines = [engine(name) for name in ENGINES[consumer.removeprefix("vllm-")]]
    for draw in draws(documents(SAMPLES), engines, _TRIES * count, seed):
        memory = Memory(cache=draw.available[0])
        case = Case(draw.model, die, draw.engine, draw.options, draw.layout, memory)
        try:
            settings = export_budget(case, case.budget(), consumer)
        except InputError as error:
            print(f"left out: {draw.model.name}: {error}", file=sys.stderr)
            continue
        yield draw, case, settings
        count -= 1
        if not count:
            return


def check_vllm(consumer: str, python: str, count: int, seed: int) -> tuple[int, list[str]]:
    """Command lines through the parser, and what it read through the planner."""
    drawn = list(served(consumer, count, seed))
    words = [argument_words(settings.settings) for *_, settings in drawn]
    understood = asked(python, SCRIPTS["vllm"], [{"arguments": line} for line in words])
    wrong, questions = [], []
    for (draw, _, _), line, answer in zip(drawn, words, understood, strict=True):
        if "refused" in answer:
            wrong.append(f"{answer['refused']}: {line}")
            continue
        read = answer["understood"]
        options = replace(draw.settings.options, length=int(read["max_model_len"]))
        settings = replace(draw.settings, options=options)
        memory = (int(read["kv_cache_memory_bytes"]),) * int(read["pipeline_parallel_size"])
        questions.append((draw, told(replace(draw, settings=settings, available=memory)), read))
    planner = HERE.parent / "kv_oracle" / "planner.py"
    answers = asked(python, str(planner), [question for _, question, _ in questions])[1:]
    kept = [item for item, answer in zip(drawn, understood, strict=True) if "understood" in answer]
    for (draw, case, settings), (_, _, read), answer in zip(kept, questions, answers, strict=True):
        planned, found = settings.figures["blocks"], answer.get("num_blocks", answer)
        override = read["num_gpu_blocks_override"]
        if planned != found and override is None:
            wrong.append(
                f"{draw.model.name} {draw.layout} {case.options}: planned {planned} blocks, the engine {found}"
            )
        if read["max_num_batched_tokens"] != draw.settings.options.batched_tokens:
            wrong.append(f"{draw.model.name}: tokens {read['max_num_batched_tokens']}")
    return len(drawn), wrong


def check_sglang(consumer: str, python: str, count: int, seed: int) -> tuple[int, list[str]]:
    """Server arguments through the parser: each value comes out as it was planned."""
    chance, die, drawn = random.Random(seed), chip("910B3"), []
    while len(drawn) < count:
        model = chance.choice(models())
        tensor, data = chance.choice((1, 2, 4, 8)), chance.choice((1, 2, 4))
        expert = tensor * data if model.experts is not None and chance.random() < 0.5 else 1
        layout = Layout(tensor=tensor, data=data, expert=expert)
        options = ServingOptions(
            length=chance.choice((4096, 32_768)),
            requests=chance.choice((None, 16, 64)),
            batched_tokens=chance.choice((None, 2048, 8192)),
            prefix_caching=chance.choice((None, False)),
        )
        memory = Memory(utilization=chance.choice((None, 0.8)), hbm=chance.choice((64, 128)) << 30)
        case = Case(model, die, engine("sglang", die), options, layout, memory)
        try:
            drawn.append((case, export_budget(case, case.budget(), consumer)))
        except InputError:
            continue
    lines = [{"arguments": argument_words(settings.settings)} for _, settings in drawn]
    wrong = []
    for (case, settings), line, answer in zip(drawn, lines, asked(python, SCRIPTS["sglang"], lines), strict=True):
        read = answer.get("understood")
        if read is None:
            wrong.append(f"{answer['refused']}: {line['arguments']}")
            continue
        ranks = read["tp_size"] * read["dp_size"] * read["pp_size"]
        if ranks != case.layout.ranks or read["context_length"] != settings_value(settings, "--context-length"):
            wrong.append(f"{case.layout} became {read}")
    return len(drawn), wrong


def check_memcache(consumer: str, python: str, count: int, seed: int) -> tuple[int, list[str]]:
    """Pools of drawn sizes through the services that read them: world and size come out as they were planned."""
    chance, lines, planned = random.Random(seed), [], []
    while len(lines) < count:
        model, die = chance.choice(models()), chip(chance.choice(("910B3", "910C")))
        layout = Layout(tensor=chance.choice((1, 2, 4, 8)), pipeline=chance.choice((1, 2)))
        case = Case(model, die, engine("vllm-ascend", die), ServingOptions(length=4096), layout, Memory())
        size = chance.randrange(1, 1025) << 30
        try:
            settings = export_budget(case, case.budget(), consumer, {"pool": size})
        except InputError:
            continue
        confs = [file for file in settings.files if file.form == "conf"]
        lines.append({file.name: settings_text(settings, file) for file in confs})
        planned.append((f"{size >> 30}GB", str(layout.ranks)))
    wrong = []
    for line, sizes, answer in zip(lines, planned, asked(python, SCRIPTS["memcache"], lines), strict=True):
        read = answer.get("understood", {})
        found = tuple(read.get(f"ock.mmc.local_service.{name}") for name in ("dram.size", "world_size"))
        if found != sizes:
            wrong.append(answer.get("refused") or f"planned {sizes}, read {found}: {line['mmc-local.conf'][:300]}")
    return count, wrong


def settings_value(settings: ConsumerSettings, name: str) -> Any:
    """The value of the setting called `name`."""
    return next(item.value for item in settings.settings if item.name == name)


def training_steps(seed: int) -> Iterator[Plan]:
    """Plans of drawn training steps, without end."""
    chance, model = random.Random(seed), load_config(TRAINED)
    while True:
        pipeline = chance.choice((1, 2, 4))
        schedule = chance.choice((Schedule.ONE_F_ONE_B, Schedule.GPIPE, Schedule.INTERLEAVED))
        interleaved = schedule is Schedule.INTERLEAVED
        tensor = chance.choice((1, 2))
        recipe = Recipe(
            sequence=chance.choice((256, 512)),
            sequence_parallel=tensor > 1 and chance.random() < 0.7,
            micro_batch=chance.choice((1, 2)),
            micro_batches=pipeline * chance.choice((1, 2)),
            sharding=chance.choice((Sharding.NONE, Sharding.DISTRIBUTED, Sharding.ZERO1, Sharding.ZERO2)),
            schedule=schedule,
            chunks=2 if interleaved else 1,
            recompute_layers=chance.choice((0, 1, 2)),
            recompute_activations=chance.random() < 0.2,
            recompute_norms=chance.random() < 0.2,
            swap_optimizer=chance.random() < 0.3,
        )
        layout = Layout(tensor=tensor, pipeline=pipeline, data=chance.choice((1, 2, 4)))
        try:
            step = plan(model, phase="train", layout=layout, recipe=recipe)
            use = step.tier(Tier.HBM)
            if use is not None and chance.random() < 0.4:
                # Little room: activations leave HBM.
                room = int(0.65 * use.peak)
                never = RecomputePolicy.NEVER
                step = plan(model, phase="train", layout=layout, recipe=recipe, hbm=room, recompute=never)
        except InputError:
            continue
        yield step


def trained(consumers: Sequence[str], count: int, seed: int) -> Iterator[tuple[str, ConsumerSettings]]:
    """So many exports of drawn training steps for each of `consumers`; every step is planned once."""
    wanted = dict.fromkeys(consumers, count)
    steps = training_steps(seed)
    while any(wanted.values()):
        step = next(steps)
        for consumer in consumers:
            if not wanted[consumer]:
                continue
            try:
                yield consumer, plan_settings(step, consumer)
            except InputError as error:
                print(f"left out for {consumer}: {error}", file=sys.stderr)
                continue
            wanted[consumer] -= 1


def check_trained(consumer: str, python: str, count: int, seed: int) -> tuple[int, list[str]]:
    """Settings of training steps through the consumer's own configuration."""
    name = consumer.partition("-")[0]
    lines: list[dict[str, Any]] = []
    targets = [consumer, "mindformers-pynative-2.1.0"] if name == "mindformers" else [consumer]
    for target, settings in trained(targets, count, seed):
        (file,) = settings.files
        text = settings_text(settings, file)
        if file.form == "command":
            lines.append({"arguments": argument_words(settings.settings)})
        else:
            lines.append({file.form: text, "pynative": "pynative" in target})
    wrong = [
        f"{answer['refused']}: {json.dumps(line)[:300]}"
        for line, answer in zip(lines, asked(python, SCRIPTS[name], lines), strict=True)
        if "refused" in answer
    ]
    return len(lines), wrong


def check_perfetto(_consumer: str, python: str, count: int, seed: int) -> tuple[int, list[str]]:
    """Traces through Perfetto's processor, every other one beside a simulated run: all slices and counters come out."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        traces = [Path(folder) / f"{number}.json" for number in range(count)]
        for number, (path, step) in enumerate(zip(traces, training_steps(seed), strict=False)):
            if number % 2:
                write_chrome_trace(step, path, silent)
            else:
                run = simulate(step, path.with_suffix(""), steps=2, seed=seed + number)
                rank = open_profile(run).rank(0)
                write_trace_beside(step, rank, path, silent)
        lines = [{"trace": str(path)} for path in traces]
        for path, answer in zip(traces, asked(python, SCRIPTS["perfetto"], lines), strict=True):
            read = answer.get("understood")
            if read is None:
                wrong.append(answer["refused"])
                continue
            wrong += [f"{value} of {name}" for name, value in read["errors"]]
            for kind, rows in told_to_perfetto(json.loads(path.read_text("utf-8"))).items():
                lost = rows - Counter(map(tuple, read[kind]))
                wrong += [f"lost of {kind}: {row} ({times})" for row, times in lost.items()]
                if len(read[kind]) != rows.total():
                    wrong.append(f"{len(read[kind])} {kind} of {rows.total()}")
    return count, wrong


def told_to_perfetto(events: list[dict[str, Any]]) -> dict[str, Counter[tuple[Any, ...]]]:
    """The rows that a trace's events say, as Perfetto's processor calls them; times in ns."""
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"].get("name") for event in events if event["ph"] == "M"
    }
    told: dict[str, Counter[tuple[Any, ...]]] = {"slices": Counter(), "counters": Counter()}
    for event in events:
        process = names.get(("process_name", event["pid"], 0))
        if event["ph"] == "X":
            thread = names.get(("thread_name", event["pid"], event["tid"]), "")
            start, length = nanoseconds(event["ts"]), nanoseconds(event["dur"])
            told["slices"][process, thread, event["name"], start, length] += 1
        elif event["ph"] == "C":
            for series, value in event["args"].items():
                told["counters"][process, f"{event['name']} {series}", nanoseconds(event["ts"]), float(value)] += 1
    return told


def nanoseconds(written: str | float) -> int:
    """A time in us as a trace has it."""
    return int(Decimal(str(written)) * 1000)


def main() -> int:
    """Print what the consumer refuses or reads otherwise; exit with 1 where there is any of that."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("consumer")
    parser.add_argument("python")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    kinds = {"vllm": check_vllm, "sglang": check_sglang, "memcache": check_memcache, "perfetto": check_perfetto}
    check = kinds.get(given.consumer.partition("-")[0], check_trained)
    count, wrong = check(given.consumer, given.python, given.draws, given.seed)
    for line in wrong:
        print(line)
    print(f"{given.consumer}: {count} exports, {len(wrong)} refused or read otherwise")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    raise SystemExit(main())
