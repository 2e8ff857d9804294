"""
Training steps of small Llamas and small MoEs in PyTorch on a CPU, with the truth beside every op that ran.

`python -m tests.align.torch_runs FOLDER [NAME ...]` records them as tables for where PyTorch is not installed. Each
part of the model runs inside a region of that name; ops of the way back carry the sequence number of the forward op
whose gradient they are, by which they find its region. What the plan calls the parts is said here, not read from the
plan.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SIZES: Mapping[str, object] = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 2000,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "hidden_act": "silu",
}
LLAMA: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 4,
    "rms_norm_eps": 1e-5,
}
MOE: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-6,
    "head_dim": 32,
    "moe_intermediate_size": 192,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
LLAMA_GROUPED: Mapping[str, object] = {
    **LLAMA,
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 1200,
    "num_hidden_layers": 5,
}
MOE_TOP4: Mapping[str, object] = {
    **MOE,
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "vocab_size": 1600,
    "num_hidden_layers": 2,
    "moe_intermediate_size": 96,
    "num_experts": 12,
    "num_experts_per_tok": 4,
}
MIXTRAL: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-5,
    "intermediate_size": 320,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 320,
}

LLAMA_WIDE: Mapping[str, object] = {
    **LLAMA,
    "hidden_size": 320,
    "intermediate_size": 832,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "vocab_size": 1500,
    "num_hidden_layers": 3,
}
LLAMA_SHORT: Mapping[str, object] = {
    **LLAMA,
    "hidden_size": 288,
    "intermediate_size": 640,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 1800,
    "num_hidden_layers": 2,
}
MOE_TOP2_OF_16: Mapping[str, object] = {
    **MOE,
    "hidden_size": 224,
    "intermediate_size": 512,
    "num_attention_heads": 7,
    "num_key_value_heads": 7,
    "vocab_size": 1400,
    "num_hidden_layers": 2,
    "moe_intermediate_size": 144,
    "num_experts": 16,
    "num_experts_per_tok": 2,
}


@dataclass(frozen=True, slots=True)
class TorchRun:
    """
    A run to record: the model, the shape of a step, and how the model is written.

    `norms_last` is whether a layer registers its norms behind its matrices, `spelt_attention` whether attention is
    two products with a softmax between, `experts_apart` whether each expert is a module of its own.
    """

    config: Mapping[str, Any]
    batch: int = 2
    sequence: int = 160
    micro_batches: int = 2
    norms_last: bool = False
    spelt_attention: bool = False
    experts_apart: bool = False


RUNS: Mapping[str, TorchRun] = {"llama": TorchRun(LLAMA), "moe": TorchRun(MOE)}
"""Runs that were at hand while the alignment was built."""
FRESH_RUNS: Mapping[str, TorchRun] = {
    "llama_grouped": TorchRun(LLAMA_GROUPED, 3, 112, 1, norms_last=True, spelt_attention=True),
    "moe_top4": TorchRun(MOE_TOP4, 2, 64, 3, norms_last=True, experts_apart=True),
    "mixtral": TorchRun(MIXTRAL, 1, 224, 1, norms_last=True, experts_apart=True),
    "llama_wide": TorchRun(LLAMA_WIDE, 1, 192, 2),
    "llama_short": TorchRun(LLAMA_SHORT, 2, 80, 4, norms_last=True, spelt_attention=True),
    "moe_top2_16": TorchRun(MOE_TOP2_OF_16, 2, 96, 2, experts_apart=True),
}
"""
Runs of other models: llama_grouped and moe_top4 were looked at before the alignment's last changes, mixtral and the
three behind it once, when it was done.
"""
ALL_RUNS: Mapping[str, TorchRun] = {**RUNS, **FRESH_RUNS}
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
)
_PLANNED = {
    "ffn.gate": "gate_proj+up_proj",
    "ffn.up": "gate_proj+up_proj",
    "ffn.down": "down_proj",
    "ffn.router": "router",
    "norms.": "norm.",
    "small.0": "q_norm",
    "small.1": "k_norm",
    "embedding": "embed_tokens",
    "head": "lm_head",
}
_NODE = "autograd::engine::evaluate_function: "


def model_of(run: TorchRun) -> Any:
    """The model in plain PyTorch, written as HuggingFace transformers writes it, every part in a region of its name."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.profiler import record_function

    config = run.config
    hidden, heads, kv_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim", hidden // heads)

    class Norm(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

        def forward(self, x: Any) -> Any:
            wide = x.float()
            variance = wide.pow(2).mean(-1, keepdim=True)
            return self.weight * (wide * torch.rsqrt(variance + config["rms_norm_eps"])).to(x.dtype)

    def linear(i: int, o: int) -> Any:
        return nn.Linear(i, o, bias=False)

    def rotate(x: Any, cos: Any, sin: Any) -> Any:
        half = x.shape[-1] // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = linear(hidden, config["num_experts"])
            size, count = config["moe_intermediate_size"], config["num_experts"]
            if run.experts_apart:
                self.experts = nn.ModuleList(
                    nn.ModuleDict(
                        {"gate": linear(hidden, size), "up": linear(hidden, size), "down": linear(size, hidden)}
                    )
                    for _ in range(count)
                )
            else:
                self.gate = nn.ModuleList(linear(hidden, size) for _ in range(count))
                self.up = nn.ModuleList(linear(hidden, size) for _ in range(count))
                self.down = nn.ModuleList(linear(size, hidden) for _ in range(count))

        def part(self, name: str, expert: int) -> Any:
            return self.experts[expert][name] if run.experts_apart else getattr(self, name)[expert]

        def forward(self, x: Any, at: str) -> Any:
            flat = x.reshape(-1, hidden)
            with record_function(f"{at}router"):
                logits = self.router(flat)
            with record_function(f"{at}gating"):
                weights = functional.softmax(logits, dim=-1, dtype=torch.float)
                weights, chosen = torch.topk(weights, config["num_experts_per_tok"], dim=-1)
                weights = weights / weights.sum(dim=-1, keepdim=True)
            with record_function(f"{at}combine"):
                out = torch.zeros_like(flat)
            with record_function(f"{at}dispatch"):
                mask = functional.one_hot(chosen, config["num_experts"]).permute(2, 1, 0)
            for expert in range(config["num_experts"]):
                with record_function(f"{at}dispatch"):
                    place, token = torch.where(mask[expert])
                    mine = flat[token]
                with record_function(f"{at}experts.up_proj"):
                    gate, up = self.part("gate", expert)(mine), self.part("up", expert)(mine)
                with record_function(f"{at}experts.activation"):
                    active = functional.silu(gate) * up
                with record_function(f"{at}experts.down_proj"):
                    found = self.part("down", expert)(active)
                with record_function(f"{at}combine"):
                    out.index_add_(0, token, found * weights[token, place, None])
            return out.reshape(x.shape)

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = config["intermediate_size"]
            self.gate, self.up, self.down = linear(hidden, size), linear(hidden, size), linear(size, hidden)

        def forward(self, x: Any, at: str) -> Any:
            with record_function(f"{at}gate_proj+up_proj"):
                gate = self.gate(x)
            with record_function(f"{at}activation"):
                active = functional.silu(gate)
            with record_function(f"{at}gate_proj+up_proj"):
                up = self.up(x)
            with record_function(f"{at}activation"):
                active = active * up
            with record_function(f"{at}down_proj"):
                return self.down(active)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if not run.norms_last:
                self.norms = nn.ModuleList([Norm(hidden), Norm(hidden)])
            self.q, self.k, self.v = (linear(hidden, head * count) for count in (heads, kv_heads, kv_heads))
            self.o = linear(head * heads, hidden)
            self.small = nn.ModuleList([Norm(head), Norm(head)]) if "head_dim" in config else None
            self.ffn = Experts() if "num_experts" in config else Dense()
            if run.norms_last:
                self.norms = nn.ModuleList([Norm(hidden), Norm(hidden)])

        def forward(self, x: Any, cos: Any, sin: Any, at: str) -> Any:
            batch, length, _ = x.shape
            with record_function(f"{at}norm.0"):
                y = self.norms[0](x)
            with record_function(f"{at}q_proj+k_proj+v_proj"):
                q, k, v = self.q(y), self.k(y), self.v(y)
            with record_function(f"{at}split"):
                q, k, v = (item.view(batch, length, -1, head) for item in (q, k, v))
            if self.small is not None:
                with record_function(f"{at}q_norm"):
                    q = self.small[0](q)
                with record_function(f"{at}k_norm"):
                    k = self.small[1](k)
            with record_function(f"{at}split"):
                q, k, v = (item.transpose(1, 2) for item in (q, k, v))
            with record_function(f"{at}q.rotary"):
                q = rotate(q, cos, sin)
            with record_function(f"{at}k.rotary"):
                k = rotate(k, cos, sin)
            with record_function(f"{at}attention"):
                if run.spelt_attention:
                    k, v = (item.repeat_interleave(heads // kv_heads, dim=1) for item in (k, v))
                    scores = torch.matmul(q, k.transpose(2, 3)) * head**-0.5
                    mask = torch.full((length, length), float("-inf")).triu(1)
                    y = torch.matmul(functional.softmax(scores + mask, dim=-1), v)
                else:
                    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                y = y.transpose(1, 2).reshape(batch, length, -1)
            with record_function(f"{at}o_proj"):
                y = self.o(y)
            with record_function(f"{at}attention.add"):
                x = x + y
            with record_function(f"{at}norm.1"):
                y = self.norms[1](x)
            y = self.ffn(y, at)
            with record_function(f"{at}ffn.add"):
                return x + y

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(config["vocab_size"], hidden)
            self.layers = nn.ModuleList(Layer() for _ in range(config["num_hidden_layers"]))
            self.norm = Norm(hidden)
            self.head = linear(hidden, config["vocab_size"])

        def forward(self, tokens: Any, labels: Any, at: str) -> Any:
            with record_function(f"{at}embedding"):
                x = self.embedding(tokens)
            with record_function(f"{at}-positions"):
                scale = config["rope_theta"] ** (-torch.arange(0, head, 2).float() / head)
                angle = torch.outer(torch.arange(tokens.shape[1]).float(), scale)
                angle = torch.cat((angle, angle), dim=-1)
                cos, sin = angle.cos(), angle.sin()
            for number, layer in enumerate(self.layers):
                x = layer(x, cos, sin, f"{at}layers.{number}.")
            with record_function(f"{at}final_norm"):
                x = self.norm(x)
            with record_function(f"{at}lm_head"):
                logits = self.head(x)
            with record_function(f"{at}loss"):
                return functional.cross_entropy(logits.float().reshape(-1, config["vocab_size"]), labels.reshape(-1))

    torch.manual_seed(0)
    return Model()


def trained(run: TorchRun, trace: Path) -> None:
    """Run two steps of training after a warm-up and write torch.profiler's trace of them to `trace`."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    torch.set_num_threads(1)
    model = model_of(run)
    optimizers = [
        (weight_part(name), torch.optim.AdamW([weight], lr=1e-3, foreach=False))
        for name, weight in model.named_parameters()
    ]
    data = torch.randint(0, run.config["vocab_size"], (run.micro_batches, 2, run.batch, run.sequence))

    def step() -> None:
        for _, optimizer in optimizers:
            optimizer.zero_grad()
        for number, (tokens, labels) in enumerate(data):
            at = f"micro_batch.{number}."
            loss = model(tokens, labels, at)
            with record_function(f"{at}backward"):
                loss.backward()
        with record_function("-gradient norm"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        for part, optimizer in optimizers:
            with record_function(part):
                optimizer.step()

    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(2):
            step()
    profiler.export_chrome_trace(str(trace))


def weight_part(name: str) -> str:
    """What the plan calls the update of the weight that PyTorch calls `name`."""
    path = name.removesuffix(".weight")
    for old, new in _PLANNED.items():
        path = path.replace(old, new)
    parts = path.split(".")
    if parts[-1] in ("q", "k", "v"):
        parts[-1] = "q_proj+k_proj+v_proj"
    if parts[-1] == "o":
        parts[-1] = "o_proj"
    if "experts" in parts:
        parts = [*parts[:2], "experts", "down_proj" if parts[-1] == "down" else "up_proj"]
    if parts[-1].isdigit() and parts[-2] in ("gate_proj+up_proj", "down_proj"):
        parts[-2:] = ["experts", "down_proj" if parts[-2] == "down_proj" else "up_proj"]
    return ".".join(parts) + ".adam"


def labelled_ops(run: TorchRun, trace: Path) -> list[dict[str, str]]:
    """The ops of torch.profiler's trace as rows of `COLUMNS`; `truth` names the planned ops that each may be."""
    import memplan

    kernels = memplan.open_profile(trace).rank(0).kernels()
    assert kernels is not None
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("ph") == "X"]
    truths = _truths(run, events)
    rows = []
    for place in range(len(kernels)):
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
            found[_ns(event["ts"]), name] = "|".join(_backward(run, last, kind, event))
        else:
            plain = region.rpartition("-")[2]
            rotary = region.endswith(".rotary")
            truth = f"-{plain}" if "-" in region else region
            if plain == "gradient norm":
                truth = "-gradient norm|-gradient clipping"
            found[_ns(event["ts"]), name] = f"{region}|{region.removesuffix('rotary')}angles" if rotary else truth
    return found


def _backward(run: TorchRun, region: str, kind: str, event: Mapping[str, Any]) -> list[str]:
    """Planned ops that an op of the way back through `region` may be."""
    if kind == "sum":
        if not region:
            return ["-setting memory", *(f"micro_batch.{number}.loss" for number in range(run.micro_batches))]
        return [f"{region}.{end}" for end in ("sum", "grad", "dx")]
    if region.endswith(_LINEAR):
        if kind == "accumulate":
            return [f"{region}.add"]
        dims = event.get("args", {}).get("Input Dims") or []
        if event["name"] in ("aten::mm", "aten::addmm") and len(dims) >= 2:
            return [f"{region}.{_product(run, region, dims)}"]
        return [f"{region}.dx", f"{region}.dw"]
    if region.endswith("embedding"):
        return [f"{region}.{end}" for end in ("dw.sum", "dw", "add")]
    return [f"{region}.gamma"] if kind == "accumulate" else [f"{region}.grad", f"{region}.gamma"]


def _product(run: TorchRun, region: str, dims: Sequence[Sequence[int]]) -> str:
    """Which of the two gradients a product is: that of a weight sums over tokens, of which no weight has a side."""
    return "dw" if _is_tokens(run, region, dims[0][1]) else "dx"


def _is_tokens(run: TorchRun, region: str, size: int) -> bool:
    heads, width = run.config["num_attention_heads"], run.config["hidden_size"]
    head = run.config.get("head_dim", width // heads)
    sides = {value for value in run.config.values() if isinstance(value, int)}
    sides |= {head * heads, head * run.config["num_key_value_heads"]}
    return size == run.batch * run.sequence or (".experts." in region and size not in sides)


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


def record(name: str, target: Path) -> None:
    """Run a model and write its ops with their truth to `target`."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / f"{name}.pt.trace.json"
        trained(ALL_RUNS[name], trace)
        rows = labelled_ops(ALL_RUNS[name], trace)
    with gzip.open(target, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    for model in sys.argv[2:] or ALL_RUNS:
        record(model, Path(sys.argv[1]) / f"{model}.csv.gz")
