"""The model card of a student, from what its run has left behind."""

from collections import Counter
from pathlib import Path
from typing import Any

import gguf

from . import ggufs
from .files import digest, replacing
from .shards import Example, Origin


def write_card(
    out: Path, teacher: Path, draft: Path, result: dict[str, Any], others: list[dict[str, Any]],
    state: dict[str, Any], examples: list[Example], origin: Origin, texts: dict[str, Any], writer: str = "the teacher",
) -> None:  # fmt: skip
    reader = ggufs.open_gguf(draft)
    name = ggufs.value(reader, gguf.Keys.General.NAME, draft.stem)
    licence = ggufs.value(reader, gguf.Keys.General.LICENSE, "the teacher's")
    s = state["settings"]
    domains = Counter(e.domain for e in examples)
    answers = sum(len(e.answer) for e in examples)
    head = "trained" if s["train_embedding"] else "the teacher's, not trained"
    share = result["cost"]
    lines = [
        f"# {name}",
        "",
        f"A draft model for speculative decoding with {teacher.name} (`llamero serve --draft-model {draft.name}`). It says",
        "little that is worth reading by itself: it is there to be checked by its teacher, which takes what it would have",
        "said too.",
        "",
        "| | |",
        "| --- | --- |",
        f"| file | {draft.name}, {draft.stat().st_size / 1e6:.1f} MB, SHA-256 `{digest(draft)}` |",
        f"| teacher | {teacher.name}, SHA-256 `{origin.teacher}` |",
        f"| layers kept | {', '.join(map(str, s['layers']))} of the teacher's |",
        f"| embedding and head | {head} |",
        f"| cost of a token | {share['bytes_share']:.0%} of the teacher's bytes, {share['flops_share']:.0%} of its multiplications |",
        f"| licence | {licence} |",
        "",
        "## Data",
        "",
        f"{len(examples):,} texts with {answers:,} answer tokens, all written by {writer} in answer to prompts from templates",
        f"(seed {texts['seed']}; {_counts(domains)}), {sum(e.sampled for e in examples):,} of them sampled at temperature",
        f"{texts['temperature']}, the others greedy. No other text. The targets are the teacher's {origin.top_k} likeliest tokens at each",
        f"position, at temperature {origin.temperature:g}, and the rest as one bucket.",
        "",
        "## Training",
        "",
        f"{state['step']:,} steps of at most {s['batch_tokens']:,} tokens, AdamW at {s['lr']:g} with {s['warmup']} steps of warm-up",
        f"and a cosine, {1 - s['hard']:g} × KL + {s['hard']:g} × cross-entropy, {s['precision']}, seed {s['seed']}.",
        "",
        "## Acceptance",
        "",
        "On prompts that it was not trained on: the share of the teacher's tokens that it says too, and the tokens that a",
        "verification yields when it drafts so many.",
        "",
        *_acceptance(result),
        "",
    ]
    lines += _picture(out, "curves.png", "Loss and acceptance while it was trained")
    if others:
        students = sorted([result, *others], key=lambda r: r["layers"])
        lines += ["## Students that were compared", "", *_students(students), ""]
        lines += _picture(out, "students.png", "Acceptance against cost, and by domain")
    with replacing(out) as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _picture(card: Path, name: str, text: str) -> list[str]:
    """A picture that lies beside the card."""
    return [f"![{text}]({name})", ""] if (card.parent / name).exists() else []


def _counts(domains: Counter[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in sorted(domains.items()))


def _acceptance(result: dict[str, Any]) -> list[str]:
    depths = ("1", "2", "3", "5", "7")
    lines = [
        "| answers | domain | texts | accepted | " + " | ".join(f"depth {d}" for d in depths) + " |",
        "| --- | --- " + "| ---: " * (2 + len(depths)) + "|",
    ]
    for kind in ("greedy", "sampled"):
        for domain, f in result[kind].items():
            runs = " | ".join(f"{f['tokens_by_depth'][d]:.2f}" for d in depths)
            lines.append(f"| {kind} | {domain} | {f['texts']} | {f['acceptance']:.3f} | {runs} |")
    return lines


def _students(results: list[dict[str, Any]]) -> list[str]:
    domains = sorted(results[0]["greedy"], key=lambda d: (d != "all", d))
    lines = [
        "Cost of a token in bytes and in multiplications, acceptance of greedy answers by domain and of sampled ones in all,",
        "tokens a verification at depth 3, and the best gain where a verification costs 1.1 passes, with its depth.",
        "",
        "| student | layers | bytes | mult. | " + " | ".join(domains) + " | sampled | depth 3 | gain |",
        "| --- |" + " ---: |" * (6 + len(domains)),
    ]
    for r in results:
        depth, best = max(r["gain"]["by_depth"].items(), key=lambda item: item[1])
        greedy, cost = r["greedy"], r["cost"]
        accepted = " | ".join(f"{greedy[d]['acceptance']:.3f}" if d in greedy else "" for d in domains)
        sampled = f"{r['sampled']['all']['acceptance']:.3f}" if r["sampled"] else ""
        lines.append(
            f"| {r['name']} | {r['layers']} | {cost['bytes_share']:.0%} | {cost['flops_share']:.0%} | {accepted} | {sampled} "
            f"| {greedy['all']['tokens_by_depth']['3']:.2f} | {best:.2f} × at {depth} |"
        )
    return lines
