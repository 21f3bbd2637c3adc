"""How much of what a student drafts its teacher would take, on held-out prompts.

The teacher's own text is the judge: a drafted token is accepted where it is the
text's next one. In a run of drafts every token but the first follows accepted ones,
that is, the text itself; so one pass over the text gives the student's draft at
every position, and runs of any depth follow by counting.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from . import cost
from .batches import answer_states, by_length, collate, fixed_head
from .errors import DistillError
from .files import write_json
from .llama import Llama, argmax_rows
from .shards import Example

DEPTHS = range(1, 8)
# A verification's price in plain passes: where decoding waits for memory, as on a GPU.
GPU_VERIFY = 1.1


def evaluate(
    name: str, student: Llama, examples: Sequence[Example], target: Path, draft: Path, out: Path, precision: str
) -> dict[str, Any]:
    """Writes and returns the figures of a student, whose file is draft, for the teacher in target."""
    if all(e.sampled for e in examples):
        raise DistillError("the held-out texts hold no greedy answer: generate some with --sampled below 1")
    hits = drafted(student, examples, precision)
    ours, theirs = cost.of(draft), cost.of(target)
    share = ours.bytes / theirs.bytes
    result = {
        "name": name,
        "layers": student.config.layers,
        "cost": {
            "bytes_share": share,
            "flops_share": ours.flops / theirs.flops,
            "draft": asdict(ours),
            "target": asdict(theirs),
        },
        "greedy": _domains(examples, hits, sampled=False),
        "sampled": _domains(examples, hits, sampled=True),
    }
    runs = result["greedy"]["all"]["tokens_by_depth"]
    result["gain"] = {"verify": GPU_VERIFY, "by_depth": {d: cost.gain(runs[d], int(d), share, GPU_VERIFY) for d in runs}}
    write_json(out, result)
    return result


@torch.inference_mode()
def drafted(student: Llama, examples: Sequence[Example], precision: str, batch_tokens: int = 4096) -> list[np.ndarray]:
    """For each example, at each of its answer's tokens: whether the student says it."""
    head = fixed_head(student, precision)
    hits: list[np.ndarray] = [np.empty(0, bool)] * len(examples)
    groups = by_length([len(e.tokens) for e in examples], batch_tokens)
    for group in tqdm(groups, desc="evaluate", unit="batch", leave=False):
        batch = collate([examples[i] for i in group])
        best = argmax_rows(answer_states(student, batch, precision), head).numpy()
        at = 0
        for i in group:
            answer = examples[i].answer
            hits[i] = best[at : at + len(answer)] == answer
            at += len(answer)
    return hits


def _domains(examples: Sequence[Example], hits: Sequence[np.ndarray], sampled: bool) -> dict[str, Any]:
    """Figures for each domain, and for all of them."""
    groups: dict[str, list[np.ndarray]] = {}
    for e, h in zip(examples, hits, strict=True):
        if e.sampled == sampled:
            for name in (e.domain, "all"):
                groups.setdefault(name, []).append(h)
    return {name: _figures(group) for name, group in sorted(groups.items())}


def _figures(hits: Sequence[np.ndarray]) -> dict[str, Any]:
    tokens = sum(len(h) for h in hits)
    return {
        "texts": len(hits),
        "tokens": tokens,
        "acceptance": sum(int(h.sum()) for h in hits) / tokens,
        "tokens_by_depth": {str(d): tokens / sum(verifications(h, d) for h in hits) for d in DEPTHS},
    }


def verifications(hits: np.ndarray, depth: int) -> int:
    """How many verifications a text takes: each takes in the drafts up to the first that
    is wrong, at most depth of them, and gives one token of the target's own."""
    count = at = 0
    while at < len(hits):
        run = hits[at : at + depth]
        at += (len(run) if run.all() else int(run.argmin())) + 1
        count += 1
    return count
