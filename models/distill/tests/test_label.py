from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EOS, VOCAB, origin_of, write_texts

from distill import shards, texts
from distill.errors import DistillError
from distill.label import label
from distill.llama import Llama


@pytest.mark.parametrize(("temperature", "precision", "near"), [(1.0, "f32", 1e-3), (2.0, "f32", 1e-3), (1.0, "bf16", 0.06)])
def test_labels_are_the_teachers_distributions(
    tiny: Path, model: Llama, tmp_path: Path, temperature: float, precision: str, near: float
) -> None:
    write_texts(model, tmp_path / "t.jsonl", 9, "train", 1)
    origin = origin_of(tiny, temperature=temperature, precision=precision)
    label(model, origin, EOS, tmp_path / "t.jsonl", tmp_path / "l", batch_tokens=64)
    got, read = shards.load(tmp_path / "l")
    assert read == origin
    for e, t in zip(got, texts.read(tmp_path / "t.jsonl"), strict=True):
        assert e.tokens.tolist() == t.tokens + ([EOS] if t.finish == "stop" else [])
        assert (e.index, e.domain, e.sampled, e.start) == (t.index, t.domain, t.temperature > 0, t.start)
        with torch.inference_mode():
            z = model(torch.from_numpy(e.tokens[None].astype(np.int64)))[0, e.start - 1 : -1] @ model.head.T
        p = (z / temperature).softmax(-1).numpy()
        assert e.ids.dtype == np.uint16
        assert len(e.ids) == len(e.answer)
        assert (np.diff(e.probs.astype(np.float32), axis=1) <= 0).all()
        np.testing.assert_allclose(e.probs, np.take_along_axis(p, e.ids.astype(np.int64), 1), atol=near)
        if precision == "f32":
            np.testing.assert_array_equal(e.ids[:, 0], p.argmax(1))


def test_what_is_labelled_is_left_alone(tiny: Path, model: Llama, tmp_path: Path) -> None:
    source, out = tmp_path / "t.jsonl", tmp_path / "l"
    write_texts(model, source, 300, "train", 1, length=4)  # two shards

    def run(**changes: object) -> dict[str, int]:
        label(model, origin_of(tiny, **changes), EOS, source, out)
        return {p.name: p.stat().st_mtime_ns for p in sorted(out.iterdir())}

    first = run()
    assert list(first) == ["000000.safetensors", "000001.safetensors"]
    assert run() == first
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join(lines[:-1]))
    fewer = run()
    assert fewer["000000.safetensors"] == first["000000.safetensors"]
    assert fewer["000001.safetensors"] != first["000001.safetensors"]
    assert len(shards.load(out)[0]) == 299
    other = run(top_k=4)
    assert not set(other.values()) & set(fewer.values())
    source.write_text("".join(lines[:200]))
    with pytest.raises(DistillError, match=r"000001.safetensors is not of these texts"):
        run()


def test_texts_that_the_teacher_cannot_read(tiny: Path, model: Llama, tmp_path: Path) -> None:
    for name, tokens in (("long", [3] * 513), ("foreign", [3, 4, VOCAB])):
        with texts.Appender(tmp_path / name) as out:
            out.add(texts.Text(0, 1, "train", "qa", "m", 0.0, [], "a", "length", tokens, 1))
        with pytest.raises(DistillError, match="does not fit the teacher"):
            label(model, origin_of(tiny), EOS, tmp_path / name, tmp_path / "l")
    with pytest.raises(DistillError, match="--top-k"):
        label(model, origin_of(tiny, top_k=VOCAB + 1), EOS, tmp_path / "long", tmp_path / "l")


def test_shards_that_are_damaged(labelled, tmp_path: Path) -> None:
    examples, _, origin = labelled
    with pytest.raises(DistillError, match="run label first"):
        shards.load(tmp_path)
    path = tmp_path / "000000.safetensors"
    shards.save(path, examples[:5], origin, "x")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(DistillError, match="cannot be read"):
        shards.load(tmp_path)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(DistillError, match="version 9"):
        shards.load(tmp_path)
    path.write_bytes(whole)
    shards.save(tmp_path / "000001.safetensors", examples[5:6], origin_of_other(origin), "x")
    with pytest.raises(DistillError, match="in different ways"):
        shards.load(tmp_path)


def origin_of_other(origin: shards.Origin) -> shards.Origin:
    return shards.Origin("another", origin.vocab, origin.top_k, origin.temperature, origin.precision)


@pytest.mark.parametrize(("vocab", "kind"), [(49152, np.uint16), (65536, np.uint16), (65537, np.uint32), (128256, np.uint32)])
def test_tokens_take_the_room_they_need(vocab: int, kind: type, tmp_path: Path) -> None:
    top = vocab - 1
    e = shards.Example(7, "qa", True, np.array([0, top, 1]), 1, np.array([[top], [1]]), np.array([[0.5], [1.0]]))
    shards.save(tmp_path / "a.safetensors", [e], shards.Origin("t", vocab, 1, 1.0, "f32"), "x")
    (got,), _ = shards.load(tmp_path)
    assert got.tokens.dtype == got.ids.dtype == kind
    assert got.tokens.tolist() == [0, top, 1]
    assert got.ids.tolist() == [[top], [1]]
