"""Pictures: a run's loss and acceptance, and students side by side."""

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .files import replacing


def read_log(path: Path) -> list[dict[str, float]]:
    """A training log's entries; a line that was being written when the run was cut off is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def draw_training(log: Path, out: Path) -> None:
    entries = read_log(log)
    tokens = [t / 1e6 for t in accumulate(e["tokens"] for e in entries)]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("kl", "KL to the teacher"), ("hard", "cross-entropy to its choice")):
        left.plot(tokens, _smooth([e[name] for e in entries]), label=label)
    left.set(xlabel="million tokens, padding included", ylabel="nats a token", title="Loss, running mean")
    left.set_ylim(bottom=0)
    left.legend()
    seen = [(t, e["acceptance"]) for t, e in zip(tokens, entries, strict=True) if "acceptance" in e]
    right.plot([t for t, _ in seen], [a for _, a in seen], marker="o")
    right.set(xlabel="million tokens, padding included", ylabel="share of tokens", title="Same likeliest token, held-out texts")
    right.set_ylim(0, 1)
    _save(figure, out)


def draw_students(results: Sequence[dict[str, Any]], out: Path) -> None:
    """Acceptance against cost, a point a student, and acceptance by domain."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, r in enumerate(results):
        domains = r["greedy"]
        left.plot(r["cost"]["bytes_share"], domains["all"]["acceptance"], "o", label=r["name"])
        names = sorted(domains, key=lambda d: (d == "all", d))
        at = [x + (i - (len(results) - 1) / 2) * 0.8 / len(results) for x in range(len(names))]
        right.bar(at, [domains[d]["acceptance"] for d in names], 0.8 / len(results), label=r["name"])
        right.set_xticks(range(len(names)), names)
    left.set(
        xlabel="bytes a token, of the teacher's", ylabel="greedy acceptance", title="Acceptance against cost", xlim=(0, None), ylim=(0, 1)
    )
    right.set(ylabel="greedy acceptance", title="By domain, held-out prompts", ylim=(0, 1))
    left.legend()
    _save(figure, out)


def _smooth(values: Sequence[float], weight: float = 0.95) -> list[float]:
    smooth, mean = [], values[0] if values else 0.0
    for v in values:
        mean = weight * mean + (1 - weight) * v
        smooth.append(mean)
    return smooth


def _save(figure: Figure, out: Path) -> None:
    with replacing(out) as part:
        figure.savefig(part, format="png", dpi=110)
