"""What a token costs, from a GGUF file's tensors.

Decoding reads every weight once: bytes are the price where memory is the limit,
multiplications where arithmetic is. The head counts; the embedding that is only
looked up does not; where they are one tensor, it counts once.
"""

from dataclasses import dataclass
from pathlib import Path

from .ggufs import open_gguf


@dataclass(frozen=True)
class Cost:
    bytes: int
    flops: int  # two for each weight
    head_bytes: int


def of(path: Path) -> Cost:
    tensors = {t.name: t for t in open_gguf(path).tensors}
    head = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    read = [t for name, t in tensors.items() if name == head or name != "token_embd.weight"]
    return Cost(
        bytes=sum(int(t.n_bytes) for t in read),
        flops=2 * sum(int(t.n_elements) for t in read if len(t.shape) > 1),
        head_bytes=int(tensors[head].n_bytes) if head in tensors else 0,
    )


def gain(tokens: float, depth: int, share: float, verify: float) -> float:
    """How many times as fast as decoding alone: tokens that a verification yields, over
    what it and its drafts cost in passes of the target."""
    return tokens / (verify + depth * share)
