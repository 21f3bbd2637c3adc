import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import origin_of

from distill import curves, train
from distill.errors import DistillError
from distill.llama import Llama

SMALL = train.Settings(
    layers=(0, 3), steps=60, batch_tokens=600, lr=3e-3, warmup=5, precision="f32", eval_every=20, eval_texts=48, save_every=20
)


def weights(model: Llama, origin, folder: Path) -> dict[str, torch.Tensor]:
    return train.load_student(model, origin.teacher, folder)[0].state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends SIGINT while the batch of a step is made."""
    make = train.Feed.batch

    def batch(self, number: int):
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)
        return make(self, number)

    monkeypatch.setattr(train.Feed, "batch", batch)


@pytest.mark.parametrize(("precision", "embedding"), [("f32", False), ("bf16", False), ("f32", True)])
def test_a_student_learns_what_its_teacher_says(model: Llama, labelled, tmp_path: Path, precision: str, embedding: bool) -> None:
    examples, held_out, origin = labelled
    s = replace(SMALL, precision=precision, train_embedding=embedding)
    before = train.agreement(train.keep(model, s.layers), held_out, s)
    assert train.train(model, examples, held_out, origin, s, tmp_path)
    log = curves.read_log(tmp_path / "log.jsonl")
    assert [e["step"] for e in log] == list(range(1, 61))
    assert sum(e["kl"] for e in log[-10:]) < 0.6 * sum(e["kl"] for e in log[:10])
    seen = [e["acceptance"] for e in log if "acceptance" in e]
    assert len(seen) == 3
    assert seen[-1] > before + 0.05
    student, state = train.load_student(model, origin.teacher, tmp_path)
    assert train.agreement(student, held_out, s) == pytest.approx(seen[-1], abs=1e-9)
    assert state["step"] == 60
    assert torch.equal(student.head, model.head) != embedding
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_stopped_ends_like_one_that_was_not(model: Llama, labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, held_out, origin = labelled
    assert train.train(model, examples, held_out, origin, SMALL, tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as m:
        stop_at(m, 27)
        assert not train.train(model, examples, held_out, origin, SMALL, tmp_path / "halves")
    assert signal.getsignal(signal.SIGINT) is handler
    assert train.load_student(model, origin.teacher, tmp_path / "halves")[1]["step"] == 28
    # As after a crash: steps are logged that no checkpoint holds, the last line torn.
    with (tmp_path / "halves" / "log.jsonl").open("a") as f:
        f.write('{"step": 29, "tokens": 1, "loss": 9, "kl": 9, "hard": 9}\n{"step": 3')
    assert train.train(model, examples, held_out, origin, SMALL, tmp_path / "halves")
    assert same(weights(model, origin, tmp_path / "whole"), weights(model, origin, tmp_path / "halves"))
    logs = [curves.read_log(tmp_path / name / "log.jsonl") for name in ("whole", "halves")]
    assert [e["loss"] for e in logs[0]] == [e["loss"] for e in logs[1]]


def test_the_seed_decides(model: Llama, labelled, tmp_path: Path) -> None:
    examples, held_out, origin = labelled
    short = replace(SMALL, steps=8)
    for name, s in (("a", short), ("b", short), ("c", replace(short, seed=2))):
        assert train.train(model, examples, held_out, origin, s, tmp_path / name)
    a, b, c = (weights(model, origin, tmp_path / name) for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_a_run_that_is_done_is_not_trained_again(model: Llama, labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, held_out, origin = labelled
    short = replace(SMALL, steps=4, warmup=1)
    assert train.train(model, examples, held_out, origin, short, tmp_path)
    monkeypatch.setattr(train.Feed, "batch", lambda *_: pytest.fail("a step was taken"))
    assert train.train(model, examples, held_out, origin, short, tmp_path)


def test_a_run_does_not_go_on_with_other_settings(tiny: Path, model: Llama, labelled, tmp_path: Path) -> None:
    examples, held_out, origin = labelled
    short = replace(SMALL, steps=4, warmup=1)
    assert train.train(model, examples, held_out, origin, short, tmp_path)
    for name, value in (("lr", 0.1), ("layers", (0, 1)), ("seed", 9), ("steps", 5)):
        with pytest.raises(DistillError, match=rf"\({name}\)"):
            train.train(model, examples, held_out, origin, replace(short, **{name: value}), tmp_path)
    with pytest.raises(DistillError, match=r"\(teacher\)"):
        train.train(model, examples, held_out, origin_of(tiny, teacher="another"), short, tmp_path)
    assert train.train(model, examples, held_out, origin, replace(short, save_every=1), tmp_path)


def test_a_loss_that_is_no_number_ends_the_run(model: Llama, labelled, tmp_path: Path) -> None:
    examples, held_out, origin = labelled
    with torch.no_grad():
        model.blk[3].ffn_up.weight[0, 0] = float("nan")
    with pytest.raises(DistillError, match="no number at step 1"):
        train.train(model, examples, held_out, origin, SMALL, tmp_path)


@pytest.mark.parametrize("change", [{"steps": 0}, {"lr": 0.0}, {"hard": 1.1}, {"warmup": 61}, {"batch_tokens": 0}])
def test_settings_have_bounds(change: dict) -> None:
    with pytest.raises(DistillError, match="it can be"):
        replace(SMALL, **change)


def test_checkpoints_that_are_not_there_or_damaged(model: Llama, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="run train first"):
        train.load_student(model, "x", tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DistillError, match="cannot be read"):
        train.load_student(model, "x", tmp_path)


def test_the_rate_warms_up_and_falls() -> None:
    rates = [SMALL.rate(step) for step in range(60)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5] == pytest.approx(SMALL.lr)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.06 * SMALL.lr
