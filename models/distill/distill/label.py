"""The teacher reads its own answers and says, token by token, what else was likely."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import shards, texts
from .batches import autocast, by_length, fixed_head
from .errors import DistillError
from .llama import Llama
from .shards import Example, Origin

SHARD = 256  # text numbers a shard spans


def label(teacher: Llama, origin: Origin, stop: int | None, source: Path, out: Path, batch_tokens: int = 4096) -> None:
    """Writes a shard for every SHARD text numbers. Shards that were made of the same
    texts by the same teacher are left alone, so that a run goes on where it stopped."""
    if not 1 <= origin.top_k <= teacher.config.vocab:
        raise DistillError(f"--top-k is {origin.top_k}; it can be 1 to the vocabulary's {teacher.config.vocab}")
    groups: dict[int, list[texts.Text]] = {}
    for t in texts.read(source):
        groups.setdefault(t.index // SHARD, []).append(t)
    wanted = {_shard_path(out, n) for n in groups}
    for stale in set(out.glob("*.safetensors")) - wanted:
        raise DistillError(f"{stale} is not of these texts: give another folder, or remove it")
    tokens = sum(len(t.tokens) for g in groups.values() for t in g)
    with tqdm(total=tokens, desc=f"label {out.name}", unit="tok", unit_scale=True) as bar:
        for n, group in sorted(groups.items()):
            path, want = _shard_path(out, n), _digest(group, stop)
            if not _made(path, origin, want):
                shards.save(path, _label(teacher, origin, stop, group, batch_tokens), origin, want)
            bar.update(sum(len(t.tokens) for t in group))


def _shard_path(out: Path, n: int) -> Path:
    return out / f"{n:06d}.safetensors"


def _digest(group: Sequence[texts.Text], stop: int | None) -> str:
    h = hashlib.sha256(f"stop {stop}\n".encode())
    for t in group:
        h.update(json.dumps(asdict(t), sort_keys=True).encode())
    return h.hexdigest()


def _made(path: Path, origin: Origin, want: str) -> bool:
    if not path.exists():
        return False
    h = shards.header(path)
    return h.get("texts") == want and origin.header().items() <= h.items()


def _label(teacher: Llama, origin: Origin, stop: int | None, group: Sequence[texts.Text], batch_tokens: int) -> list[Example]:
    sequences = [_tokens(teacher, t, stop) for t in group]
    head = fixed_head(teacher, origin.precision)
    examples: list[Example] = []
    for batch in by_length([len(s) for s in sequences], batch_tokens):
        longest = max(len(sequences[i]) for i in batch) - 1
        padded = torch.zeros((len(batch), longest), dtype=torch.int64)
        for row, i in enumerate(batch):
            padded[row, : len(sequences[i]) - 1] = torch.tensor(sequences[i][:-1])
        with torch.inference_mode(), autocast(origin.precision):
            hidden = teacher(padded)
        for row, i in enumerate(batch):
            t = group[i]
            ids, probs = likely(hidden[row, t.start - 1 : len(sequences[i]) - 1], head, origin)
            examples.append(Example(t.index, t.domain, t.temperature > 0, np.array(sequences[i]), t.start, ids.numpy(), probs.numpy()))
    return sorted(examples, key=lambda e: e.index)


def _tokens(teacher: Llama, t: texts.Text, stop: int | None) -> list[int]:
    """A text's tokens, with the one that ended the answer where the teacher ended it."""
    tokens = t.tokens + ([stop] if t.finish == "stop" and stop is not None else [])
    vocab, context = teacher.config.vocab, teacher.config.context
    if len(tokens) > context or not 0 <= min(tokens) <= max(tokens) < vocab:
        raise DistillError(f"text {t.index} does not fit the teacher: {len(tokens)} of {context} tokens, of a vocabulary of {vocab}")
    return tokens


@torch.inference_mode()
def likely(hidden: Tensor, head: Tensor, origin: Origin, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """The top-k tokens of each row and their probabilities."""
    ids, probs = [], []
    for rows in hidden.split(chunk):
        logits = (rows.to(head.dtype) @ head.T).float() / origin.temperature
        top = logits.topk(origin.top_k)
        ids.append(top.indices)
        probs.append((top.values - logits.logsumexp(1, keepdim=True)).exp())
    return torch.cat(ids), torch.cat(probs)
