import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VOCAB, tensors, write_gguf

from distill import export, ggufs, teacher
from distill.errors import DistillError
from distill.llama import Llama, keep


def metadata(path: Path) -> dict[str, object]:
    reader = ggufs.open_gguf(path)
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


@pytest.mark.parametrize(
    ("kind", "near"), [("f32", 0), ("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 0.02), ("q4_0", 0.2), ("q4_1", 0.2), ("q5_1", 0.1)]
)
def test_a_student_is_read_back_as_it_was(model: Llama, tiny: Path, tmp_path: Path, kind: str, near: float) -> None:
    student, out = keep(model, [0, 2, 3]), tmp_path / "s.gguf"
    export.export(student, tiny, export.Settings(kind), out)
    got = teacher.load_model(out)
    assert got.config == student.config
    for name, want in student.state_dict().items():
        scale = want.abs().max() if want.dim() > 1 else 0
        torch.testing.assert_close(got.state_dict()[name], want, rtol=0, atol=float(near * scale))


def test_a_head_that_was_rounded_before_is_written_as_it_is(model: Llama, tiny: Path, tmp_path: Path) -> None:
    student, out = keep(model, [1]), tmp_path / "s.gguf"
    export.round_head(student, "q4_0")
    assert not torch.equal(student.head, model.head)
    export.export(student, tiny, export.Settings("q8_0", "q4_0"), out)
    torch.testing.assert_close(teacher.load_model(out).head, student.head, rtol=0, atol=1e-3 * float(student.head.detach().abs().max()))
    with pytest.raises(DistillError, match="--head-type q9"):
        export.round_head(student, "q9")


def test_metadata_is_the_teachers(model: Llama, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.gguf"
    export.export(keep(model, [0, 3]), tiny, export.Settings("q4_0", "q8_0", "Small"), out)
    was, now = metadata(tiny), metadata(out)
    changed = {k for k in was.keys() | now.keys() if was.get(k) != now.get(k)}
    assert changed == {"general.name", "general.description", "general.size_label", "general.file_type", "llama.block_count"}
    assert now["general.name"] == "Small"
    assert now["llama.block_count"] == 2
    assert now["tokenizer.ggml.tokens"] == [f"t{i}" for i in range(VOCAB)]
    fields = (ggufs.open_gguf(tiny).fields, ggufs.open_gguf(out).fields)
    assert all(fields[0][k].types == fields[1][k].types for k in was.keys() & now.keys())
    kinds = {t.name: t.tensor_type.name for t in ggufs.open_gguf(out).tensors}
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_down.weight"] == "Q4_0"
    assert kinds["blk.1.ffn_norm.weight"] == "F32"


def test_other_types_are_llameros(model: Llama, tiny: Path, tmp_path: Path) -> None:
    tool = tmp_path / "llamero"
    tool.write_text(
        '#!/bin/sh\n[ "$1 $2 $5 $6" = "models quantize --type q4_k_m" ] || { echo "asked for $*" >&2; exit 1; }\ncp "$3" "$4"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    student = keep(model, [1])
    export.export(student, tiny, export.Settings("q4_k_m", llamero=str(tool)), tmp_path / "s.gguf")
    assert torch.equal(teacher.load_model(tmp_path / "s.gguf").head, student.head)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["llamero", "s.gguf"]
    with pytest.raises(DistillError, match="asked for models quantize"):
        export.export(student, tiny, export.Settings("q9", llamero=str(tool)), tmp_path / "t.gguf")
    assert not (tmp_path / "t.gguf").exists()
    with pytest.raises(DistillError, match="is not there"):
        export.export(student, tiny, export.Settings("q9", llamero=str(tmp_path / "none")), tmp_path / "t.gguf")


def test_settings_that_cannot_be(model: Llama, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.gguf"
    other = write_gguf(tmp_path / "other.gguf", tensors(1) | {"token_embd.weight": np.zeros((10, 64), np.float32)})
    for tokenizer, s, message in (
        (tiny, export.Settings("q4_k_m"), "--llamero names one"),
        (tiny, export.Settings("q4_0", "q4_k_m"), "--head-type q4_k_m"),
        (tiny, export.Settings("q4_k_m", "q8_0", llamero="x"), "rule for the head"),
        (other, export.Settings(), "not of the student's teacher"),
        (tmp_path / "none.gguf", export.Settings(), "not there"),
    ):
        with pytest.raises(DistillError, match=message):
            export.export(model, tokenizer, s, out)
    assert not out.exists()
