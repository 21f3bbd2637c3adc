"""Files that are whole or not there, and what identifies them."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DistillError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside path to write to; what was written takes path's place only
    when the block ends well, so that a stopped run leaves the old file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DistillError(f"{path} is not there") from None
    except (OSError, ValueError) as e:
        raise DistillError(f"cannot read {path}: {e}") from None
    if not isinstance(value, dict):
        raise DistillError(f"{path} does not hold a JSON object")
    return value


def digest(path: Path) -> str:
    """SHA-256 of a model: of the file, or of a folder's configuration and weights."""
    parts = sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors")) if path.is_dir() else [path]
    h = hashlib.sha256()
    for part in parts:
        with part.open("rb") as f:
            while chunk := f.read(1 << 20):
                h.update(chunk)
    return h.hexdigest()
