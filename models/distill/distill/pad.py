"""Makes a model deeper without changing what it says.

Behind every layer come copies of it whose attention output and feed-forward output
are zero: each adds nothing to the residual stream, and costs what a layer costs. So
a small model stands in for a large one: the same tokens at a multiple of the price.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from . import ggufs
from .errors import DistillError

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
# What a layer adds to the stream comes out of these, weights and biases, experts' too.
_OUT = re.compile(r"(attn_output|ffn_down)(_exps|_shexp)?\.(weight|bias)")
_MAX_LAYERS = 512  # llama.cpp's own bound
# A layer that adds to the stream by another way would not be an identity.
_UNKNOWN = ("ssm_", "shortconv", "time_mix", "channel_mix", "cross_attn", "ffn_norm_exps", "per_layer", "layer_output")


def pad(source: Path, out: Path, times: int) -> None:
    """Writes source with times as many layers to out."""
    if source.resolve() == out.resolve():
        raise DistillError("the padded model cannot take its source's place")
    reader = ggufs.open_gguf(source)
    arch = ggufs.architecture(reader)
    count = ggufs.value(reader, f"{arch}.block_count")
    if not isinstance(count, int) or count < 1:
        raise DistillError(f"{source} has no layers")
    if not 2 <= times <= _MAX_LAYERS // count:
        raise DistillError(f"--times is {times}; for {count} layers it can be 2 to {_MAX_LAYERS // count}")
    blocks = _blocks(reader, source, count)
    changes: dict[str, tuple[Any, gguf.GGUFValueType]] = {f"{arch}.block_count": (count * times, gguf.GGUFValueType.UINT32)}
    for name, field in reader.fields.items():
        # What is told layer by layer is told for the copies, too.
        if name.startswith(f"{arch}.") and field.types[0] == gguf.GGUFValueType.ARRAY and len(field.data) == count:
            changes[name] = ([v for v in field.contents() for _ in range(times)], gguf.GGUFValueType.ARRAY)
    title = ggufs.value(reader, gguf.Keys.General.NAME, source.stem)
    changes[gguf.Keys.General.NAME] = (f"{title}, padded to {count * times} layers", gguf.GGUFValueType.STRING)
    ggufs.write_like(reader, out, _tensors(reader, blocks, times), changes)


def _blocks(reader: gguf.GGUFReader, source: Path, count: int) -> list[list[tuple[str, gguf.ReaderTensor]]]:
    blocks: list[list[tuple[str, gguf.ReaderTensor]]] = [[] for _ in range(count)]
    for t in reader.tensors:
        if m := _BLOCK.fullmatch(t.name):
            if int(m[1]) >= count or m[2].startswith(_UNKNOWN):
                raise DistillError(f"{source}: tensor {t.name} belongs to no layer that can be made an identity")
            blocks[int(m[1])].append((m[2], t))
    for i, block in enumerate(blocks):
        outs = {m[1] for name, _ in block if (m := _OUT.fullmatch(name))}
        if outs != {"attn_output", "ffn_down"}:
            raise DistillError(f"{source}: layer {i} is not of attention and feed-forward, and cannot be made an identity")
    return blocks


def _tensors(reader: gguf.GGUFReader, blocks: list[list[tuple[str, gguf.ReaderTensor]]], times: int) -> Iterator[ggufs.Stored]:
    for t in reader.tensors:
        if not _BLOCK.fullmatch(t.name):
            yield t.name, t.data, t.tensor_type
    for i, block in enumerate(blocks):
        for copy in range(times):
            for name, t in block:
                # Zero bytes are zeros in every type that has a scale for each block of weights.
                zero = copy > 0 and _OUT.fullmatch(name)
                data = np.zeros(t.data.shape, t.data.dtype) if zero else t.data
                yield f"blk.{i * times + copy}.{name}", data, t.tensor_type
