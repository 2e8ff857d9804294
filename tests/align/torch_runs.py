"""
Steps of small Llamas and small MoEs in PyTorch on a CPU, with the truth beside every op that ran.

`python -m tests.align.torch_runs FOLDER [NAME ...]` records them as tables for where PyTorch is not installed. Each
part of the model runs inside a region of that name; ops of the way back carry the sequence number of the forward op
whose gradient they are, by which they find its region. What the plan calls the parts is said here, not read from the
plan.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.align.torch_configs import TorchRun

ANY_UPDATE = "*.adam"
"""What an op that works on all weights at once may be."""
COLUMNS = ("type", "input_shapes", "input_dtypes", "start_ns", "duration_ns", "truth")
_LINEAR = (
    "q_proj+k_proj+v_proj",
    "o_proj",
    "gate_proj+up_proj",
    "down_proj",
    "lm_head",
    "router",
    "experts.up_proj",
    "experts.down_proj",
    "up_proj",
    "q_a_proj",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
    "shared_expert_gate",
)
_PLANNED = {
    "ffn.shared.gate": "shared_experts.gate_proj+shared_experts.up_proj",
    "ffn.shared.up": "shared_experts.gate_proj+shared_experts.up_proj",
    "ffn.shared.both": "shared_experts.gate_proj+shared_experts.up_proj",
    "ffn.shared.down": "shared_experts.down_proj",
    "ffn.shared_gate": "shared_expert_gate",
    "ffn.both": "gate_proj+up_proj",
    "ffn.gate": "gate_proj+up_proj",
    "ffn.up": "gate_proj+up_proj",
    "ffn.down": "down_proj",
    "ffn.router": "router",
    "norms.": "norm.",
    "mixer.small.0": "q_norm",
    "mixer.small.1": "k_norm",
    "mixer.qkv": "q_proj+k_proj+v_proj",
    "mixer.q_a_norm": "q_a_layernorm",
    "mixer.kv_a_norm": "kv_a_layernorm",
    "mixer.q_a": "q_a_proj",
    "mixer.q_b": "q_b_proj",
    "mixer.kv_a": "kv_a_proj_with_mqa",
    "mixer.kv_b": "kv_b_proj",
    "mixer.": "",
    "positions": "embed_positions",
    "embedding": "embed_tokens",
    "head": "lm_head",
}
_DW_FIRST = {"MmBackward0": True, "BmmBackward0": True, "AddmmBackward0": False}
"""Whether the gradient of the second factor is made before that of the first, by autograd's node."""
_NODE = "autograd::engine::evaluate_function: "


def ran(run: TorchRun, trace: Path) -> None:
    """Run two steps after a warm-up and write torch.profiler's trace of them to `trace`."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from tests.align.torch_models import model_of

    torch.set_num_threads(1)
    model = model_of(run)
    optimizers = list(_optimizers(run, model))
    data = torch.randint(0, run.config["vocab_size"], (run.micro_batches, 2, run.batch, run.sequence))

    def step() -> None:
        for _, optimizer in optimizers:
            optimizer.zero_grad()
        for number, (tokens, labels) in enumerate(data):
            at = f"micro_batch.{number}."
            loss = model(tokens, labels, at)
            with record_function(f"{at}backward"):
                loss.backward()
        if run.clips:
            with record_function("-gradient norm"):
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=run.optimizer == "foreach")
        for part, optimizer in optimizers:
            with record_function(part):
                optimizer.step()

    def served() -> None:
        with torch.no_grad():
            model(data[0, 0], None, "")

    once = step if run.trains else served
    once()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(2):
            once()
    profiler.export_chrome_trace(str(trace))


def _optimizers(run: TorchRun, model: Any) -> Iterator[tuple[str, Any]]:
    """Optimisers with the region that each runs in: one for each weight, or one of all."""
    import torch

    if run.optimizer in ("foreach", "fused"):
        yield ANY_UPDATE, torch.optim.AdamW(model.parameters(), lr=1e-3, **{run.optimizer: True})
        return
    for name, weight in model.named_parameters():
        if run.optimizer == "sgd":
            yield weight_part(run, name), torch.optim.SGD([weight], lr=1e-3, momentum=0.9, foreach=False)
        else:
            yield weight_part(run, name), torch.optim.AdamW([weight], lr=1e-3, foreach=False)


def weight_part(run: TorchRun, name: str) -> str:
    """What the plan calls the update of the weight that PyTorch calls `name`."""
    path = name.removesuffix(".weight").removesuffix(".bias")
    for old, new in _PLANNED.items():
        path = path.replace(old, new)
    parts = path.split(".")
    if parts[-1] == "gate_proj+up_proj" and not run.gated:
        parts[-1] = "up_proj"
    if parts[-1] in ("q", "k", "v"):
        parts[-1] = "q_proj+k_proj+v_proj"
    if parts[-1] == "o":
        parts[-1] = "o_proj"
    if run.routing == "batched" and "shared_experts" not in name and parts[-1] in ("gate_proj+up_proj", "down_proj"):
        parts[-1:] = ["experts", "down_proj" if parts[-1] == "down_proj" else "up_proj"]
    if "experts" in parts:
        parts = [*parts[:2], "experts", "down_proj" if parts[-1] in ("down", "down_proj") else "up_proj"]
    if parts[-1].isdigit() and parts[-2] in ("gate_proj+up_proj", "down_proj"):
        parts[-2:] = ["experts", "down_proj" if parts[-2] == "down_proj" else "up_proj"]
    if name.endswith(".bias"):
        parts[-1] = "+".join(f"{part}.bias" for part in parts[-1].split("+"))
    return ".".join(parts) + ".adam"


def labelled_ops(run: TorchRun, trace: Path) -> list[dict[str, str]]:
    """The ops of torch.profiler's trace as rows of `COLUMNS`; `truth` names the planned ops that each may be."""
    import memplan

    kernels = memplan.open_profile(trace).rank(0).kernels()
    assert kernels is not None
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("ph") == "X"]
    truths = _truths(run, events)
    rows = []
    for place in range(int(run.cut * len(kernels)), len(kernels)):
        at = int(kernels.start_ns[place])
        rows.append(
            {
                "type": kernels.type[place],
                "input_shapes": kernels.input_shapes[place],
                "input_dtypes": kernels.input_dtypes[place],
                "start_ns": str(at - int(kernels.start_ns[0])),
                "duration_ns": str(int(kernels.duration_ns[place])),
                "truth": truths[at, kernels.name[place]],
            }
        )
    return rows


def _truths(run: TorchRun, events: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], str]:
    """The truth of every op by its start in nanoseconds and its name."""
    wanted = [event for event in events if event.get("cat") in ("cpu_op", "user_annotation")]
    wanted.sort(key=lambda event: (_ns(event["ts"]), -_ns(event["dur"])))
    regions: dict[int, str] = {}
    for event, around in _nested(wanted):
        region = _region(around)
        number = event.get("args", {}).get("Sequence number", -1)
        if event["cat"] == "cpu_op" and region and not region.endswith("backward") and number >= 0:
            regions[number] = region
    found = {}
    products: dict[int, list[Mapping[str, Any]]] = {}
    last = ""
    for event, around in _nested(wanted):
        if event["cat"] != "cpu_op":
            continue
        region = _region(around)
        name = event["name"]
        if region.endswith("backward"):
            if not any(item["name"].startswith(_NODE) for item in [*around, event]) and name in (
                "aten::fill_",
                "aten::ones_like",
            ):
                last = ""  # the gradient of the loss itself
            node = next((item for item in reversed([*around, event]) if item["name"].startswith(_NODE)), None)
            kind = "sum"
            if node is None:
                last = ""  # the gradient of the loss itself
            else:
                number = node["args"].get("Sequence number", -1)
                last = regions.get(number, last)
                kind = "accumulate" if "AccumulateGrad" in node["name"] else "gradient"
                if kind == "gradient" and around[-1] is node and name in ("aten::add", "aten::add_"):
                    kind = "sum"  # what comes back to a tensor by several ways
            product = ""
            if node is not None and name in ("aten::mm", "aten::bmm"):
                of_node = products.setdefault(id(node), [])
                first = _DW_FIRST[node["name"].removeprefix(_NODE)]
                product = "dw" if first is not bool(of_node) else "dx"
                of_node.append(event)
            truth = "|".join(_backward(run, last, kind, event, product))
            found[_ns(event["ts"]), name] = _again(truth) if run.checkpoints else truth
        else:
            if any(str(item["name"]).endswith(".backward") for item in around):
                region = _again(region)
            plain = region.rpartition("-")[2]
            rotary = region.endswith(".rotary")
            truth = f"-{plain}" if "-" in region else region
            if plain == "gradient norm":
                truth = "-gradient norm|-gradient clipping"
            found[_ns(event["ts"]), name] = f"{region}|{region.removesuffix('rotary')}angles" if rotary else truth
    return found


def _again(names: str) -> str:
    """Names of ops of layers as the plan has them where layers run again on the way back."""
    return re.sub(r"(micro_batch\.\d+)\.layers", r"\1.again.layers", names)


def _backward(run: TorchRun, region: str, kind: str, event: Mapping[str, Any], product: str) -> list[str]:
    """Planned ops that an op of the way back through `region` may be, a product's being that gradient."""
    at, tied = region.removesuffix("embedding").removesuffix("lm_head"), run.config["tie_word_embeddings"]
    whole = [f"{at}lm_head.add", f"{at}embedding.add", f"{at}embedding.dw"] if tied and at != region else []
    if kind == "sum":
        if not region:
            return ["-setting memory", *(f"micro_batch.{number}.loss" for number in range(run.micro_batches))]
        return [*(f"{region}.{end}" for end in ("sum", "grad", "dx")), *whole]
    dims = event.get("args", {}).get("Input Dims") or []
    if region.endswith(_LINEAR):
        flat = bool(dims) and len(dims[0]) < 2  # a bias
        if kind == "accumulate":
            return [f"{region}.bias" if flat else f"{region}.add", *whole]
        if product:
            return [f"{region}.{product}"]
        if event["name"] == "aten::sum" and run.bias:
            return [f"{region}.dbias"]
        return [f"{region}.dx", f"{region}.dw", f"{region}.dbias"]
    if region.endswith("embedding"):
        return [*(f"{region}.{end}" for end in ("dw.sum", "dw", "add")), *whole]
    if region.endswith("embedding.positions"):
        return [f"{region}.{end}" for end in ("dw.sum", "dw", "add")]
    return [f"{region}.gamma"] if kind == "accumulate" else [f"{region}.grad", f"{region}.gamma"]


def _nested(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Events in order of start with those around each, of one thread."""
    stack: list[Mapping[str, Any]] = []
    for event in events:
        while stack and _ns(event["ts"]) >= _ns(stack[-1]["ts"]) + _ns(stack[-1]["dur"]):
            stack.pop()
        yield event, list(stack)
        stack.append(event)


def _region(around: Sequence[Mapping[str, Any]]) -> str:
    """The innermost region of ours."""
    names = [event["name"] for event in around if event["cat"] == "user_annotation"]
    return next((str(name) for name in reversed(names) if "#" not in name), "")


def _ns(microseconds: object) -> int:
    return round(float(str(microseconds)) * 1000)


def record(run: TorchRun, target: Path) -> None:
    """Run a model and write its ops with their truth to `target`."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "run.pt.trace.json"
        ran(run, trace)
        rows = labelled_ops(run, trace)
    with gzip.open(target, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    from tests.align.torch_kinds import ALL_RUNS

    for model in sys.argv[2:] or ALL_RUNS:
        record(ALL_RUNS[model], Path(sys.argv[1]) / f"{model}.csv.gz")
