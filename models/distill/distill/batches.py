"""Examples into padded batches, the same ones from the same seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .llama import Llama
from .loss import Target
from .shards import Example

# Batches are cut from pools of so many, sorted by length: little padding, and still
# other neighbours in every epoch.
_POOL = 32


@dataclass(frozen=True)
class Batch:
    tokens: Tensor  # (batch, longest) int64
    rows: Tensor  # of the flattened hidden states, those that predict an answer's token
    target: Target

    @property
    def size(self) -> int:
        return self.tokens.numel()


def collate(examples: Sequence[Example]) -> Batch:
    longest = max(len(e.tokens) for e in examples) - 1  # the last token predicts nothing
    tokens = np.zeros((len(examples), longest), np.int64)
    rows = []
    for i, e in enumerate(examples):
        tokens[i, : len(e.tokens) - 1] = e.tokens[:-1]
        rows.append(np.arange(e.start - 1, len(e.tokens) - 1) + i * longest)
    ids = np.concatenate([e.ids for e in examples]).astype(np.int64)
    probs = np.concatenate([e.probs for e in examples]).astype(np.float32)
    return Batch(torch.from_numpy(tokens), torch.from_numpy(np.concatenate(rows)), Target(torch.from_numpy(ids), torch.from_numpy(probs)))


def answer_states(model: Llama, batch: Batch, precision: str) -> Tensor:
    """The hidden states that predict the answers' tokens, in the order of the target's rows."""
    with autocast(precision):
        hidden = model(batch.tokens)
    return hidden.flatten(0, 1)[batch.rows]


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def fixed_head(model: Llama, precision: str) -> Tensor:
    """The head in the precision it is multiplied in, once for many batches; not to be trained."""
    head = model.head.detach()
    return head.bfloat16() if precision == "bf16" else head


def cut(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Cuts an order into batches of at most batch_tokens, padding included; an example
    longer than that is a batch of its own."""
    batch: list[int] = []
    longest = 0
    for i in order:
        longest = max(longest, lengths[i])
        if batch and longest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, longest = [], lengths[i]
        batch.append(i)
    if batch:
        yield batch


def by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """All examples once, shortest first."""
    return list(cut(sorted(range(len(lengths)), key=lambda i: (lengths[i], i)), lengths, batch_tokens))


def shuffled(lengths: Sequence[int], batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch: all examples once, in an order that (seed, epoch) decides."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)).tolist()
    pool = max(1, _POOL * batch_tokens // max(1, sum(lengths) // len(lengths)))
    batches: list[list[int]] = []
    for at in range(0, len(order), pool):
        batches += cut(sorted(order[at : at + pool], key=lambda i: (lengths[i], i)), lengths, batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


class Feed:
    """The batch of every step, whichever step is asked for first."""

    def __init__(self, examples: Sequence[Example], batch_tokens: int, seed: int) -> None:
        self._examples, self._batch_tokens, self._seed = examples, batch_tokens, seed
        self._lengths = [len(e.tokens) for e in examples]
        self._epoch, self._first = 0, 0  # the epoch at hand and the step that it begins with
        self._batches = shuffled(self._lengths, batch_tokens, seed, 0)

    def batch(self, step: int) -> Batch:
        """Steps are asked for in increasing order."""
        while step - self._first >= len(self._batches):
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = shuffled(self._lengths, self._batch_tokens, self._seed, self._epoch)
        return collate([self._examples[i] for i in self._batches[step - self._first]])
