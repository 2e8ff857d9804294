"""The feed-forward parts of the models of `torch_models`: dense, and experts that tokens come to in several ways."""

from __future__ import annotations

from typing import Any

from tests.align.torch_configs import TorchRun


def dense_of(run: TorchRun, size: int, prefix: str = "") -> Any:
    """A part with a gate or without; its regions begin with `prefix`."""
    from torch import nn
    from torch.nn import functional
    from torch.profiler import record_function

    hidden, bias = run.config["hidden_size"], "ffn" in run.bias
    both, down = f"{prefix}gate_proj+{prefix}up_proj", f"{prefix}down_proj"
    acts = functional.gelu if run.gelu else functional.silu

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if run.joined and run.gated:
                self.both = nn.Linear(hidden, 2 * size, bias=bias)
            elif run.gated:
                self.gate = nn.Linear(hidden, size, bias=bias)
            if not (run.joined and run.gated):
                self.up = nn.Linear(hidden, size, bias=bias)
            self.down = nn.Linear(size, hidden, bias=bias)

        def forward(self, x: Any, at: str) -> Any:
            active = self.plain(x, at) if not run.gated else self.halves(x, at) if run.joined else self.turns(x, at)
            with record_function(f"{at}{down}"):
                return self.down(active)

        def plain(self, x: Any, at: str) -> Any:
            with record_function(f"{at}{prefix}up_proj"):
                up = self.up(x)
            with record_function(f"{at}{prefix}activation"):
                return acts(up)

        def halves(self, x: Any, at: str) -> Any:
            with record_function(f"{at}{both}"):
                joint = self.both(x)
            with record_function(f"{at}{prefix}activation"):
                gate, up = joint.chunk(2, dim=-1)
                return acts(gate) * up

        def turns(self, x: Any, at: str) -> Any:
            with record_function(f"{at}{both}"):
                gate = self.gate(x)
            with record_function(f"{at}{prefix}activation"):
                active = acts(gate)
            with record_function(f"{at}{both}"):
                up = self.up(x)
            with record_function(f"{at}{prefix}activation"):
                return active * up

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
    shared = config.get("shared_expert_intermediate_size", size * config.get("n_shared_experts", 0))
    each, acts = config["num_experts_per_tok"], functional.gelu if run.gelu else functional.silu

    def linear(i: int, o: int) -> Any:
        return nn.Linear(i, o, bias=False)

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = linear(hidden, count)
            self.register_buffer("corrections", torch.zeros(count))
            if run.routing == "batched":
                self.up = nn.Parameter(torch.randn(count, hidden, 2 * size) * 0.02)
                self.down = nn.Parameter(torch.randn(count, size, hidden) * 0.02)
            elif run.experts_apart:
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
                self.shared = dense_of(run, shared, "shared_experts.")
                if run.shared_gate:
                    self.shared_gate = linear(hidden, 1)

        def part(self, name: str, expert: int) -> Any:
            return self.experts[expert][name] if run.experts_apart else getattr(self, name)[expert]

        def passed(self, mine: Any, expert: int, at: str) -> Any:
            """What an expert makes of tokens."""
            with record_function(f"{at}experts.up_proj"):
                gate, up = self.part("gate", expert)(mine), self.part("up", expert)(mine)
            with record_function(f"{at}experts.activation"):
                active = acts(gate) * up
            with record_function(f"{at}experts.down_proj"):
                return self.part("down", expert)(active)

        def forward(self, x: Any, at: str) -> Any:
            flat = x.reshape(-1, hidden)
            with record_function(f"{at}router"):
                logits = self.router(flat)
            with record_function(f"{at}gating"):
                if run.config.get("scoring_func") == "sigmoid":
                    scores = logits.float().sigmoid()
                    chosen = torch.topk(scores + self.corrections, each, dim=-1, sorted=False).indices
                    weights = scores.gather(1, chosen)
                else:
                    weights = functional.softmax(logits, dim=-1, dtype=torch.float)
                    weights, chosen = torch.topk(weights, each, dim=-1)
                weights = (weights / weights.sum(dim=-1, keepdim=True)).to(flat.dtype)
            taken = self.at_once if run.routing == "batched" else self.in_order
            if run.routing in ("every", "hits"):
                taken = self.in_turn
            out = taken(flat, weights, chosen, at).reshape(x.shape)
            if shared:
                made = self.shared(x, at)
                if run.shared_gate:
                    with record_function(f"{at}shared_expert_gate"):
                        gate = self.shared_gate(x)
                    with record_function(f"{at}shared.gate"):
                        made = gate.sigmoid() * made
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

        def at_once(self, flat: Any, weights: Any, chosen: Any, at: str) -> Any:
            """Every expert takes all tokens, those of others with a weight of zero."""
            with record_function(f"{at}dispatch"):
                shares = torch.zeros(len(flat), count, dtype=flat.dtype).scatter(1, chosen, weights)
                mine = flat.repeat(count, 1).view(count, -1, hidden)
            with record_function(f"{at}experts.up_proj"):
                both = torch.bmm(mine, self.up)
            with record_function(f"{at}experts.activation"):
                gate, up = both.chunk(2, dim=-1)
                active = acts(gate) * up
            with record_function(f"{at}experts.down_proj"):
                found = torch.bmm(active, self.down)
            with record_function(f"{at}combine"):
                return (found * shares.t().unsqueeze(-1)).sum(dim=0)

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
