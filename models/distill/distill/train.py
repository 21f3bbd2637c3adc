"""Training a student towards the teacher's stored distributions.

Everything that a step does follows from the settings and the step's number, so that
a run that was stopped and goes on ends with the weights of one that was not. The
embedding, which is the head, stays the teacher's unless asked otherwise: its
gradient costs as much as the head's forward pass, and it fits already.
"""

import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from . import curves, export
from .batches import Feed, answer_states, by_length, collate, fixed_head
from .errors import DistillError
from .files import replacing
from .llama import Llama, argmax_rows, keep
from .loss import Mix, distill_loss, shortlist
from .shards import Example, Origin


@dataclass(frozen=True)
class Settings:
    layers: tuple[int, ...]
    steps: int
    batch_tokens: int = 1024
    lr: float = 1e-3
    warmup: int = 50
    hard: float = 0.1
    seed: int = 1
    train_embedding: bool = False
    head_type: str = ""  # what the embedding and the head are rounded to before training; empty is nothing
    precision: str = "bf16"
    eval_every: int = 100
    eval_texts: int = 64
    save_every: int = 100

    def __post_init__(self) -> None:
        bounds = (
            ("steps", self.steps, 1, 100_000_000),
            ("batch-tokens", self.batch_tokens, 1, 1 << 20),
            ("lr", self.lr, 1e-8, 1),
            ("warmup", self.warmup, 0, self.steps),
            ("hard", self.hard, 0, 1),
            ("eval-every", self.eval_every, 1, 100_000_000),
            ("eval-texts", self.eval_texts, 1, 100_000),
            ("save-every", self.save_every, 1, 100_000_000),
        )
        for name, got, low, high in bounds:
            if not low <= got <= high:
                raise DistillError(f"--{name} is {got}; it can be {low} to {high}")

    def rate(self, step: int) -> float:
        """A linear warm-up, then a cosine to a twentieth."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        along = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.05 + 0.95 * (1 + math.cos(math.pi * along)) / 2)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on; how often to look and to save may change."""
        return {k: v for k, v in asdict(self).items() if k not in ("eval_every", "eval_texts", "save_every")}


def train(teacher: Llama, examples: Sequence[Example], held_out: Sequence[Example], origin: Origin, s: Settings, out: Path) -> bool:
    """Trains until the last step and says so; false if a signal stopped it before. In
    out: checkpoint.pt, log.jsonl, curves.png."""
    student = keep(teacher, s.layers).train()
    if s.head_type:
        export.round_head(student, s.head_type)
    optimizer = _optimizer(student, s)
    start = _resume(out, student, optimizer, origin, s)
    feed, mix = Feed(examples, s.batch_tokens, s.seed), Mix(origin.temperature, s.hard)
    fixed = None if s.train_embedding else fixed_head(student, s.precision)
    watched = held_out[: s.eval_texts]
    log = _Log(out / "log.jsonl", start)
    with log, _signals() as stopped, tqdm(total=s.steps, initial=start, desc=f"train {out.name}", unit="step") as bar:
        step = start
        while step < s.steps and not stopped:
            begun = time.monotonic()
            batch = feed.batch(step)
            for group in optimizer.param_groups:
                group["lr"] = s.rate(step)
            head = _cast(student.head, s.precision) if fixed is None else fixed
            cut = shortlist(head, batch.target, torch.Generator().manual_seed(s.seed << 32 | step))
            states = answer_states(student, batch, s.precision)
            loss, soft, hard = distill_loss(states, cut.head, cut.target, mix, cut.log_weight)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(_trained(student), 1.0)
            optimizer.step()
            step += 1
            entry = {
                "step": step,
                "tokens": batch.size,
                "loss": loss.item(),
                "kl": soft.item(),
                "hard": hard.item(),
                "lr": s.rate(step - 1),
            }
            if not math.isfinite(entry["loss"]):
                raise DistillError(f"the loss is no number at step {step}: a smaller --lr may help; the last checkpoint is kept")
            if watched and (step % s.eval_every == 0 or step == s.steps):
                entry["acceptance"] = agreement(student, watched, s)
                bar.set_postfix(loss=f"{entry['loss']:.3f}", acceptance=f"{entry['acceptance']:.3f}")
            entry["seconds"] = time.monotonic() - begun
            log.add(entry)
            bar.update()
            if step % s.save_every == 0:
                _save(out, student, optimizer, origin, s, step)
        _save(out, student, optimizer, origin, s, step)
    curves.draw_training(out / "log.jsonl", out / "curves.png")
    return step >= s.steps


@torch.inference_mode()
def agreement(student: Llama, examples: Sequence[Example], s: Settings) -> float:
    """The share of the answers' tokens where student and teacher find the same likeliest."""
    head, same, rows = fixed_head(student, s.precision), 0, 0
    for group in by_length([len(e.tokens) for e in examples], s.batch_tokens):
        batch = collate([examples[i] for i in group])
        best = argmax_rows(answer_states(student, batch, s.precision), head)
        same += int((best == batch.target.ids[:, 0]).sum())
        rows += len(best)
    return same / rows


def load_student(teacher: Llama, origin_teacher: str, out: Path) -> tuple[Llama, dict[str, Any]]:
    """The student of a run's last checkpoint, and the checkpoint."""
    state = _read(out / "checkpoint.pt")
    if state["teacher"] != origin_teacher:
        raise DistillError(f"{out} holds a student of another teacher")
    student = keep(teacher, state["settings"]["layers"])
    student.load_state_dict(state["weights"], strict=False)
    return student.eval(), state


def _trained(student: Llama) -> list[Tensor]:
    return [p for p in student.parameters() if p.requires_grad]


def _optimizer(student: Llama, s: Settings) -> torch.optim.Optimizer:
    student.token_embd.weight.requires_grad_(s.train_embedding)
    if student.output is not None:
        student.output.weight.requires_grad_(s.train_embedding)
    matrices = [p for p in _trained(student) if p.dim() > 1]
    vectors = [p for p in _trained(student) if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=s.lr, betas=(0.9, 0.95), fused=True)


def _cast(head: Tensor, precision: str) -> Tensor:
    return head.bfloat16() if precision == "bf16" else head


def _resume(out: Path, student: Llama, optimizer: torch.optim.Optimizer, origin: Origin, s: Settings) -> int:
    if not (out / "checkpoint.pt").exists():
        return 0
    state = _read(out / "checkpoint.pt")
    want = _settings(s)
    differ = sorted(k for k in want if state["settings"].get(k) != want[k])
    if state["teacher"] != origin.teacher:
        differ.append("teacher")
    if differ:
        raise DistillError(f"{out} was begun with other settings ({', '.join(differ)}): give another folder, or remove it")
    student.load_state_dict(state["weights"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def _settings(s: Settings) -> dict[str, Any]:
    return {**s.identity(), "layers": list(s.layers)}


def _save(out: Path, student: Llama, optimizer: torch.optim.Optimizer, origin: Origin, s: Settings, step: int) -> None:
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    weights = {name: t for name, t in student.state_dict().items() if name not in frozen}
    state = {"step": step, "teacher": origin.teacher, "settings": _settings(s), "weights": weights, "optimizer": optimizer.state_dict()}
    with replacing(out / "checkpoint.pt") as part:
        torch.save(state, part)


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise DistillError(f"{path} is not there: run train first") from None
    except Exception as e:  # torch.load raises what the unpickler or the archive does
        raise DistillError(f"{path} cannot be read: {e}") from None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM comes: a step that has begun ends,
    and its weights are saved. The second signal does what it always does."""
    got: list[int] = []

    def note(number: int, _: object) -> None:
        got.append(number)
        for n, old in before.items():
            signal.signal(n, old)

    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for n, old in before.items():
            signal.signal(n, old)


class _Log:
    """One JSON object a step. Steps that a resumed run takes again are dropped first."""

    def __init__(self, path: Path, steps: int) -> None:
        kept = curves.read_log(path)[:steps] if path.exists() else []
        with replacing(path) as part:
            part.write_text("".join(json.dumps(e) + "\n" for e in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def add(self, entry: dict[str, float]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
