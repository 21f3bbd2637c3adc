"""The official Python SDK against a running gateway (LLAMERO_URL, LLAMERO_ALIAS)."""

import asyncio
import os

import openai

URL, MODEL = os.environ["LLAMERO_URL"] + "/v1", os.environ["LLAMERO_ALIAS"]
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=120)


def ask(text, **extra):
    extra = {"temperature": 0, "max_tokens": 16, **extra}
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **extra)


def test_completion():
    r = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0)
    assert "Paris" in r.choices[0].text, r
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens, r.usage
    r = client.completions.create(model=MODEL, prompt=["One", "Two"], max_tokens=2)
    assert [c.index for c in r.choices] == [0, 1], r
    r = client.completions.create(model=MODEL, prompt="One", max_tokens=2, echo=True, temperature=0)
    assert r.choices[0].text.startswith("One"), r


def test_streamed():
    whole = ask("Name three animals.")
    text, finish, usage, role = "", None, None, None
    for chunk in ask("Name three animals.", stream=True, stream_options={"include_usage": True}):
        if chunk.usage:
            usage = chunk.usage
            assert chunk.choices == [], chunk
        for choice in chunk.choices:
            role = role or choice.delta.role
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text == whole.choices[0].message.content, (text, whole)
    assert finish == whole.choices[0].finish_reason and role == "assistant", (finish, role)
    assert usage.completion_tokens == whole.usage.completion_tokens, usage
    assert usage.prompt_tokens_details.cached_tokens is not None, usage


def test_choices():
    r = ask("Tell me a story.", n=2, temperature=1, seed=3)
    assert {c.index for c in r.choices} == {0, 1}, r
    again = ask("Tell me a story.", n=2, temperature=1, seed=3)
    assert [c.message.content for c in r.choices] == [c.message.content for c in again.choices], (r, again)
    seen = {}
    for chunk in ask("Tell me a story.", n=2, temperature=1, seed=3, stream=True):
        for c in chunk.choices:
            seen[c.index] = seen.get(c.index, "") + (c.delta.content or "")
    assert seen == {c.index: c.message.content for c in r.choices}, (seen, r)


def test_logprobs():
    r = ask("Count to five.", logprobs=True, top_logprobs=2)
    content = r.choices[0].logprobs.content
    assert len(content) == r.usage.completion_tokens, r
    assert all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in content), r
    assert b"".join(bytes(t.bytes) for t in content).decode() == r.choices[0].message.content, r


def test_extensions():
    r = ask("Hello.", max_tokens=24, extra_body={"ignore_eos": True, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1})
    assert r.usage.completion_tokens == 24 and r.choices[0].finish_reason == "length", r


def test_errors():
    cases = [
        (openai.NotFoundError, "model_not_found", lambda: client.chat.completions.create(model="none", messages=[{"role": "user", "content": "x"}])),
        (openai.BadRequestError, None, lambda: ask("x", top_p=7)),
        (openai.BadRequestError, None, lambda: ask("x", tools=[{"type": "function", "function": {"name": "f"}}])),
        (openai.BadRequestError, None, lambda: ask("x", response_format={"type": "json_object"})),
        (openai.BadRequestError, None, lambda: client.completions.create(model=MODEL, prompt="x", suffix="y")),
        (openai.BadRequestError, "context_length_exceeded", lambda: ask("llama " * 3000)),
    ]
    for kind, code, call in cases:
        try:
            call()
        except kind as e:
            assert code is None or e.code == code, e
            assert e.body["message"] and e.type == "invalid_request_error", e.body
            assert e.request_id, e
        else:
            raise AssertionError(f"no {kind.__name__}")


async def test_async():
    async with openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0, timeout=120) as c:
        answers = await asyncio.gather(*(
            c.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0) for _ in range(6)
        ))
    assert all("Paris" in a.choices[0].text for a in answers), answers


def test_leaves_early():
    with ask("Tell me a long story.", max_tokens=512, stream=True) as stream:
        for _ in stream:
            break
    assert ask("Hi.", max_tokens=1).choices, "no answer after a client left"


for name, test in list(globals().items()):
    if name.startswith("test_"):
        print(name, flush=True)
        outcome = test()
        if asyncio.iscoroutine(outcome):
            asyncio.run(outcome)
print("ok")
