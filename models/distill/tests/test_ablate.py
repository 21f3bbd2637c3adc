from pathlib import Path

import pytest
import torch
from conftest import EOS, LAYERS, origin_of, write_texts

from distill import ablate, label, shards
from distill.batches import answer_states, collate
from distill.errors import DistillError
from distill.files import read_json
from distill.llama import Llama, keep
from distill.loss import Mix, distill_loss


@torch.no_grad()
def silence(model: Llama, layer: int, share: float) -> None:
    """Lets a layer add only a share of what it adds."""
    model.blk[layer].attn_output.weight.mul_(share)
    model.blk[layer].ffn_down.weight.mul_(share)


@torch.no_grad()
def divergence(model: Llama, kept: list[int], examples: list) -> float:
    batch = collate(examples)
    student = keep(model, kept)
    return float(distill_loss(answer_states(student, batch, "f32"), student.head, batch.target, Mix(hard=0.0))[1])


def test_the_layer_that_costs_least_goes_first(tiny: Path, model: Llama, tmp_path: Path) -> None:
    silence(model, 2, 0.001)
    silence(model, 0, 0.05)
    origin = origin_of(tiny)
    write_texts(model, tmp_path / "t.jsonl", 24, "train", 1)
    label.label(model, origin, EOS, tmp_path / "t.jsonl", tmp_path / "l")
    examples, _ = shards.load(tmp_path / "l")
    ablate.ablate(model, examples, origin, 10**6, tmp_path / "a.json")
    got = read_json(tmp_path / "a.json")
    order = got["dropped_first"]
    assert order[:2] == [2, 0]
    assert sorted(order) == list(range(LAYERS))
    assert got["labels"] == sum(len(e.answer) for e in examples)
    # The short way to each cost is the same as building that student.
    for count, cost in got["kl_by_count"].items():
        kept = sorted(order[LAYERS - int(count) :])
        assert cost == pytest.approx(divergence(model, kept, examples), rel=1e-3, abs=1e-5)
        assert ablate.layers_to_keep(tmp_path / "a.json", int(count)) == kept
    least = min(divergence(model, [i for i in (1, 3) if i != out], examples) for out in (1, 3))
    assert got["kl_by_count"]["1"] == pytest.approx(least, rel=1e-3)


def test_a_sample_is_measured_on(model: Llama, labelled, tmp_path: Path) -> None:
    examples, _, origin = labelled
    ablate.ablate(model, examples, origin, 200, tmp_path / "a.json")
    assert 100 < read_json(tmp_path / "a.json")["labels"] < 300


def test_counts_that_are_not_there(model: Llama, labelled, tmp_path: Path) -> None:
    examples, _, origin = labelled
    with pytest.raises(DistillError, match="--labels"):
        ablate.ablate(model, examples, origin, 0, tmp_path / "a.json")
    ablate.ablate(model, examples, origin, 100, tmp_path / "a.json")
    for count in (0, 5):
        with pytest.raises(DistillError, match=f"{count} cannot be kept"):
            ablate.layers_to_keep(tmp_path / "a.json", count)
    with pytest.raises(DistillError, match="not there"):
        ablate.layers_to_keep(tmp_path / "b.json", 2)
