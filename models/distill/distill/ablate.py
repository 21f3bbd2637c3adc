"""Which of the teacher's layers matter: leave one out, see what it costs, go on.

The cost of a set of layers is the KL divergence from the teacher's stored
distributions to those of a model of just these layers, untrained. From all layers,
the one whose loss costs least goes first; then the next, until one is left. So the
layers to keep for every count come out of one run.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .batches import Batch, autocast, collate, fixed_head
from .errors import DistillError
from .files import read_json, write_json
from .llama import Llama
from .loss import Mix, distill_loss, shortlist
from .shards import Example, Origin


def ablate(teacher: Llama, examples: Sequence[Example], origin: Origin, labels: int, out: Path) -> None:
    """Writes the order in which layers go, measured on at most about this many labels."""
    batch = collate(_sample(examples, labels))
    mix = Mix(temperature=origin.temperature, hard=0.0)
    kept = list(range(teacher.config.layers))
    whole = _divergence(teacher, fixed_head(teacher, origin.precision), batch, mix, origin, kept)
    dropped, divergence = [], {str(len(kept)): whole}
    with tqdm(total=len(kept) - 1, desc="ablate", unit="layer") as bar:
        while len(kept) > 1:
            cost, layer = _cheapest(teacher, batch, mix, origin, kept)
            kept.remove(layer)
            dropped.append(layer)
            divergence[str(len(kept))] = cost
            bar.set_postfix(layer=layer, kl=f"{cost:.3f}")
            bar.update()
    order = [*dropped, *kept]
    write_json(out, {"teacher": origin.teacher, "labels": len(batch.rows), "dropped_first": order, "kl_by_count": divergence})


def layers_to_keep(path: Path, count: int) -> list[int]:
    order = read_json(path).get("dropped_first", [])
    if not 1 <= count <= len(order):
        raise DistillError(f"{path} has an order of {len(order)} layers; {count} cannot be kept")
    return sorted(order[len(order) - count :])


def _sample(examples: Sequence[Example], labels: int) -> list[Example]:
    """Examples spread over all of them, so that every domain has its part."""
    if labels < 1:
        raise DistillError("--labels must be 1 or more")
    mean = sum(len(e.answer) for e in examples) / len(examples)
    count = max(1, min(len(examples), round(labels / mean)))
    return [examples[i * len(examples) // count] for i in range(count)]


@torch.inference_mode()
def _cheapest(teacher: Llama, batch: Batch, mix: Mix, origin: Origin, kept: Sequence[int]) -> tuple[float, int]:
    """What the least costly of the kept layers costs, and which it is. Leaving out a
    layer changes nothing below it, so that the part below is computed once."""
    head, rope = fixed_head(teacher, origin.precision), teacher.rope(batch.tokens.shape[1])
    best: tuple[float, int] | None = None
    with autocast(origin.precision):
        x = teacher.token_embd(batch.tokens)
        for at, layer in enumerate(kept):
            y = x
            for above in kept[at + 1 :]:
                y = teacher.blk[above](y, rope)
            cost = _loss(teacher.output_norm(y), head, batch, mix)
            best = min(best or (cost, layer), (cost, layer))
            x = teacher.blk[layer](x, rope)
    return best


@torch.inference_mode()
def _divergence(teacher: Llama, head: Tensor, batch: Batch, mix: Mix, origin: Origin, kept: Sequence[int]) -> float:
    rope = teacher.rope(batch.tokens.shape[1])
    with autocast(origin.precision):
        x = teacher.token_embd(batch.tokens)
        for layer in kept:
            x = teacher.blk[layer](x, rope)
        return _loss(teacher.output_norm(x), head, batch, mix)


def _loss(hidden: Tensor, head: Tensor, batch: Batch, mix: Mix) -> float:
    cut = shortlist(head, batch.target, torch.Generator().manual_seed(0))
    soft = distill_loss(hidden.flatten(0, 1)[batch.rows], cut.head, cut.target, mix, cut.log_weight)[1]
    return float(soft) / mix.temperature**2
