"""Prompts from templates: what number i of a seed and split asks.

A prompt is a function of (seed, split, number) alone. The split is decided by the
words, not by the number: a prompt whose hash says held out is never trained on,
under any seed.
"""

import hashlib
import string
from dataclasses import dataclass
from random import Random

from . import words
from .errors import DistillError
from .texts import SPLITS

_HELD_OUT = 16  # one prompt in so many
_FOLLOW_UP = 0.2
_SYSTEM = 0.3


@dataclass(frozen=True)
class Prompt:
    domain: str
    messages: list[dict[str, str]]
    follow_up: str  # a second question once the first is answered; empty is none


def draw(seed: int, split: str, index: int) -> Prompt:
    if split not in SPLITS:
        raise DistillError(f"a split is {' or '.join(SPLITS)}, not {split!r}")
    attempt = 0
    while True:
        prompt = _draw(Random(f"{seed}/{split}/{index}/{attempt}"))
        if split_of(prompt) == split:
            return prompt
        attempt += 1


def split_of(prompt: Prompt) -> str:
    """By the question alone, so that a system prompt or a follow-up moves nothing across."""
    question = next(m["content"] for m in prompt.messages if m["role"] == "user")
    held = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") % _HELD_OUT == 0
    return "heldout" if held else "train"


DOMAINS = {
    "chat": words.CHATS,
    "code": words.CODES,
    "list": words.LISTS,
    "qa": words.QUESTIONS,
    "rewrite": words.REWRITES,
}


def _draw(rng: Random) -> Prompt:
    domain = rng.choice(sorted(DOMAINS))
    question = _fill(rng, rng.choice(DOMAINS[domain]))
    messages = [{"role": "user", "content": question}]
    if rng.random() < _SYSTEM:
        messages.insert(0, {"role": "system", "content": rng.choice(words.SYSTEMS)})
    follow_up = rng.choice(words.FOLLOW_UPS) if rng.random() < _FOLLOW_UP else ""
    return Prompt(domain, messages, follow_up)


def _fill(rng: Random, template: str) -> str:
    """The template with a draw in each field that it names."""
    topic, other = rng.sample(words.TOPICS, 2)
    name, second = rng.sample(words.NAMES, 2)
    drawn = {
        "topic": topic,
        "other": other,
        "name": name,
        "second": second,
        "person": rng.choice(words.PEOPLE),
        "place": rng.choice(words.PLACES),
        "tone": rng.choice(words.TONES),
        "length": rng.choice(words.LENGTHS),
        "language": rng.choice(words.LANGUAGES),
        "task": rng.choice(words.CODE_TASKS),
        "things": rng.choice(words.THINGS),
        "format": rng.choice(words.FORMATS),
        "count": str(rng.choice((3, 4, 5, 5, 6, 7, 8, 10, 10, 12))),
    }
    fields = {field for _, field, _, _ in string.Formatter().parse(template) if field}
    if "passage" in fields or "broken" in fields:
        drawn["passage"] = _passage(rng)
        drawn["broken"] = _break(rng, drawn["passage"])
    return template.format_map(drawn)


def _passage(rng: Random) -> str:
    return " ".join(_fill(rng, s) for s in rng.sample(words.SENTENCES, rng.randint(2, 5)))


def _break(rng: Random, passage: str) -> str:
    return " ".join(words.SLIPS[w] if w in words.SLIPS and rng.random() < 0.6 else w for w in passage.split(" "))
