"""The whole way from a teacher to drafts of several shapes, in one folder.

    texts/      what the teacher wrote        labels/     what it thought likely
    ablation.json                             s4/ s7/ …   a student each: checkpoint,
    students.png                                          log, curves, GGUF, figures, card

Every stage finds what it has done before, so that the same command goes on.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from . import ablate, curves, evaluate, export, generate, label, shards, teacher, texts, train
from .card import write_card
from .errors import DistillError
from .files import digest, read_json
from .gateway import Gateway
from .shards import Origin

_START = 120.0  # seconds that a gateway may take to load a model


@dataclass(frozen=True)
class Settings:
    teacher: Path
    work: Path
    generate: generate.Settings
    held_out: int
    top_k: int
    temperature: float
    ablation_labels: int
    shapes: tuple[int, ...]  # layers of each student
    train: train.Settings  # whose layers are replaced by each shape's
    export: export.Settings
    tokenizer: Path  # a GGUF file of the teacher's
    llamero: str  # the binary that serves the teacher where url is empty
    url: str = ""


def run(s: Settings) -> bool:
    """True once all is done; false if a signal stopped the training."""
    model = teacher.load_model(s.teacher).eval()
    layers = model.config.layers
    if not s.shapes or any(not 1 <= n <= layers for n in s.shapes):
        raise DistillError(f"--shapes must be numbers of layers from 1 to {layers}")
    _generate(s)
    origin = Origin(digest(s.teacher), model.config.vocab, s.top_k, s.temperature, s.train.precision)
    stop = next(iter(teacher.stop_tokens(s.teacher)), None)
    for split in ("train", "heldout"):
        label.label(model, origin, stop, _texts(s, split), s.work / "labels" / split)
    examples, _ = shards.load(s.work / "labels" / "train")
    held_out, _ = shards.load(s.work / "labels" / "heldout")
    ablation = s.work / "ablation.json"
    if not ablation.exists() or read_json(ablation).get("teacher") != origin.teacher:
        ablate.ablate(model, examples, origin, s.ablation_labels, ablation)
    results = []
    for count in s.shapes:
        folder = s.work / f"s{count}"
        settings = replace(s.train, layers=tuple(ablate.layers_to_keep(ablation, count)))
        if not train.train(model, examples, held_out, origin, settings, folder):
            return False
        student, _ = train.load_student(model, origin.teacher, folder)
        draft = _draft(s, count)
        export.export(student, s.tokenizer, s.export, draft)
        # Judged as it will be served: quantised.
        served = teacher.load_model(draft).eval()
        results.append(evaluate.evaluate(draft.stem, served, held_out, s.tokenizer, draft, folder / "result.json", origin.precision))
    curves.draw_students(results, s.work / "students.png")
    for count, result in zip(s.shapes, results, strict=True):
        state = train.load_student(model, origin.teacher, s.work / f"s{count}")[1]
        others = [r for r in results if r is not result]
        how = {"seed": s.generate.seed, "temperature": s.generate.temperature}
        write_card(s.work / f"s{count}" / "MODEL_CARD.md", s.tokenizer, _draft(s, count), result, others, state, examples, origin, how)
    return True


def _texts(s: Settings, split: str) -> Path:
    return s.work / "texts" / f"{split}.jsonl"


def _draft(s: Settings, count: int) -> Path:
    return s.work / f"s{count}" / f"{s.tokenizer.stem.split('.')[0]}-draft-{count}l.gguf"


def _generate(s: Settings) -> None:
    wanted = [replace(s.generate, split=split, count=n) for split, n in (("heldout", s.held_out), ("train", s.generate.count))]
    if all(_complete(_texts(s, g.split), g.count) for g in wanted):
        return
    with _served(s) as url:
        gateway = Gateway(url, s.generate.clients, os.environ.get("LLAMERO_API_KEY", ""))
        for g in wanted:
            generate.generate(gateway, g, _texts(s, g.split))


def _complete(path: Path, count: int) -> bool:
    return path.exists() and path.stat().st_size > 0 and len(texts.read(path)) >= count


@contextmanager
def _served(s: Settings) -> Iterator[str]:
    """The address of a gateway that serves the teacher: the one that is named, or one of our own."""
    if s.url:
        yield s.url
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    s.work.mkdir(parents=True, exist_ok=True)
    command = [s.llamero, "serve", "--model", str(s.tokenizer), "--listen", address, "--slots", str(s.generate.clients)]
    log = s.work / "serve.log"
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        except OSError as e:
            raise DistillError(f"cannot start {s.llamero}: {e}") from None
    try:
        _wait_ready(Gateway(f"http://{address}", 1), process, log)
        yield f"http://{address}"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(gateway: Gateway, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + _START
    while not gateway.ready():
        if process.poll() is not None:
            raise DistillError(f"the gateway ended while it started: {_tail(log)}")
        if time.monotonic() > end:
            raise DistillError(f"the gateway was not ready after {_START:.0f} s: {_tail(log)}")
        time.sleep(0.2)


def _tail(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log}"
