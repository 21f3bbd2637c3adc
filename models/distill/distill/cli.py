"""The command line: one subcommand a stage, and run for all of them."""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch

from . import ablate, curves, evaluate, export, generate, label, pad, pipeline, shards, teacher, train
from .card import write_card
from .errors import DistillError
from .files import digest, read_json
from .gateway import Gateway
from .shards import Origin

_STOPPED = 130  # as a shell has it for SIGINT
# A head of 4 bits costs half of one in 8; a student that is trained with it loses little by that.
_HEAD = "q4_0"


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    # As SIGINT does: a gateway that run has started must not outlive it.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if args.threads:
            torch.set_num_threads(args.threads)
        args.run(args)
        return 0
    except (DistillError, OSError) as e:  # OSError: a full disk, a folder that cannot be written to
        print(f"distill: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("distill: stopped; the same command goes on", file=sys.stderr)
        return _STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="distill", description="Make a small draft model out of a large one, for speculative decoding.")
    top.add_argument("--threads", type=_threads, default=0, help="threads that PyTorch computes with (default: its own choice)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        p.set_defaults(run=run)
        return p

    p = command("generate", _generate, "let the teacher answer prompts, through a gateway")
    p.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway; its key, if it needs one, is LLAMERO_API_KEY")
    p.add_argument("--out", type=Path, required=True, help="JSONL file of texts; one that is there is completed")
    p.add_argument("--split", choices=("train", "heldout"), default="train", help="heldout prompts are never trained on")
    _generate_flags(p, count=20000)

    p = command("label", _label, "store the teacher's likely tokens beside the texts")
    _teacher_flag(p)
    p.add_argument("--texts", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True, help="folder of shards; what is there is kept")
    _label_flags(p)

    p = command("ablate", _ablate, "find out which of the teacher's layers matter")
    _teacher_flag(p)
    p.add_argument("--labels", type=Path, required=True, help="folder of shards")
    p.add_argument("--out", type=Path, required=True, help="JSON file")
    p.add_argument("--sample", type=int, default=2000, help="labels to measure on")

    p = command("train", _train, "train a student of some of the teacher's layers")
    _teacher_flag(p)
    p.add_argument("--labels", type=Path, required=True, help="folder of shards")
    p.add_argument("--heldout", type=Path, required=True, help="folder of shards that acceptance is watched on")
    p.add_argument("--out", type=Path, required=True, help="folder of the run; one that was stopped goes on")
    p.add_argument("--layers", type=_numbers, default=(), help="layers to keep, like 0,1,2,15,28,29")
    p.add_argument("--ablation", type=Path, help="file of ablate that says which layers to keep, with --keep")
    p.add_argument("--keep", type=int, default=7, help="how many layers to keep, by --ablation")
    p.add_argument("--head-type", default=_HEAD, help="type that export is to give embedding and head (empty: not rounded)")
    _train_flags(p)

    p = command("export", _export, "write a student as a GGUF file")
    _teacher_flag(p)
    p.add_argument("--run", dest="folder", type=Path, required=True, help="folder of a training run")
    p.add_argument("--out", type=Path, required=True, help="GGUF file")
    _export_flags(p)

    p = command("evaluate", _evaluate, "measure a student's acceptance by domain, and its cost")
    p.add_argument("--student", type=Path, required=True, help="GGUF file of the draft")
    p.add_argument("--target", type=Path, required=True, help="GGUF file of the model that it drafts for")
    p.add_argument("--labels", type=Path, required=True, help="folder of shards of held-out texts")
    p.add_argument("--name", default="", help="what it is called in tables (empty: as its file)")
    p.add_argument("--out", type=Path, required=True, help="JSON file")

    p = command("plot", _plot, "draw the acceptance and cost of students")
    p.add_argument("results", type=Path, nargs="+", help="files of evaluate")
    p.add_argument("--out", type=Path, required=True, help="PNG file")

    p = command("card", _card, "write a student's model card")
    _teacher_flag(p)
    p.add_argument("--run", dest="folder", type=Path, required=True, help="folder of its training run")
    p.add_argument("--student", type=Path, required=True, help="GGUF file of the draft")
    p.add_argument("--labels", type=Path, required=True, help="folder of shards that it was trained on")
    p.add_argument("--result", type=Path, required=True, help="file of evaluate")
    p.add_argument("--others", type=Path, nargs="*", default=[], help="files of evaluate of other students")
    p.add_argument("--text-seed", type=int, default=1, help="the seed that the texts were generated with")
    p.add_argument("--writer", default="the teacher", help="who wrote the texts, where a faster file of the same model did")
    p.add_argument("--text-temperature", type=float, default=0.8, help="the temperature of sampled texts")
    p.add_argument("--out", type=Path, required=True, help="Markdown file")

    p = command("pad", _pad, "make a model deeper by layers that change nothing")
    p.add_argument("input", type=Path, help="GGUF file")
    p.add_argument("output", type=Path, help="GGUF file")
    p.add_argument("--times", type=int, default=10, help="how many times as many layers")

    p = command("run", _run, "do all of it, from texts to model cards; what was stopped goes on")
    _teacher_flag(p)
    p.add_argument("--work", type=Path, required=True, help="folder of everything that is made")
    p.add_argument("--llamero", default="llamero", help="the llamero that serves the teacher")
    p.add_argument("--url", default="", help="a gateway that serves the teacher already")
    p.add_argument("--heldout", type=int, default=500, help="held-out texts")
    p.add_argument("--shapes", type=_numbers, default=(4, 7, 10), help="layers of each student")
    p.add_argument("--ablation-sample", type=int, default=2000, help="labels that layers are chosen by")
    _generate_flags(p, count=20000, seed="--text-seed")
    _label_flags(p)
    _train_flags(p)
    _export_flags(p, llamero=False)
    return top


def _teacher_flag(p: argparse.ArgumentParser) -> None:
    p.add_argument("--teacher", type=Path, required=True, help="Llama-family GGUF file, or Hugging Face folder")


def _generate_flags(p: argparse.ArgumentParser, count: int, seed: str = "--seed") -> None:
    d = generate.Settings(count)
    p.add_argument("--count", type=int, default=count, help="texts")
    p.add_argument(seed, dest="text_seed", type=int, default=d.seed, help="seed of prompts and answers")
    p.add_argument("--clients", type=int, default=d.clients, help="requests at once")
    p.add_argument("--max-tokens", type=int, default=d.max_tokens, help="tokens of an answer")
    p.add_argument("--sampled", type=float, default=d.sampled, help="share of answers that are sampled")
    p.add_argument("--sampling-temperature", type=float, default=d.temperature, help="their temperature")


def _label_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument("--top-k", type=int, default=32, help="tokens kept at each position")
    p.add_argument("--temperature", type=_temperature, default=1.0, help="of the stored distributions and of the loss")
    p.add_argument("--precision", choices=("bf16", "f32"), default="bf16", help="of the computation")


def _train_flags(p: argparse.ArgumentParser) -> None:
    d = train.Settings(layers=(), steps=4000)
    p.add_argument("--steps", type=int, default=d.steps)
    p.add_argument("--batch-tokens", type=int, default=d.batch_tokens, help="tokens of a step, padding included")
    p.add_argument("--lr", type=float, default=d.lr, help="learning rate")
    p.add_argument("--warmup", type=int, default=d.warmup, help="steps of warm-up")
    p.add_argument("--hard", type=float, default=d.hard, help="share of the cross-entropy to the teacher's choice in the loss")
    p.add_argument("--seed", type=int, default=d.seed, help="seed of the order of texts")
    p.add_argument("--train-embedding", action="store_true", help="train the embedding, which is the head, too")
    p.add_argument("--eval-every", type=int, default=d.eval_every, help="steps between looks at acceptance")
    p.add_argument("--eval-texts", type=int, default=d.eval_texts, help="held-out texts of such a look")
    p.add_argument("--save-every", type=int, default=d.save_every, help="steps between checkpoints")


def _export_flags(p: argparse.ArgumentParser, llamero: bool = True) -> None:
    d = export.Settings()
    p.add_argument("--type", default=d.type, help=f"{', '.join(export.TYPES)}, or with --llamero any that it quantises to")
    p.add_argument("--head-type", default=_HEAD, help="type of the embedding and the head (empty: --type)")
    p.add_argument("--name", default=d.name, help="the model's name (empty: made from the teacher's)")
    p.add_argument("--tokenizer", type=Path, help="GGUF file with the teacher's tokenizer (default: the teacher)")
    if llamero:
        p.add_argument("--llamero", default="", help="a llamero that quantises")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("numbers with commas between them are wanted") from None


def _threads(text: str) -> int:
    return int(_bounded(text, 0, 1024))


def _temperature(text: str) -> float:
    return _bounded(text, 0.05, 20)


def _bounded(text: str, low: float, high: float) -> float:
    try:
        if low <= float(text) <= high:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a number from {low} to {high} is wanted")


def _generate_settings(a: argparse.Namespace, split: str) -> generate.Settings:
    return generate.Settings(a.count, a.text_seed, split, a.clients, a.max_tokens, a.sampled, a.sampling_temperature)


def _generate(a: argparse.Namespace) -> None:
    gateway = Gateway(a.url, a.clients, os.environ.get("LLAMERO_API_KEY", ""))
    generate.generate(gateway, _generate_settings(a, a.split), a.out)


def _label(a: argparse.Namespace) -> None:
    model = teacher.load_model(a.teacher).eval()
    origin = Origin(digest(a.teacher), model.config.vocab, a.top_k, a.temperature, a.precision)
    label.label(model, origin, next(iter(teacher.stop_tokens(a.teacher)), None), a.texts, a.out)


def _ablate(a: argparse.Namespace) -> None:
    examples, origin = shards.load(a.labels)
    _same_teacher(a.teacher, origin)
    ablate.ablate(teacher.load_model(a.teacher).eval(), examples, origin, a.sample, a.out)


def _train_settings(a: argparse.Namespace, layers: tuple[int, ...], precision: str) -> train.Settings:
    return train.Settings(
        layers=layers, steps=a.steps, batch_tokens=a.batch_tokens, lr=a.lr, warmup=min(a.warmup, a.steps), hard=a.hard, seed=a.seed,
        train_embedding=a.train_embedding, head_type=a.head_type, precision=precision,
        eval_every=a.eval_every, eval_texts=a.eval_texts, save_every=a.save_every,
    )  # fmt: skip


def _train(a: argparse.Namespace) -> None:
    examples, origin = shards.load(a.labels)
    held_out, watched = shards.load(a.heldout)
    _same_teacher(a.teacher, origin)
    if watched != origin:
        raise DistillError(f"{a.heldout} and {a.labels} were labelled in different ways")
    if not a.layers and a.ablation is None:
        raise DistillError("which layers? --layers 0,1,…, or --ablation FILE --keep N")
    layers = a.layers or tuple(ablate.layers_to_keep(a.ablation, a.keep))
    if not train.train(teacher.load_model(a.teacher), examples, held_out, origin, _train_settings(a, layers, origin.precision), a.out):
        raise KeyboardInterrupt


def _export(a: argparse.Namespace) -> None:
    student, _ = train.load_student(teacher.load_model(a.teacher), digest(a.teacher), a.folder)
    export.export(student, a.tokenizer or a.teacher, export.Settings(a.type, a.head_type, a.name, a.llamero), a.out)


def _evaluate(a: argparse.Namespace) -> None:
    examples, origin = shards.load(a.labels)
    student = teacher.load_model(a.student).eval()
    if student.config.vocab != origin.vocab:
        raise DistillError(f"{a.student} has a vocabulary of {student.config.vocab}, the labels one of {origin.vocab}")
    result = evaluate.evaluate(a.name or a.student.stem, student, examples, a.target, a.student, a.out, origin.precision)
    for kind in ("greedy", "sampled"):
        for domain, f in result[kind].items():
            print(f"{kind:8} {domain:8} {f['acceptance']:.3f} accepted, {f['tokens_by_depth']['3']:.2f} tokens a verification at depth 3")


def _plot(a: argparse.Namespace) -> None:
    curves.draw_students([read_json(p) for p in a.results], a.out)


def _card(a: argparse.Namespace) -> None:
    examples, origin = shards.load(a.labels)
    _, state = train.load_student(teacher.load_model(a.teacher), origin.teacher, a.folder)
    texts = {"seed": a.text_seed, "temperature": a.text_temperature}
    others = [read_json(p) for p in a.others]
    write_card(a.out, a.teacher, a.student, read_json(a.result), others, state, examples, origin, texts, a.writer)


def _pad(a: argparse.Namespace) -> None:
    pad.pad(a.input, a.output, a.times)


def _run(a: argparse.Namespace) -> None:
    done = pipeline.run(
        pipeline.Settings(
            teacher=a.teacher,
            work=a.work,
            generate=_generate_settings(a, "train"),
            held_out=a.heldout,
            top_k=a.top_k,
            temperature=a.temperature,
            ablation_labels=a.ablation_sample,
            shapes=a.shapes,
            train=_train_settings(a, (), a.precision),
            export=export.Settings(a.type, a.head_type, a.name, a.llamero),
            tokenizer=a.tokenizer or a.teacher,
            llamero=a.llamero,
            url=a.url,
        )
    )
    if not done:
        raise KeyboardInterrupt


def _same_teacher(path: Path, origin: Origin) -> None:
    if digest(path) != origin.teacher:
        raise DistillError(f"the labels are of another teacher than {path}")
