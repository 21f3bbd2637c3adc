"""A student as a GGUF file: the teacher's metadata and tokenizer, the student's weights."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch

from . import ggufs
from .errors import DistillError
from .files import replacing
from .llama import Llama

_KINDS = gguf.GGMLQuantizationType
# What the gguf package can quantise to; other types are left to `llamero models quantize`.
TYPES = {
    "f32": (_KINDS.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (_KINDS.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (_KINDS.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (_KINDS.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q5_0": (_KINDS.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q5_1": (_KINDS.Q5_1, gguf.LlamaFileType.MOSTLY_Q5_1),
    "q4_0": (_KINDS.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_1": (_KINDS.Q4_1, gguf.LlamaFileType.MOSTLY_Q4_1),
}


@dataclass(frozen=True)
class Settings:
    type: str = "q8_0"
    head_type: str = ""  # of the embedding and the head; empty is type
    name: str = ""
    llamero: str = ""  # a llamero that quantises, for types that are not in TYPES


def export(student: Llama, tokenizer: Path, s: Settings, out: Path) -> None:
    """Writes the student to out, with the metadata of the GGUF file tokenizer."""
    if s.type in TYPES:
        _write(student, tokenizer, s, out)
        return
    if not s.llamero:
        raise DistillError(f"--type {s.type}: the types that need no llamero are {', '.join(TYPES)}; --llamero names one for others")
    if s.head_type:
        raise DistillError(f"--head-type goes with {', '.join(TYPES)}; llamero's quantiser has its own rule for the head: --head-type ''")
    # f16 would round what the quantiser is to round once.
    wide = out.with_name(f"{out.stem}-f32.gguf")
    try:
        _write(student, tokenizer, Settings("f32", name=s.name), wide)
        with replacing(out) as part:
            part.unlink(missing_ok=True)
            _run([s.llamero, "models", "quantize", str(wide), str(part), "--type", s.type])
    finally:
        wide.unlink(missing_ok=True)


def _write(student: Llama, tokenizer: Path, s: Settings, out: Path) -> None:
    head_type = s.head_type or s.type
    if head_type not in TYPES:
        raise DistillError(f"--head-type {head_type}: it can be {', '.join(TYPES)}")
    reader = ggufs.open_gguf(tokenizer)
    shape = {t.name: [int(n) for n in t.shape] for t in reader.tensors}.get("token_embd.weight")
    c = student.config
    if shape != [c.width, c.vocab] or ggufs.architecture(reader) != "llama":
        raise DistillError(f"{tokenizer} is not of the student's teacher: its embedding is {shape}, the student's {[c.width, c.vocab]}")
    teacher = ggufs.value(reader, gguf.Keys.General.NAME, tokenizer.stem)
    text, number = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32
    changes = {
        gguf.Keys.General.NAME: (s.name or f"{teacher} draft, {c.layers} layers", text),
        gguf.Keys.General.DESCRIPTION: (f"A draft for speculative decoding, distilled from {teacher}", text),
        gguf.Keys.General.SIZE_LABEL: (f"{sum(p.numel() for p in student.parameters()) / 1e6:.0f}M", text),
        gguf.Keys.General.FILE_TYPE: (int(TYPES[s.type][1]), number),
        "llama.block_count": (c.layers, number),
    }
    ggufs.write_like(reader, out, _tensors(student, s.type, head_type), changes)


def round_head(student: Llama, kind: str) -> None:
    """Rounds the embedding and the head to what export writes of them, so that a student
    is trained with the ones that it is served with."""
    if kind not in TYPES:
        raise DistillError(f"--head-type {kind}: it can be {', '.join(TYPES)}")
    wanted = TYPES[kind][0]
    with torch.no_grad():
        for tensor in {student.token_embd.weight, student.head}:
            data = quantised("token_embd.weight", tensor.numpy(), wanted)
            tensor.copy_(torch.from_numpy(gguf.quants.dequantize(data, wanted)))


def _tensors(student: Llama, kind: str, head_kind: str) -> Iterator[ggufs.Stored]:
    for name, tensor in student.state_dict().items():
        data = tensor.float().numpy()
        if data.ndim < 2:
            yield name, data, ggufs.F32
            continue
        wanted = TYPES[head_kind if name in ("token_embd.weight", "output.weight") else kind][0]
        yield name, quantised(name, data, wanted), wanted


def quantised(name: str, data: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    try:
        return gguf.quants.quantize(data, kind)
    except gguf.quants.QuantError as e:
        raise DistillError(f"tensor {name}: {e}") from None


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
    except FileNotFoundError:
        raise DistillError(f"{command[0]} is not there") from None
    except subprocess.CalledProcessError as e:
        raise DistillError(f"{' '.join(command)}: {e.stderr.strip()[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise DistillError(f"{' '.join(command)}: not done after an hour") from None
