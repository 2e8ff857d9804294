"""Attention of the models of `torch_models`: grouped, windowed or latent, fused or written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.align.torch_configs import TorchRun


def rotate(x: Any, cos: Any, sin: Any) -> Any:
    """The two halves of every head turned against one another."""
    import torch

    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def turned_width(run: TorchRun) -> int:
    """How much of each head has a position."""
    config = run.config
    heads = config["num_attention_heads"]
    return int(config.get("qk_rope_head_dim", config.get("head_dim", config["hidden_size"] // heads)))


def attend(run: TorchRun, q: Any, k: Any, v: Any, window: int) -> Any:
    """Causal attention of heads side by side; a `window` of 0 is none."""
    import torch
    from torch.nn import functional

    batch, heads, length, width = q.shape
    mask = None
    if window or run.spelt_attention:
        mask = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
        if window:
            mask = mask + torch.full((length, length), float("-inf"), dtype=q.dtype).tril(-window)
    if run.spelt_attention:
        k, v = (item.repeat_interleave(heads // item.shape[1], dim=1) for item in (k, v))
        scores = torch.matmul(q, k.transpose(2, 3)) * width**-0.5
        y = torch.matmul(functional.softmax(scores + mask, dim=-1), v)
    else:
        y = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=k.shape[1] != heads
        )
    return y.transpose(1, 2).reshape(batch, length, -1)


def grouped_attention_of(run: TorchRun, number: int, norm: Callable[[int], Any]) -> Any:
    """Queries that share keys and values, of layer `number`; `norm` makes a norm of a width."""
    from torch import nn
    from torch.profiler import record_function

    config = run.config
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head = config.get("head_dim", hidden // heads)
    widths = [head * heads, head * kv_heads, head * kv_heads]
    windowed = config.get("layer_types", ["sliding_attention"] * (number + 1))[number] == "sliding_attention"
    window = config.get("sliding_window") or 0 if windowed else 0

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if run.joined:
                self.qkv = nn.Linear(hidden, sum(widths), bias="qkv" in run.bias)
            else:
                self.q, self.k, self.v = (nn.Linear(hidden, width, bias="qkv" in run.bias) for width in widths)
            self.o = nn.Linear(widths[0], hidden, bias="o" in run.bias)
            self.small = nn.ModuleList([norm(head), norm(head)]) if run.small_norms else None

        def forward(self, y: Any, cos: Any, sin: Any, at: str) -> Any:
            batch, length, _ = y.shape
            # Served models are planned without a split.
            split = f"{at}split" if run.trains else f"{at}q_proj+k_proj+v_proj"
            with record_function(f"{at}q_proj+k_proj+v_proj"):
                both: Any = self.qkv(y) if run.joined else (self.q(y), self.k(y), self.v(y))
            with record_function(split):
                parts = both.split(widths, dim=-1) if run.joined else both
                q, k, v = (item.view(batch, length, -1, head) for item in parts)
            if self.small is not None:
                with record_function(f"{at}q_norm"):
                    q = self.small[0](q)
                with record_function(f"{at}k_norm"):
                    k = self.small[1](k)
            with record_function(split):
                q, k, v = (item.transpose(1, 2) for item in (q, k, v))
            if cos is not None:
                with record_function(f"{at}q.rotary" if run.trains else f"{at}rotary"):
                    q = rotate(q, cos, sin)
                with record_function(f"{at}k.rotary" if run.trains else f"{at}rotary"):
                    k = rotate(k, cos, sin)
            with record_function(f"{at}attention"):
                y = attend(run, q, k, v, window)
            with record_function(f"{at}o_proj"):
                return self.o(y)

    return Attention()


def latent_attention_of(run: TorchRun, norm: Callable[[int], Any]) -> Any:
    """Keys and values lifted from a latent, queries of low rank."""
    import torch
    from torch import nn
    from torch.profiler import record_function

    config = run.config
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    nope, rope, wide = (config[f"{name}_head_dim"] for name in ("qk_nope", "qk_rope", "v"))
    rank, low = config["kv_lora_rank"], config["q_lora_rank"]

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_a = nn.Linear(hidden, low, bias=False)
            self.q_a_norm = norm(low)
            self.q_b = nn.Linear(low, heads * (nope + rope), bias=False)
            self.kv_a = nn.Linear(hidden, rank + rope, bias=False)
            self.kv_a_norm = norm(rank)
            self.kv_b = nn.Linear(rank, heads * (nope + wide), bias=False)
            self.o = nn.Linear(heads * wide, hidden, bias=False)

        def forward(self, y: Any, cos: Any, sin: Any, at: str) -> Any:
            batch, length, _ = y.shape
            with record_function(f"{at}q_a_proj"):
                q = self.q_a(y)
            with record_function(f"{at}q_norm"):
                q = self.q_a_norm(q)
            with record_function(f"{at}q_b_proj"):
                q = self.q_b(q)
            with record_function(f"{at}q.rotary"):
                q = q.view(batch, length, heads, -1).transpose(1, 2)
                q_nope, q_rope = q.split([nope, rope], dim=-1)
            with record_function(f"{at}kv_a_proj_with_mqa"):
                both = self.kv_a(y)
            with record_function(f"{at}split"):
                latent, position = both.split([rank, rope], dim=-1)
            with record_function(f"{at}kv_norm"):
                latent = self.kv_a_norm(latent)
            with record_function(f"{at}kv_b_proj"):
                lifted = self.kv_b(latent)
            with record_function(f"{at}split_kv"):
                lifted = lifted.view(batch, length, heads, -1).transpose(1, 2)
                k_nope, v = lifted.split([nope, wide], dim=-1)
            with record_function(f"{at}q.rotary"):
                q = torch.cat((q_nope, rotate(q_rope, cos, sin)), dim=-1)
            with record_function(f"{at}k.rotary"):
                position = rotate(position.view(batch, 1, length, rope), cos, sin)
            with record_function(f"{at}join_keys"):
                k = torch.cat((k_nope, position.expand(-1, heads, -1, -1)), dim=-1)
            with record_function(f"{at}attention"):
                y = attend(run, q, k, v, 0)
            with record_function(f"{at}o_proj"):
                return self.o(y)

    return Attention()
