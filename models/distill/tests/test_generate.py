import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakegateway import FakeGateway, answer

from distill import texts
from distill.errors import DistillError
from distill.gateway import Gateway
from distill.generate import Settings, generate

SMALL = Settings(count=40, seed=3, clients=4, max_tokens=32)


def client(fake: FakeGateway, **changes: float) -> Gateway:
    return Gateway(fake.url, 4, **({"pause": 0.0} | changes))


def test_texts_hold_what_was_asked_and_said(tmp_path: Path) -> None:
    with FakeGateway() as fake:
        generate(client(fake), SMALL, tmp_path / "t.jsonl")
    got = texts.read(tmp_path / "t.jsonl")
    assert [t.index for t in got] == list(range(40))
    assert {t.temperature for t in got} == {0.0, 0.8}
    assert len({t.domain for t in got}) == 5
    follow_ups = [t for t in got if any(m["role"] == "assistant" for m in t.messages)]
    assert follow_ups
    for t in got:
        assert t.tokens[t.start :] == [3 + b % 128 for b in t.answer.encode()]
        assert bytes((x - 3) % 128 for x in t.tokens[: t.start]).endswith(b"<assistant>")
        assert t.messages[-1]["role"] == "user"
    for t in follow_ups:
        assert t.messages[-2]["role"] == "assistant"
    greedy = next(t for t in got if t.temperature == 0)
    assert greedy.answer == answer({"messages": greedy.messages, "temperature": 0, "seed": 0})


def test_a_stopped_run_goes_on_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    with FakeGateway() as fake:
        generate(client(fake), SMALL, tmp_path / "whole.jsonl")
        whole = len(fake.chats)
    out = tmp_path / "t.jsonl"
    with FakeGateway(fail_after=15) as fake, pytest.raises(DistillError, match="enough"):
        generate(client(fake), SMALL, out)
    before = len(texts.read(out))
    assert 0 < before < 40
    with out.open("ab") as f:
        f.write(b'{"index": 39, "seed"')  # cut off while it was written
    with FakeGateway() as fake:
        generate(client(fake), SMALL, out)
        assert 0 < len(fake.chats) < whole
    assert texts.read(out) == texts.read(tmp_path / "whole.jsonl")
    with FakeGateway() as fake:
        generate(client(fake), SMALL, out)
        assert not fake.chats


def test_a_busy_or_broken_gateway_is_asked_again(tmp_path: Path) -> None:
    with FakeGateway(busy=3, broken=2) as fake:
        generate(client(fake), SMALL, tmp_path / "t.jsonl")
    assert len(texts.read(tmp_path / "t.jsonl")) == 40


def test_a_gateway_that_stays_busy_is_an_error(tmp_path: Path) -> None:
    with FakeGateway(busy=10_000) as fake, pytest.raises(DistillError, match="503"):
        generate(client(fake, retries=2), SMALL, tmp_path / "t.jsonl")


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    with FakeGateway() as fake:
        url = fake.url
    with pytest.raises(DistillError, match="/v1/models"):
        generate(Gateway(url, 1, retries=1, pause=0.0), SMALL, tmp_path / "t.jsonl")
    with pytest.raises(DistillError, match="http://HOST:PORT"):
        Gateway("localhost:8080", 1)


def test_another_run_does_not_go_on_in_the_same_file(tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"
    with FakeGateway() as fake:
        generate(client(fake), replace(SMALL, count=2), out)
        for other in (replace(SMALL, seed=4), replace(SMALL, split="heldout")):
            with pytest.raises(DistillError, match="name another file"):
                generate(client(fake), other, out)


@pytest.mark.parametrize("change", [{"count": 0}, {"clients": 0}, {"max_tokens": 0}, {"sampled": 1.5}, {"temperature": 0.0}])
def test_settings_have_bounds(change: dict) -> None:
    with pytest.raises(DistillError, match="it can be"):
        replace(SMALL, **change)


def test_files_of_texts_that_are_damaged(tmp_path: Path) -> None:
    good = {
        "index": 0, "seed": 1, "split": "train", "domain": "qa", "model": "m", "temperature": 0, "messages": [], "answer": "a",
        "finish": "stop", "tokens": [1, 2], "start": 1,
    }  # fmt: skip
    out = tmp_path / "t.jsonl"
    for lines, message in (
        ([], "holds no texts"),
        (["nonsense"], "line 1"),
        ([json.dumps(good), "[]"], "line 2"),
        ([json.dumps(good | {"start": 2})], "begins at 2"),
        ([json.dumps({"index": 0})], "line 1"),
        ([json.dumps(good)] * 2, "text 0 twice"),
    ):
        out.write_text("".join(line + "\n" for line in lines))
        with pytest.raises(DistillError, match=message):
            texts.read(out)
