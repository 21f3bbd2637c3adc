import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FFN, HEAD_DIM, HEADS, KV_HEADS, LAYERS, VOCAB, WIDTH, tensors, write_gguf
from safetensors.numpy import save_file

from distill import teacher
from distill.errors import DistillError
from distill.llama import Llama, argmax_rows, keep

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
PART = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def folder(path: Path, weights: dict[str, np.ndarray], **changes: object) -> Path:
    """A Hugging Face folder of these weights, named anew and not permuted."""
    path.mkdir()
    renamed = {}
    for name, data in weights.items():
        parts = name.removesuffix(".weight").split(".")
        new = TOP[parts[0]] if len(parts) == 1 else f"model.layers.{parts[1]}.{PART[parts[2]]}"
        renamed[new + ".weight"] = data
    save_file(renamed, path / "model.safetensors")
    config = {
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "intermediate_size": FFN, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": [2, 5],
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config | changes))
    return path


def reference(weights: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """Hidden states as the Llama paper has them, a token and a head at a time, with
    Hugging Face's order of a head's rows: the first half turns with the second."""

    def norm(x, w):
        return x / np.sqrt((x * x).mean() + 1e-5) * w

    def turn(x, pos):
        half = HEAD_DIM // 2
        out = x.copy()
        for i in range(half):
            angle = pos * 10000.0 ** (-2 * i / HEAD_DIM)
            out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
            out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
        return out

    w = {name.removesuffix(".weight"): data.astype(np.float64) for name, data in weights.items()}
    stream = [w["token_embd"][t] for t in tokens]
    for b in range(LAYERS):
        keys, values, after = [], [], []
        for pos, x in enumerate(stream):
            h = norm(x, w[f"blk.{b}.attn_norm"])
            q = (w[f"blk.{b}.attn_q"] @ h).reshape(HEADS, HEAD_DIM)
            keys.append([turn(k, pos) for k in (w[f"blk.{b}.attn_k"] @ h).reshape(KV_HEADS, HEAD_DIM)])
            values.append((w[f"blk.{b}.attn_v"] @ h).reshape(KV_HEADS, HEAD_DIM))
            heads = []
            for n in range(HEADS):
                group = n * KV_HEADS // HEADS
                scores = np.array([turn(q[n], pos) @ k[group] for k in keys]) / math.sqrt(HEAD_DIM)
                p = np.exp(scores - scores.max())
                heads.append(sum(a * v[group] for a, v in zip(p / p.sum(), values, strict=True)))
            x = x + w[f"blk.{b}.attn_output"] @ np.concatenate(heads)
            h = norm(x, w[f"blk.{b}.ffn_norm"])
            gate = w[f"blk.{b}.ffn_gate"] @ h
            after.append(x + w[f"blk.{b}.ffn_down"] @ (gate / (1 + np.exp(-gate)) * (w[f"blk.{b}.ffn_up"] @ h)))
        stream = after
    return np.stack([norm(x, w["output_norm"]) for x in stream])


@torch.inference_mode()
def test_a_hugging_face_folder_computes_what_the_paper_says(tmp_path: Path) -> None:
    weights, tokens = tensors(5), [7, 3, 200, 3, 90, 11, 287, 0]
    path = folder(tmp_path / "hf", weights)
    got = teacher.load_model(path)(torch.tensor([tokens]))[0]
    np.testing.assert_allclose(got.numpy(), reference(weights, tokens), atol=2e-4)
    assert teacher.stop_tokens(path) == [2, 5]


def test_a_gguf_file_is_loaded_as_it_was_written(tiny: Path) -> None:
    want, got = tensors(1), teacher.load_model(tiny).state_dict()
    assert want.keys() == got.keys()
    for name, data in want.items():
        np.testing.assert_array_equal(got[name].numpy(), data)
    assert teacher.stop_tokens(tiny) == [2]


def test_rope_factors_slow_the_rotation(tiny: Path, tmp_path: Path, model: Llama) -> None:
    ones = write_gguf(tmp_path / "ones.gguf", tensors(1) | {"rope_freqs.weight": np.ones(HEAD_DIM // 2, np.float32)})
    slow = write_gguf(tmp_path / "slow.gguf", tensors(1) | {"rope_freqs.weight": np.full(HEAD_DIM // 2, 2, np.float32)})
    for mine, theirs in zip(teacher.load_model(ones).rope(8), model.rope(8), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(teacher.load_model(slow).rope(15), model.rope(8), strict=True):
        torch.testing.assert_close(mine[::2], theirs)


@torch.inference_mode()
def test_padding_is_not_seen(model: Llama) -> None:
    short = torch.tensor([[5, 6, 7]])
    padded = torch.tensor([[5, 6, 7, 0, 0, 0], [9, 8, 7, 6, 5, 4]])
    torch.testing.assert_close(model(padded)[0, :3], model(short)[0])


def test_keep_takes_copies_of_layers(model: Llama) -> None:
    student = keep(model, [0, 3])
    assert student.config.layers == 2
    assert torch.equal(student.blk[1].ffn_up.weight, model.blk[3].ffn_up.weight)
    with torch.no_grad():
        student.blk[1].ffn_up.weight.zero_()
        student.token_embd.weight.zero_()
    assert model.blk[3].ffn_up.weight.any()
    assert model.token_embd.weight.any()


@pytest.mark.parametrize("layers", [[], [4], [-1], [1, 1]])
def test_layers_that_are_not_there(model: Llama, layers: list[int]) -> None:
    with pytest.raises(DistillError, match="layers to keep"):
        keep(model, layers)


def test_argmax_in_chunks(model: Llama) -> None:
    hidden = torch.randn(70, WIDTH, generator=torch.Generator().manual_seed(1))
    assert torch.equal(argmax_rows(hidden, model.head, chunk=32), (hidden @ model.head.T).argmax(-1))


@pytest.mark.parametrize(
    ("weights", "changes", "message"),
    [
        ({"blk.0.attn_q.bias": np.zeros(64, np.float32)}, {}, "do not fit: blk.0.attn_q.bias"),
        ({"blk.3.ffn_up.weight": np.zeros((96, 32), np.float32)}, {}, "do not fit: blk.3.ffn_up.weight"),
        ({}, {"block_count": 5}, "do not fit: blk.4"),
        ({}, {"block_count": None}, "no single llama.block_count"),
        ({}, {"feed_forward_length": [96] * 4}, "no single llama.feed_forward_length"),
        ({}, {"rope.scaling.type": "yarn"}, "yarn"),
        ({}, {"rope.dimension_count": 8}, "part of each head"),
        ({}, {"attention.head_count_kv": 3}, "do not make a Llama"),
    ],
)
def test_models_that_are_not_plain_llamas(tmp_path: Path, weights: dict, changes: dict, message: str) -> None:
    path = write_gguf(tmp_path / "odd.gguf", tensors(1) | weights, **changes)
    with pytest.raises(DistillError, match=message):
        teacher.load_model(path)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("not a model, and longer than a header would be")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(write_gguf(tmp_path / "whole.gguf", tensors(1)).read_bytes()[:3000])
    other = write_gguf(tmp_path / "other.gguf", tensors(1), arch="gemma3")
    scaled = folder(tmp_path / "scaled", tensors(1), rope_scaling={"type": "linear"})
    for path, message in (
        (text, "GGUF"),
        (cut, "GGUF"),
        (tmp_path / "none.gguf", "not there"),
        (other, "gemma3"),
        (scaled, "rope_scaling"),
    ):
        with pytest.raises(DistillError, match=message):
            teacher.load_model(path)
