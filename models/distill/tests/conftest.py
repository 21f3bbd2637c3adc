"""A tiny random Llama that stands in for a teacher, and texts that it wrote."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from distill import label, shards, teacher, texts
from distill.files import digest
from distill.llama import Llama, argmax_rows
from distill.shards import Example, Origin

VOCAB, WIDTH, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 288, 64, 96, 4, 4, 2, 16
EOS = 2

# Threads that wait for each other would take longer than these small products.
torch.set_num_threads(1)


def tensors(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def matrix(rows: int, cols: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal((rows, cols)) * scale / np.sqrt(cols)).astype(np.float32)

    def norm() -> np.ndarray:
        return (1 + 0.1 * rng.standard_normal(WIDTH)).astype(np.float32)

    out = {"token_embd.weight": matrix(VOCAB, WIDTH, 2), "output_norm.weight": norm()}
    for i in range(LAYERS):
        out |= {
            f"blk.{i}.attn_norm.weight": norm(),
            f"blk.{i}.attn_q.weight": matrix(HEADS * HEAD_DIM, WIDTH, 2),
            f"blk.{i}.attn_k.weight": matrix(KV_HEADS * HEAD_DIM, WIDTH, 2),
            f"blk.{i}.attn_v.weight": matrix(KV_HEADS * HEAD_DIM, WIDTH),
            f"blk.{i}.attn_output.weight": matrix(WIDTH, HEADS * HEAD_DIM),
            f"blk.{i}.ffn_norm.weight": norm(),
            f"blk.{i}.ffn_gate.weight": matrix(FFN, WIDTH),
            f"blk.{i}.ffn_up.weight": matrix(FFN, WIDTH),
            f"blk.{i}.ffn_down.weight": matrix(WIDTH, FFN),
        }
    return out


def write_gguf(path: Path, weights: dict[str, np.ndarray], arch: str = "llama", **changes: object) -> Path:
    w = gguf.GGUFWriter(path, arch)
    w.add_name("Tiny")
    w.add_string("general.license", "apache-2.0")
    sizes = {
        "block_count": LAYERS,
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": HEAD_DIM,
    } | changes
    for name, size in sizes.items():
        if isinstance(size, list):
            w.add_array(f"{arch}.{name}", size)
        elif isinstance(size, str):
            w.add_string(f"{arch}.{name}", size)
        elif size is not None:
            w.add_uint32(f"{arch}.{name}", size)
    w.add_float32(f"{arch}.rope.freq_base", 10000.0)
    w.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_token_list([f"t{i}" for i in range(VOCAB)])
    w.add_token_types([1] * VOCAB)
    w.add_token_merges(["t 1", "t 2"])
    w.add_eos_token_id(EOS)
    w.add_add_bos_token(False)
    w.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    for name, data in weights.items():
        w.add_tensor(name, data)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file in float32."""
    return write_gguf(tmp_path_factory.mktemp("tiny") / "Tiny.F32.gguf", tensors(1))


@pytest.fixture
def model(tiny: Path) -> Llama:
    return teacher.load_model(tiny).eval()


@torch.inference_mode()
def write_texts(model: Llama, path: Path, count: int, split: str, seed: int, length: int = 24) -> None:
    """Texts of the model's own: odd ones sampled, even ones greedy."""
    rng = torch.Generator().manual_seed(seed)
    # Few beginnings, so that what is learnt on some texts helps on others.
    prompts = torch.randint(3, 11, (count, 4), generator=rng)
    tokens = prompts
    for _ in range(length):
        last = model(tokens)[:, -1]
        greedy = argmax_rows(last, model.head)
        sampled = torch.multinomial((last @ model.head.T).softmax(-1), 1, generator=rng)[:, 0]
        tokens = torch.cat((tokens, torch.where(torch.arange(count) % 2 == 0, greedy, sampled)[:, None]), 1)
    with texts.Appender(path) as out:
        for i, row in enumerate(tokens.tolist()):
            out.add(
                texts.Text(
                    index=i, seed=seed, split=split, domain=("chat", "code")[i // 2 % 2], model="tiny", temperature=float(i % 2),
                    messages=[], answer="", finish="length" if i % 3 else "stop", tokens=row, start=4,
                )
            )  # fmt: skip


def origin_of(tiny: Path, **changes: object) -> Origin:
    return Origin(**({"teacher": digest(tiny), "vocab": VOCAB, "top_k": 16, "temperature": 1.0, "precision": "f32"} | changes))


@pytest.fixture(scope="session")
def labelled(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Example], list[Example], Origin]:
    """Examples to train on, held-out ones, and what they were made from."""
    folder, model, origin = tmp_path_factory.mktemp("labelled"), teacher.load_model(tiny).eval(), origin_of(tiny)
    loaded = []
    for split, count, seed in (("train", 192, 1), ("heldout", 48, 2)):
        write_texts(model, folder / f"{split}.jsonl", count, split, seed)
        label.label(model, origin, EOS, folder / f"{split}.jsonl", folder / split)
        loaded.append(shards.load(folder / split)[0])
    return loaded[0], loaded[1], origin
