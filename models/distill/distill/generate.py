"""The teacher answers prompts, through the gateway, and the texts are kept.

Many requests are under way at once, so that the gateway fills its batches. Each
has a seed of its own and every text its number: a run that was stopped asks only
for what is missing.
"""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from tqdm import tqdm

from . import texts
from .errors import DistillError
from .gateway import Gateway
from .prompts import draw


@dataclass(frozen=True)
class Settings:
    count: int
    seed: int = 1
    split: str = "train"
    clients: int = 32
    max_tokens: int = 256
    sampled: float = 0.5  # share of answers that are sampled; the others are greedy
    temperature: float = 0.8  # of the sampled ones

    def __post_init__(self) -> None:
        bounds = (
            ("count", self.count, 1, 10_000_000),
            ("clients", self.clients, 1, 1024),
            ("max-tokens", self.max_tokens, 1, 32768),
            ("sampled", self.sampled, 0, 1),
            ("temperature", self.temperature, 0.01, 2),
        )
        for name, got, low, high in bounds:
            if not low <= got <= high:
                raise DistillError(f"--{name} is {got}; it can be {low} to {high}")


def generate(gateway: Gateway, s: Settings, out: Path) -> None:
    model = gateway.model()
    empty = 0
    with texts.Appender(out) as file:
        missing = _missing(out, s, model)
        with (
            tqdm(total=s.count, initial=s.count - len(missing), desc=f"{s.split} texts", unit="text") as bar,
            closing(_answered(gateway, s, model, missing)) as answered,
        ):
            for text in answered:
                if text is None:
                    empty += 1
                else:
                    file.add(text)
                bar.update()
    if empty:
        tqdm.write(f"{empty} of {s.count} prompts got an empty answer and were left out")


def _answered(gateway: Gateway, s: Settings, model: str, missing: list[int]) -> Iterator[texts.Text | None]:
    """The texts of these numbers as they come, None where an answer is empty."""
    todo = iter(missing)
    running: set[Future] = set()
    with ThreadPoolExecutor(s.clients) as pool:
        try:
            while True:
                # Twice as many as clients: the gateway never waits for the one who reads.
                for index in islice(todo, 2 * s.clients - len(running)):
                    running.add(pool.submit(_text, gateway, s, model, index))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _missing(out: Path, s: Settings, model: str) -> list[int]:
    if out.stat().st_size == 0:
        return list(range(s.count))
    have = texts.read(out)
    odd = next((t for t in have if (t.seed, t.split, t.model) != (s.seed, s.split, model)), None)
    if odd is not None:
        raise DistillError(
            f"{out} was begun with seed {odd.seed}, split {odd.split} and model {odd.model}; "
            f"this run has {s.seed}, {s.split} and {model}: name another file"
        )
    known = {t.index for t in have}
    return [i for i in range(s.count) if i not in known]


def _text(gateway: Gateway, s: Settings, model: str, index: int) -> texts.Text | None:
    prompt = draw(s.seed, s.split, index)
    rng = Random(f"answer/{s.seed}/{s.split}/{index}")
    temperature = s.temperature if rng.random() < s.sampled else 0.0
    messages = prompt.messages
    if prompt.follow_up:
        first, finish = gateway.chat(model, messages, s.max_tokens, temperature, rng.getrandbits(31))
        # A cut-off or empty answer is no turn that a person would go on from.
        if first and finish == "stop":
            messages = [*messages, {"role": "assistant", "content": first}, {"role": "user", "content": prompt.follow_up}]
    answer, finish = gateway.chat(model, messages, s.max_tokens, temperature, rng.getrandbits(31))
    if not answer.strip():
        return None
    before = gateway.prompt_tokens(messages)
    return texts.Text(
        index=index,
        seed=s.seed,
        split=s.split,
        domain=prompt.domain,
        model=model,
        temperature=temperature,
        messages=messages,
        answer=answer,
        finish=finish,
        tokens=before + gateway.text_tokens(answer),
        start=len(before),
    )
