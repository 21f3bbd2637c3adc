"""Labelled texts on disk: tokens, and the teacher's top-k at each of the answer's.

A shard is a safetensors file. With R texts, T tokens in all and L of them in
answers:

    index   int64 (R)      the texts' numbers
    domain  uint8 (R)      into the header's list of domains
    sampled uint8 (R)      1 where the answer was sampled, 0 where it is greedy
    offset  int64 (R + 1)  where a text's tokens begin
    start   int32 (R)      where, in a text, its answer begins
    tokens  uint16 or uint32 (T)
    ids     uint16 or uint32 (L, k)   the teacher's likely next tokens, most likely first
    probs   float16 (L, k)            their probabilities at the labels' temperature

Row i of a text's labels is for its token start + i, as predicted from the ones
before it. What the k leave of 1 is the tail. The header ties a shard to the teacher
and the texts that it was made from.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import DistillError
from .files import replacing

VERSION = "1"


@dataclass(frozen=True)
class Example:
    index: int
    domain: str
    sampled: bool
    tokens: np.ndarray
    start: int
    ids: np.ndarray
    probs: np.ndarray

    @property
    def answer(self) -> np.ndarray:
        return self.tokens[self.start :]


@dataclass(frozen=True)
class Origin:
    """What labels were made from and how; equal where they can be used together."""

    teacher: str  # digest
    vocab: int
    top_k: int
    temperature: float
    precision: str

    def header(self) -> dict[str, str]:
        return {
            "version": VERSION,
            "teacher": self.teacher,
            "vocab": str(self.vocab),
            "top_k": str(self.top_k),
            "temperature": repr(self.temperature),
            "precision": self.precision,
        }


def token_type(vocab: int) -> type:
    return np.uint16 if vocab <= 1 << 16 else np.uint32


def save(path: Path, examples: list[Example], origin: Origin, texts: str) -> None:
    """Writes a shard; texts is the digest of what it was made from."""
    domains = sorted({e.domain for e in examples})
    kind = token_type(origin.vocab)
    arrays = {
        "index": np.array([e.index for e in examples], np.int64),
        "domain": np.array([domains.index(e.domain) for e in examples], np.uint8),
        "sampled": np.array([e.sampled for e in examples], np.uint8),
        "offset": np.concatenate([[0], np.cumsum([len(e.tokens) for e in examples])]).astype(np.int64),
        "start": np.array([e.start for e in examples], np.int32),
        "tokens": np.concatenate([e.tokens for e in examples]).astype(kind),
        "ids": np.concatenate([e.ids for e in examples]).astype(kind),
        "probs": np.concatenate([e.probs for e in examples]).astype(np.float16),
    }
    with replacing(path) as part:
        save_file(arrays, part, metadata={**origin.header(), "texts": texts, "domains": ",".join(domains)})


def header(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="np") as f:
            return f.metadata() or {}
    except (OSError, SafetensorError) as e:
        raise DistillError(f"the shard {path} cannot be read: {e}") from None


def load(folder: Path) -> tuple[list[Example], Origin]:
    """All examples of a folder's shards, by number. They are held in memory: a text of
    200 answer tokens takes 26 kB at k = 32 and a small vocabulary."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise DistillError(f"{folder} holds no labels: run label first")
    examples: list[Example] = []
    origin = None
    for path in paths:
        h = header(path)
        try:
            if h["version"] != VERSION:
                raise DistillError(f"the shard {path} is of version {h['version']}, not {VERSION}: label again")
            here = Origin(h["teacher"], int(h["vocab"]), int(h["top_k"]), float(h["temperature"]), h["precision"])
            domains = h["domains"].split(",")
        except (KeyError, ValueError) as e:
            raise DistillError(f"{path} is not a shard of labels: {e}") from None
        if origin not in (None, here):
            raise DistillError(f"the shards of {folder} were made in different ways, {path} as {here}: label again")
        origin = here
        examples += _examples(path, domains)
    examples.sort(key=lambda e: e.index)
    return examples, origin


def _examples(path: Path, domains: list[str]) -> list[Example]:
    try:
        with safe_open(path, framework="np") as f:
            a = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)
        lengths = np.diff(a["offset"])
        labels = np.concatenate([[0], np.cumsum(lengths - a["start"])])
        if labels[-1] != len(a["ids"]) or a["offset"][-1] != len(a["tokens"]) or a["ids"].shape != a["probs"].shape:
            raise ValueError("its arrays do not fit together")
        return [
            Example(
                index=int(a["index"][i]),
                domain=domains[a["domain"][i]],
                sampled=bool(a["sampled"][i]),
                tokens=a["tokens"][a["offset"][i] : a["offset"][i + 1]],
                start=int(a["start"][i]),
                ids=a["ids"][labels[i] : labels[i + 1]],
                probs=a["probs"][labels[i] : labels[i + 1]],
            )
            for i in range(len(lengths))
        ]
    except (OSError, SafetensorError, KeyError, IndexError, ValueError) as e:
        raise DistillError(f"the shard {path} is damaged: {e}") from None
