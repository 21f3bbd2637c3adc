"""The whole way, by the command line, with a fake gateway."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from fakegateway import FakeGateway

from distill import export, teacher
from distill.cli import main
from distill.gateway import Gateway

SMALL = [
    "--count", "60", "--heldout", "24", "--shapes", "1,2", "--steps", "12", "--warmup", "2", "--batch-tokens", "2000", "--eval-every", "6",
    "--clients", "4", "--top-k", "8", "--ablation-sample", "300", "--max-tokens", "24",
]  # fmt: skip


def state(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_run_makes_students_and_goes_on(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    with FakeGateway() as fake:
        assert main(["run", "--teacher", str(tiny), "--work", str(work), "--url", fake.url, *SMALL]) == 0
    made = state(work)
    for n in (1, 2):
        files = ("checkpoint.pt", "log.jsonl", "curves.png", f"Tiny-draft-{n}l.gguf", "result.json", "MODEL_CARD.md")
        assert {f"s{n}/{f}" for f in files} <= made.keys()
        assert teacher.load_model(work / f"s{n}" / f"Tiny-draft-{n}l.gguf").config.layers == n
    shards = {f"labels/{split}/000000.safetensors" for split in ("train", "heldout")}
    assert {"students.png", "ablation.json", "texts/train.jsonl"} | shards <= made.keys()
    assert not [name for name in made if name.endswith(".part")]
    card = (work / "s2" / "MODEL_CARD.md").read_text()
    assert "apache-2.0" in card
    assert "60 texts" in card
    assert "| greedy | all |" in card
    assert [line[:19] for line in card.splitlines() if line.startswith("| Tiny-draft-")] == ["| Tiny-draft-1l | 1", "| Tiny-draft-2l | 2"]
    assert "](curves.png)" in card
    # What the student was trained with is what is served.
    rounded = teacher.load_model(tiny)
    export.round_head(rounded, "q4_0")
    torch.testing.assert_close(teacher.load_model(work / "s2/Tiny-draft-2l.gguf").head, rounded.head, rtol=0, atol=5e-3)
    # Again, with the gateway gone: what is there is used.
    assert main(["run", "--teacher", str(tiny), "--work", str(work), "--url", fake.url, *SMALL]) == 0
    again = state(work)
    kept = ("texts/train.jsonl", "labels/train/000000.safetensors", "ablation.json")
    assert all(again[name] == made[name] for name in kept)
    assert json.loads((work / "s1/result.json").read_text())["layers"] == 1
    # A stage by itself, on what run has left.
    capsys.readouterr()
    draft = str(work / "s1/Tiny-draft-1l.gguf")
    one = ["evaluate", "--student", draft, "--target", str(tiny), "--labels", str(work / "labels/heldout"), "--out", str(work / "e.json")]
    assert main(one) == 0
    assert "tokens a verification" in capsys.readouterr().out
    assert json.loads((work / "e.json").read_text()) == json.loads((work / "s1/result.json").read_text())


def test_stages_by_themselves(tiny: Path, tmp_path: Path) -> None:
    t, out = str(tiny), lambda name: str(tmp_path / name)
    with FakeGateway() as fake:
        for split, count in (("train", "30"), ("heldout", "10")):
            assert main(["generate", "--url", fake.url, "--out", out(split), "--split", split, "--count", count, "--clients", "2"]) == 0
            assert main(["label", "--teacher", t, "--texts", out(split), "--out", out(split + "-l"), "--top-k", "8"]) == 0
    assert main(["ablate", "--teacher", t, "--labels", out("train-l"), "--out", out("a.json"), "--sample", "200"]) == 0
    learn = ["train", "--teacher", t, "--labels", out("train-l"), "--heldout", out("heldout-l"), "--out", out("run"), "--steps", "4"]
    assert main(learn) == 1  # no layers
    assert main([*learn, "--ablation", out("a.json"), "--keep", "2"]) == 0
    assert main(["export", "--teacher", t, "--run", out("run"), "--out", out("d.gguf"), "--type", "f16"]) == 0
    assert main(["evaluate", "--student", out("d.gguf"), "--target", t, "--labels", out("heldout-l"), "--out", out("r.json")]) == 0
    assert main(["plot", out("r.json"), "--out", out("s.png")]) == 0
    card = ["--labels", out("train-l"), "--result", out("r.json"), "--out", out("card.md")]
    assert main(["card", "--teacher", t, "--run", out("run"), "--student", out("d.gguf"), *card]) == 0
    assert main(["pad", t, out("deep.gguf"), "--times", "2"]) == 0


def test_a_run_that_is_ended_takes_its_gateway_along(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gateway that never gets ready; SIGTERM comes while it is waited for."""
    pid = tmp_path / "pid"
    tool = tmp_path / "llamero"
    tool.write_text(f"#!/bin/sh\necho $$ >{pid}.part && mv {pid}.part {pid}\nexec sleep 600\n")
    tool.chmod(0o755)

    ready = Gateway.ready

    def asked(gateway: Gateway) -> bool:
        if pid.exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return ready(gateway)

    monkeypatch.setattr(Gateway, "ready", asked)
    args = ["run", "--teacher", str(tiny), "--work", str(tmp_path / "work"), "--shapes", "1", "--llamero", str(tool)]
    assert main(args) == 130
    assert "the same command goes on" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_problems_are_one_line(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = str(tmp_path / "none")
    for args, message in (
        (["pad", none, str(tmp_path / "out")], "not there"),
        (["ablate", "--teacher", str(tiny), "--labels", none, "--out", none], "holds no labels"),
        (["run", "--teacher", str(tiny), "--work", none, "--shapes", "9", "--steps", "4"], "--shapes"),
        (["run", "--teacher", str(tiny), "--work", none, "--shapes", "1", "--llamero", none], "cannot start"),
        (["run", "--teacher", str(tiny), "--work", none, "--shapes", "1", "--llamero", "false"], "the gateway ended"),
        (["generate", "--url", "x", "--out", none], "http://HOST:PORT"),
    ):
        assert main(args) == 1
        # Progress bars come before it; each of their states ends in a carriage return.
        *_, problem = capsys.readouterr().err.rstrip("\n").split("\r")
        assert problem.lstrip().startswith("distill: ")
        assert message in problem
        assert "\n" not in problem
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--layers", "a,b"])
