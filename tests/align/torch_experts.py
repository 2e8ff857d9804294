"""The feed-forward parts of the models of `torch_models`: dense, and experts that tokens come to in several ways."""

from __future__ import annotations

from typing import Any

from tests.align.torch_configs import TorchRun


def dense_of(hidden: int, size: int, prefix: str = "") -> Any:
    """A gated part; its regions begin with `prefix`."""
    from torch import nn
    from torch.nn import functional
    from torch.profiler import record_function

    both, down = f"{prefix}gate_proj+{prefix}up_proj", f"{prefix}down_proj"

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up = (nn.Linear(hidden, size, bias=False) for _ in range(2))
            self.down = nn.Linear(size, hidden, bias=False)

        def forward(self, x: Any, at: str) -> Any:
            with record_function(f"{at}{both}"):
                gate = self.gate(x)
            with record_function(f"{at}{prefix}activation"):
                active = functional.silu(gate)
            with record_function(f"{at}{both}"):
                up = self.up(x)
            with record_function(f"{at}{prefix}activation"):
                active = active * up
            with record_function(f"{at}{down}"):
                return self.down(active)

    return Dense()


def experts_of(run: TorchRun) -> Any:
    """A mixture of experts with the routing of `run`, and the experts that all tokens pass."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.profiler import record_function

    config = run.config
    hidden, size = config["hidden_size"], config["moe_intermediate_size"]
    count = config.get("num_experts", config.get("n_routed_experts", 0))
    shared, each = config.get("n_shared_experts", 0), config["num_experts_per_tok"]

    def linear(i: int, o: int) -> Any:
        return nn.Linear(i, o, bias=False)

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = linear(hidden, count)
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
            if shared:
                self.shared = dense_of(hidden, size * shared, "shared_experts.")

        def part(self, name: str, expert: int) -> Any:
            return self.experts[expert][name] if run.experts_apart else getattr(self, name)[expert]

        def passed(self, mine: Any, expert: int, at: str) -> Any:
            """What an expert makes of tokens."""
            with record_function(f"{at}experts.up_proj"):
                gate, up = self.part("gate", expert)(mine), self.part("up", expert)(mine)
            with record_function(f"{at}experts.activation"):
                active = functional.silu(gate) * up
            with record_function(f"{at}experts.down_proj"):
                return self.part("down", expert)(active)

        def forward(self, x: Any, at: str) -> Any:
            flat = x.reshape(-1, hidden)
            with record_function(f"{at}router"):
                logits = self.router(flat)
            with record_function(f"{at}gating"):
                weights = functional.softmax(logits, dim=-1, dtype=torch.float)
                weights, chosen = torch.topk(weights, each, dim=-1)
                weights = weights / weights.sum(dim=-1, keepdim=True)
            taken = self.in_turn if run.routing in ("every", "hits") else self.in_order
            out = taken(flat, weights, chosen, at).reshape(x.shape)
            if shared:
                made = self.shared(x, at)
                with record_function(f"{at}add_shared"):
                    out = out + made
            return out

        def in_turn(self, flat: Any, weights: Any, chosen: Any, at: str) -> Any:
            """One expert after the other looks for its tokens."""
            with record_function(f"{at}combine"):
                out = torch.zeros_like(flat)
            with record_function(f"{at}dispatch"):
                mask = functional.one_hot(chosen, count).permute(2, 1, 0)
                hit = range(count)
                if run.routing == "hits":
                    hit = torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero().flatten().tolist()
            for expert in hit:
                with record_function(f"{at}dispatch"):
                    place, token = torch.where(mask[expert])
                    mine = flat[token]
                found = self.passed(mine, expert, at)
                with record_function(f"{at}combine"):
                    out.index_add_(0, token, found * weights[token, place, None])
            return out

        def in_order(self, flat: Any, weights: Any, chosen: Any, at: str) -> Any:
            """Tokens sorted by expert, each expert taking a stretch of them."""
            with record_function(f"{at}dispatch"):
                if run.routing == "sorted":
                    counts = chosen.new_zeros((len(flat), count))
                    counts.scatter_(1, chosen, 1)
                    stretches = counts.sum(dim=0).tolist()
                else:
                    stretches = torch.bincount(chosen.flatten(), minlength=count).tolist()
                order = chosen.flatten().argsort()
                token = order // each
                routed = flat[token]
            found = []
            begin = 0
            for expert, length in enumerate(stretches):
                if length:
                    with record_function(f"{at}dispatch"):
                        mine = routed[begin : begin + length]
                    found.append(self.passed(mine, expert, at))
                begin += length
            with record_function(f"{at}combine"):
                made = torch.cat(found)
                if run.routing == "sorted":
                    back = torch.empty_like(made)
                    back[order] = made
                    return (back.view(*chosen.shape, hidden) * weights.unsqueeze(-1)).sum(dim=1)
                scaled = made * weights.flatten()[order].unsqueeze(-1)
                return torch.zeros_like(flat).index_add_(0, token, scaled)

    return Experts()
