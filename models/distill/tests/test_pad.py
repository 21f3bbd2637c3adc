from pathlib import Path

import pytest
import torch
from conftest import LAYERS, tensors, write_gguf

from distill import export, ggufs, teacher
from distill.errors import DistillError
from distill.llama import Llama
from distill.pad import pad


@pytest.fixture(params=["f32", "f16", "q4_0", "q4_1", "q8_0"])
def source(request: pytest.FixtureRequest, model: Llama, tiny: Path, tmp_path: Path) -> Path:
    export.export(model, tiny, export.Settings(request.param), tmp_path / "in.gguf")
    return tmp_path / "in.gguf"


@torch.inference_mode()
def test_a_padded_model_says_the_same(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    pad(source, out, 10)
    before, after = teacher.load_model(source), teacher.load_model(out)
    assert after.config.layers == 10 * LAYERS
    tokens = torch.randint(0, before.config.vocab, (3, 40), generator=torch.Generator().manual_seed(1))
    assert torch.equal(after(tokens), before(tokens))
    # The copies cost what layers cost: their other weights are not zero.
    for i, block in enumerate(after.blk):
        assert block.ffn_down.weight.any() == block.attn_output.weight.any() == (i % 10 == 0)
        assert torch.equal(block.ffn_up.weight, before.blk[i // 10].ffn_up.weight)
    types = [{t.name: t.tensor_type for t in ggufs.open_gguf(p).tensors} for p in (source, out)]
    assert all(kind == types[0][name] for name, kind in types[1].items() if name in types[0])


def test_what_is_told_by_layer_is_told_for_copies(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "in.gguf", tensors(1), **{"feed_forward_length": [96, 97, 98, 99], "attention.head_count_kv": [2, 2, 2]})
    pad(source, tmp_path / "out.gguf", 2)
    out = ggufs.open_gguf(tmp_path / "out.gguf")
    assert ggufs.value(out, "llama.feed_forward_length") == [96, 96, 97, 97, 98, 98, 99, 99]
    assert ggufs.value(out, "llama.attention.head_count_kv") == [2, 2, 2]
    assert ggufs.value(out, "llama.block_count") == 2 * LAYERS
    assert "padded to 8 layers" in ggufs.value(out, "general.name")


def test_models_that_cannot_be_padded(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    no_ffn = write_gguf(tmp_path / "a.gguf", {k: v for k, v in tensors(1).items() if k != "blk.2.ffn_down.weight"})
    recurrent = write_gguf(tmp_path / "b.gguf", tensors(1) | {"blk.0.ssm_out.weight": tensors(1)["blk.0.ffn_up.weight"]})
    more = write_gguf(tmp_path / "c.gguf", tensors(1), block_count=3)
    for path, times, message in (
        (no_ffn, 2, "layer 2 is not of attention and feed-forward"),
        (recurrent, 2, "ssm_out"),
        (more, 2, "blk.3"),
        (tiny, 1, "--times is 1"),
        (tiny, 129, "2 to 128"),
    ):
        with pytest.raises(DistillError, match=message):
            pad(path, out, times)
    with pytest.raises(DistillError, match="take its source's place"):
        pad(tiny, tiny, 2)
    assert not out.exists()
