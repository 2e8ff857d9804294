"""
The models of `torch_configs` in plain PyTorch, written as HuggingFace transformers writes them.

Every part runs inside a region of the name that the plan has for it; `-what` where no plan has it.
"""

from __future__ import annotations

from typing import Any

from tests.align.torch_configs import TorchRun


def model_of(run: TorchRun) -> Any:
    """The model: it takes tokens, labels (none where the run doesn't train) and the name of the region around it."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.profiler import record_function

    from tests.align.torch_experts import dense_of, experts_of

    config = run.config
    hidden, heads, kv_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim", hidden // heads)

    experts = config.get("num_experts", config.get("n_routed_experts", 0))

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

    def sparse(number: int) -> bool:
        """Whether a layer has experts."""
        if (
            not experts
            or number in config.get("mlp_only_layers", ())
            or number < config.get("first_k_dense_replace", 0)
        ):
            return False
        return (number + 1) % int(config.get("decoder_sparse_step", 1)) == 0

    def split(at: str) -> str:
        """The region of the split; served models are planned without one."""
        return f"{at}split" if run.trains else f"{at}q_proj+k_proj+v_proj"

    class Layer(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            if not run.norms_last:
                self.norms = nn.ModuleList([Norm(hidden), Norm(hidden)])
            self.q, self.k, self.v = (linear(hidden, head * count) for count in (heads, kv_heads, kv_heads))
            self.o = linear(head * heads, hidden)
            self.small = nn.ModuleList([Norm(head), Norm(head)]) if "head_dim" in config else None
            self.ffn = experts_of(run) if sparse(number) else dense_of(hidden, config["intermediate_size"])
            if run.norms_last:
                self.norms = nn.ModuleList([Norm(hidden), Norm(hidden)])

        def forward(self, x: Any, cos: Any, sin: Any, at: str) -> Any:
            batch, length, _ = x.shape
            with record_function(f"{at}norm.0"):
                y = self.norms[0](x)
            with record_function(f"{at}q_proj+k_proj+v_proj"):
                q, k, v = self.q(y), self.k(y), self.v(y)
            with record_function(split(at)):
                q, k, v = (item.view(batch, length, -1, head) for item in (q, k, v))
            if self.small is not None:
                with record_function(f"{at}q_norm"):
                    q = self.small[0](q)
                with record_function(f"{at}k_norm"):
                    k = self.small[1](k)
            with record_function(split(at)):
                q, k, v = (item.transpose(1, 2) for item in (q, k, v))
            with record_function(f"{at}q.rotary" if run.trains else f"{at}rotary"):
                q = rotate(q, cos, sin)
            with record_function(f"{at}k.rotary" if run.trains else f"{at}rotary"):
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
            self.layers = nn.ModuleList(Layer(number) for number in range(config["num_hidden_layers"]))
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
            if not run.trains:
                x = x[:, -1]
            with record_function(f"{at}final_norm"):
                x = self.norm(x)
            with record_function(f"{at}lm_head"):
                logits = self.head(x)
            if not run.trains:
                with record_function(f"{at}sample"):
                    return logits.argmax(dim=-1)
            with record_function(f"{at}loss"):
                return functional.cross_entropy(logits.float().reshape(-1, config["vocab_size"]), labels.reshape(-1))

    torch.manual_seed(0)
    return Model()
