"""What the teacher has written: one JSON object a line.

A line holds the prompt's number, which with the seed makes the prompt and its
random numbers, the conversation, the answer, and the tokens of both. Lines are in
the order in which answers came; readers sort by number, so that runs with the same
seed give the same data.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from .errors import DistillError

SPLITS = ("train", "heldout")
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Text:
    index: int
    seed: int
    split: str
    domain: str
    model: str
    temperature: float  # 0 is greedy
    messages: list[dict[str, str]]  # all but the last answer
    answer: str
    finish: str  # "stop" or "length"
    tokens: list[int]  # the rendered prompt, then the answer
    start: int  # the answer's first token

    def __post_init__(self) -> None:
        if self.split not in SPLITS or not 0 < self.start < len(self.tokens):
            raise ValueError(f"a text of split {self.split!r} whose answer begins at {self.start} of {len(self.tokens)} tokens")


def read(path: Path) -> list[Text]:
    """All texts, sorted by number."""
    try:
        with path.open(encoding="utf-8") as f:
            texts = sorted(_lines(path, f), key=lambda t: t.index)
    except OSError as e:
        raise DistillError(f"cannot read the texts: {e}") from None
    if not texts:
        raise DistillError(f"{path} holds no texts")
    for a, b in pairwise(texts):
        if a.index == b.index:
            raise DistillError(f"{path} holds text {a.index} twice: two runs wrote to it at once")
    return texts


def _lines(path: Path, f: TextIO) -> Iterator[Text]:
    names = {field.name for field in fields(Text)}
    number = 0
    while line := f.readline(_MAX_LINE):
        number += 1
        try:
            raw = json.loads(line)
            yield Text(**{k: v for k, v in raw.items() if k in names})
        except (ValueError, TypeError, AttributeError) as e:
            raise DistillError(f"{path}, line {number}: {e}") from None


class Appender:
    """Adds texts to a file. What an earlier run was cut off in the middle of writing is
    dropped first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        end = self._file.seek(0, 2)
        self._file.seek(max(0, end - _MAX_LINE))
        tail = self._file.read()
        if tail and not tail.endswith(b"\n"):
            self._file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)

    def add(self, text: Text) -> None:
        self._file.write(json.dumps(asdict(text), ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
