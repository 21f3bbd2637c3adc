"""GGUF files: read into PyTorch, and written as changed copies of one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .errors import DistillError
from .files import replacing
from .llama import Config

F32 = gguf.GGMLQuantizationType.F32


def open_gguf(path: Path) -> gguf.GGUFReader:
    """The tensors are views of the mapped file: nothing is read until it is used."""
    try:
        return gguf.GGUFReader(path)
    except FileNotFoundError:
        raise DistillError(f"the model file {path} is not there") from None
    except (OSError, ValueError, KeyError, IndexError, OverflowError) as e:
        raise DistillError(f"{path} cannot be read as a GGUF file: {e}") from None


def value(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def architecture(reader: gguf.GGUFReader) -> str:
    return str(value(reader, gguf.Keys.General.ARCHITECTURE, "unknown"))


def load(path: Path) -> tuple[Config, dict[str, Tensor]]:
    """A Llama's sizes and its weights, dequantised to float32."""
    reader = open_gguf(path)
    arch = architecture(reader)
    if arch != "llama":
        raise DistillError(f"{path} holds a model of architecture {arch}; only llama can be a teacher")
    shapes = {t.name: [int(n) for n in t.shape] for t in reader.tensors}
    config = _config(reader, path, shapes)
    state = {}
    for t in tqdm(reader.tensors, desc=f"read {path.name}", unit="tensor", leave=False):
        # A copy: the file's mapping is read-only, and weights are trained in place.
        state[t.name] = torch.from_numpy(np.array(dequantised(t), dtype=np.float32))
    return config, state


def dequantised(t: gguf.ReaderTensor) -> np.ndarray:
    try:
        return gguf.quants.dequantize(t.data, t.tensor_type)
    except NotImplementedError as e:
        raise DistillError(f"tensor {t.name}: {e}") from None


def _config(reader: gguf.GGUFReader, path: Path, shapes: dict[str, list[int]]) -> Config:
    def need(key: str, default: Any = None) -> Any:
        got = value(reader, f"llama.{key}", default)
        if got is None or isinstance(got, list):
            raise DistillError(f"{path} has no single llama.{key}: it is not a plain Llama")
        return got

    scaling = value(reader, "llama.rope.scaling.type", "none")
    if scaling != "none":
        raise DistillError(f"{path} scales its rotary embeddings ({scaling}), which is not supported")
    if "token_embd.weight" not in shapes:
        raise DistillError(f"{path} has no token embedding")
    width, heads = int(need("embedding_length")), int(need("attention.head_count"))
    head_dim = int(need("attention.key_length", width // max(heads, 1)))
    if int(need("rope.dimension_count", head_dim)) != head_dim:
        raise DistillError(f"{path} rotates only a part of each head, which is not supported")
    return Config(
        vocab=shapes["token_embd.weight"][1],
        width=width,
        layers=int(need("block_count")),
        heads=heads,
        kv_heads=int(need("attention.head_count_kv", heads)),
        head_dim=head_dim,
        ffn=int(need("feed_forward_length")),
        context=int(need("context_length")),
        rope_base=float(need("rope.freq_base", 10000.0)),
        eps=float(need("attention.layer_norm_rms_epsilon")),
        tied="output.weight" not in shapes,
        rope_factors="rope_freqs.weight" in shapes,
    )


def stop_tokens(reader: gguf.GGUFReader) -> list[int]:
    """The tokens that end an answer, the usual one first."""
    keys = (gguf.Keys.Tokenizer.EOT_ID, gguf.Keys.Tokenizer.EOS_ID)
    ids = [value(reader, key) for key in keys]
    return list(dict.fromkeys(int(i) for i in ids if i is not None))


Stored = tuple[str, np.ndarray, gguf.GGMLQuantizationType]  # name, the bytes as the file has them, type


def write_like(reader: gguf.GGUFReader, path: Path, tensors: Iterable[Stored], changes: dict[str, tuple[Any, gguf.GGUFValueType]]) -> None:
    """Writes tensors with the reader's metadata, tokenizer and template included, but
    for changes; a change to None leaves a key out."""
    with replacing(path) as part:
        # The writer learns the architecture first and writes that key itself.
        writer = gguf.GGUFWriter(part, arch=architecture(reader), endianess=reader.endianess)
        changes = dict(changes)
        for name, field in reader.fields.items():
            if name == gguf.Keys.General.ARCHITECTURE or name.startswith("GGUF."):
                continue
            kind = field.types[0]
            content, sub = field.contents(), field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            if name in changes:
                content, kind = changes.pop(name)
            if content is None or content == []:  # the format's writer takes no empty array
                continue
            writer.add_key_value(name, content, kind, sub_type=sub)
        for name, (content, kind) in changes.items():
            if content is not None:
                writer.add_key_value(name, content, kind)
        alignment = value(reader, gguf.Keys.General.ALIGNMENT)
        if alignment is not None:
            writer.data_alignment = int(alignment)
        for name, data, kind in tensors:
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file(progress=False)
        writer.close()
