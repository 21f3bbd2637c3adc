from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VOCAB, WIDTH

from distill import cost, curves, evaluate
from distill.errors import DistillError
from distill.files import read_json
from distill.llama import Llama, argmax_rows, keep


def by_hand(hits: np.ndarray, depth: int) -> int:
    """Verifications of a text, a drafted token at a time."""
    count, at = 0, 0
    while at < len(hits):
        for _ in range(depth):
            if at < len(hits) and hits[at]:
                at += 1
            else:
                break
        at += 1  # the target's own token
        count += 1
    return count


def test_verifications_are_counted_as_by_hand() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        hits = rng.random(rng.integers(1, 30)) < rng.random()
        for depth in evaluate.DEPTHS:
            assert evaluate.verifications(hits, depth) == by_hand(hits, depth)
    assert evaluate.verifications(np.array([True] * 12), 3) == 3
    assert evaluate.verifications(np.array([False] * 12), 3) == 12


@torch.inference_mode()
def test_a_draft_is_what_the_student_would_say(model: Llama, labelled) -> None:
    _, held_out, _ = labelled
    student = keep(model, [0, 1])
    hits = evaluate.drafted(student, held_out, "f32", batch_tokens=200)
    for e, h in zip(held_out, hits, strict=True):
        for j in range(len(e.answer)):
            before = torch.from_numpy(e.tokens[None, : e.start + j].astype(np.int64))
            assert h[j] == (int(argmax_rows(student(before)[0, -1:], student.head)) == e.answer[j])


def test_the_teacher_accepts_itself(model: Llama, labelled, tiny: Path, tmp_path: Path) -> None:
    _, held_out, _ = labelled
    got = evaluate.evaluate("self", model, held_out, tiny, tiny, tmp_path / "r.json", "f32")
    assert read_json(tmp_path / "r.json") == got
    assert got["cost"]["bytes_share"] == got["cost"]["flops_share"] == 1
    assert set(got["greedy"]) == {"chat", "code", "all"}
    # Every greedy token but the stop that was put behind some of the texts.
    greedy = [e for e in held_out if not e.sampled]
    stops = sum(len(e.answer) > 24 for e in greedy)
    assert stops
    tokens = sum(len(e.answer) for e in greedy)
    assert got["greedy"]["all"]["tokens"] == tokens
    assert got["greedy"]["all"]["acceptance"] >= (tokens - stops) / tokens
    assert got["sampled"]["all"]["acceptance"] < 0.9
    runs = got["greedy"]["all"]["tokens_by_depth"]
    assert list(runs.values()) == sorted(runs.values())
    assert 1.8 < runs["1"] <= 2
    curves.draw_students([got, got], tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_only_greedy_texts_say_what_greedy_acceptance_is(model: Llama, labelled, tiny: Path, tmp_path: Path) -> None:
    sampled = [e for e in labelled[1] if e.sampled]
    with pytest.raises(DistillError, match="no greedy answer"):
        evaluate.evaluate("x", model, sampled, tiny, tiny, tmp_path / "r.json", "f32")


def test_cost_counts_what_a_token_reads(tiny: Path) -> None:
    c = cost.of(tiny)
    assert c.head_bytes == VOCAB * WIDTH * 4
    assert c.bytes == sum(t.n_bytes for t in cost.open_gguf(tiny).tensors)
    matrices = VOCAB * WIDTH + 4 * (2 * 64 * WIDTH + 2 * 32 * WIDTH + 3 * 96 * WIDTH)
    assert c.flops == 2 * matrices
    assert cost.gain(2.0, 3, 0.25, 1.25) == 1.0
