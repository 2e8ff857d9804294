"""
The models of `torch_configs` in plain PyTorch, written as HuggingFace transformers writes them.

Every part runs inside a region of the name that the plan has for it; `-what` where no plan has it.
"""

from __future__ import annotations

from typing import Any

from tests.align.torch_configs import Norms, TorchRun


def model_of(run: TorchRun) -> Any:
    """The model: it takes tokens, labels (none where the run doesn't train) and the name of the region around it."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.profiler import record_function
    from torch.utils.checkpoint import checkpoint

    from tests.align.torch_attention import grouped_attention_of, latent_attention_of, turned_width
    from tests.align.torch_experts import dense_of, experts_of

    config = run.config
    hidden, turned = config["hidden_size"], turned_width(run)
    experts = config.get("num_experts", config.get("n_routed_experts", 0))
    eps = config.get("rms_norm_eps", 1e-5)

    class Norm(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

        def forward(self, x: Any) -> Any:
            if run.norm is Norms.FUSED:
                return functional.rms_norm(x, x.shape[-1:], self.weight, eps)
            wide = x.float()
            variance = wide.pow(2).mean(-1, keepdim=True)
            return self.weight * (wide * torch.rsqrt(variance + eps)).to(x.dtype)

    def norm(size: int) -> Any:
        if run.norm is Norms.LAYER:
            return nn.LayerNorm(size, eps=eps, bias="norm" in run.bias)
        return Norm(size)

    def sparse(number: int) -> bool:
        """Whether a layer has experts."""
        if (
            not experts
            or number in config.get("mlp_only_layers", ())
            or number < config.get("first_k_dense_replace", 0)
        ):
            return False
        return (number + 1) % int(config.get("decoder_sparse_step", 1)) == 0

    class Layer(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            if not run.norms_last:
                self.norms = nn.ModuleList(norm(hidden) for _ in range(run.norms))
            latent = "kv_lora_rank" in config
            self.mixer = latent_attention_of(run, norm) if latent else grouped_attention_of(run, number, norm)
            self.ffn = experts_of(run) if sparse(number) else dense_of(run, config["intermediate_size"])
            if run.norms_last:
                self.norms = nn.ModuleList(norm(hidden) for _ in range(run.norms))

        def normed(self, place: int, x: Any, at: str) -> Any:
            with record_function(f"{at}norm.{place}"):
                return self.norms[place](x)

        def forward(self, x: Any, cos: Any, sin: Any, at: str) -> Any:
            y = self.normed(0, x, at)
            before = y
            y = self.mixer(y, cos, sin, at)
            if run.norms == 4:
                y = self.normed(1, y, at)
            with record_function(f"{at}attention.add"):
                x = x + y
            if run.norms > 1:
                before = self.normed(run.norms // 2, x, at)
            y = self.ffn(before, at)
            if run.norms == 4:
                y = self.normed(3, y, at)
            with record_function(f"{at}ffn.add"):
                return x + y

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(config["vocab_size"], hidden)
            if run.learnt_positions:
                self.positions = nn.Embedding(config["max_position_embeddings"], hidden)
            self.layers = nn.ModuleList(Layer(number) for number in range(config["num_hidden_layers"]))
            self.norm = norm(hidden)
            self.head = nn.Linear(hidden, config["vocab_size"], bias=False)
            if config["tie_word_embeddings"]:
                self.head.weight = self.embedding.weight

        def angles(self, length: int, at: str) -> tuple[Any, Any]:
            if run.learnt_positions:
                return None, None
            with record_function(f"{at}-positions"):
                scale = config["rope_theta"] ** (-torch.arange(0, turned, 2).float() / turned)
                angle = torch.outer(torch.arange(length).float(), scale)
                angle = torch.cat((angle, angle), dim=-1)
                return angle.cos().to(self.norm.weight.dtype), angle.sin().to(self.norm.weight.dtype)

        def forward(self, tokens: Any, labels: Any, at: str) -> Any:
            with record_function(f"{at}embedding"):
                x = self.embedding(tokens)
            if run.learnt_positions:
                with record_function(f"{at}-positions"):
                    places = torch.arange(tokens.shape[1])
                with record_function(f"{at}embedding.positions"):
                    x = x + self.positions(places)
            cos, sin = self.angles(tokens.shape[1], at)
            for number, layer in enumerate(self.layers):
                inside = f"{at}layers.{number}."
                if run.checkpoints:
                    x = checkpoint(layer, x, cos, sin, inside, use_reentrant=False)
                else:
                    x = layer(x, cos, sin, inside)
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
    return Model().to(getattr(torch, config["torch_dtype"]))
