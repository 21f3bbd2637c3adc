"""A Llama in PyTorch, with GGUF's tensor names and layout.

state_dict keys are GGUF's tensor names, and rotary embeddings turn neighbouring
pairs as llama.cpp does for this architecture, so that weights go from a GGUF file
into the module and back without being renamed or permuted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import DistillError


@dataclass(frozen=True)
class Config:
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    rope_base: float
    eps: float
    tied: bool  # the head is the token embedding
    rope_factors: bool = False  # divisors of the rotary frequencies come with the weights (Llama 3)

    def __post_init__(self) -> None:
        counts = (self.vocab, self.width, self.layers, self.heads, self.kv_heads, self.head_dim, self.ffn, self.context)
        if min(counts) < 1 or self.heads % self.kv_heads or self.head_dim % 2:
            raise DistillError(f"the model's sizes do not make a Llama: {self}")


class Block(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.heads, c.kv_heads, c.head_dim
        self.attn_norm = nn.RMSNorm(c.width, c.eps)
        self.attn_q = nn.Linear(c.width, c.heads * c.head_dim, bias=False)
        self.attn_k = nn.Linear(c.width, c.kv_heads * c.head_dim, bias=False)
        self.attn_v = nn.Linear(c.width, c.kv_heads * c.head_dim, bias=False)
        self.attn_output = nn.Linear(c.heads * c.head_dim, c.width, bias=False)
        self.ffn_norm = nn.RMSNorm(c.width, c.eps)
        self.ffn_gate = nn.Linear(c.width, c.ffn, bias=False)
        self.ffn_up = nn.Linear(c.width, c.ffn, bias=False)
        self.ffn_down = nn.Linear(c.ffn, c.width, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        b, n, _ = x.shape
        h = self.attn_norm(x)
        q = _rotate(self.attn_q(h).view(b, n, self.heads, self.head_dim), rope).transpose(1, 2)
        k = _rotate(self.attn_k(h).view(b, n, self.kv_heads, self.head_dim), rope).transpose(1, 2)
        v = self.attn_v(h).view(b, n, self.kv_heads, self.head_dim).transpose(1, 2)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        a = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True)
        x = x + self.attn_output(a.transpose(1, 2).reshape(b, n, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


def _rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rope
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class _Factors(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(n))


class Llama(nn.Module):
    """Sequences of a batch are padded at their ends: attention is causal, so that
    padding is never seen by what is before it and needs no mask."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.token_embd = nn.Embedding(c.vocab, c.width)
        self.blk = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.output_norm = nn.RMSNorm(c.width, c.eps)
        self.output = None if c.tied else nn.Linear(c.width, c.vocab, bias=False)
        self.rope_freqs = _Factors(c.head_dim // 2) if c.rope_factors else None

    @property
    def head(self) -> Tensor:
        """The output matrix, vocab × width."""
        return self.token_embd.weight if self.output is None else self.output.weight

    def rope(self, n: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for positions 0..n-1, to go with (batch, n, heads, head_dim / 2)."""
        c, device = self.config, self.token_embd.weight.device
        freqs = c.rope_base ** (-torch.arange(0, c.head_dim, 2, device=device, dtype=torch.float32) / c.head_dim)
        if self.rope_freqs is not None:
            freqs = freqs / self.rope_freqs.weight
        angles = torch.arange(n, device=device, dtype=torch.float32)[:, None, None] * freqs
        dtype = self.token_embd.weight.dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """The normalised last hidden states, (batch, n, width); the head is left to the
        caller, who seldom wants a row of logits for every token at once."""
        x, rope = self.token_embd(tokens), self.rope(tokens.shape[1])
        for block in self.blk:
            x = block(x, rope)
        return self.output_norm(x)


def build(c: Config, state: dict[str, Tensor]) -> Llama:
    """A model of these weights, which it takes over. Weights that are missing or left
    over are an error: they would be a model that this one is not."""
    with torch.device("meta"):
        model = Llama(c)
    want = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    have = {name: tuple(t.shape) for name, t in state.items()}
    if want != have:
        odd = sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name))
        raise DistillError(f"the model is not a plain Llama; tensors that do not fit: {', '.join(odd[:8])}")
    model.load_state_dict(state, assign=True)
    return model


def keep(teacher: Llama, layers: Sequence[int]) -> Llama:
    """A student of copies of the teacher's given layers, in the given order."""
    c = teacher.config
    if not layers or any(not 0 <= i < c.layers for i in layers) or len(set(layers)) != len(layers):
        raise DistillError(f"layers to keep must be different numbers from 0 to {c.layers - 1}, not {list(layers)}")
    state = {}
    for name, tensor in teacher.state_dict().items():
        if not name.startswith("blk."):
            state[name] = tensor.clone()
    for new, old in enumerate(layers):
        for name, tensor in teacher.blk[old].state_dict().items():
            state[f"blk.{new}.{name}"] = tensor.clone()
    return build(replace(c, layers=len(layers)), state)


def argmax_rows(hidden: Tensor, head: Tensor, chunk: int = 256) -> Tensor:
    """The most likely token of each hidden state, a chunk of rows at a time."""
    return torch.cat([(rows.to(head.dtype) @ head.T).argmax(-1) for rows in hidden.split(chunk)])
