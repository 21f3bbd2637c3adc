import string
from collections import Counter

import pytest

from distill import words
from distill.errors import DistillError
from distill.prompts import DOMAINS, draw, split_of

KNOWN = {
    "topic",
    "other",
    "name",
    "second",
    "person",
    "place",
    "tone",
    "length",
    "language",
    "task",
    "things",
    "format",
    "count",
    "passage",
    "broken",
}


def question(prompt) -> str:
    return prompt.messages[-1]["content"]


def test_a_prompt_follows_from_its_number() -> None:
    assert draw(1, "train", 7) == draw(1, "train", 7)
    assert draw(1, "train", 7) != draw(2, "train", 7)
    assert draw(1, "train", 7) != draw(1, "train", 8)


def test_no_prompt_is_in_both_splits() -> None:
    train = {question(draw(seed, "train", i)) for seed in (1, 2) for i in range(1500)}
    held = {question(draw(seed, "heldout", i)) for seed in (1, 3) for i in range(300)}
    assert not train & held


def test_splits_are_what_they_say() -> None:
    for split in ("train", "heldout"):
        assert all(split_of(draw(4, split, i)) == split for i in range(50))
    with pytest.raises(DistillError, match="'test'"):
        draw(1, "test", 0)


def test_prompts_are_varied() -> None:
    prompts = [draw(1, "train", i) for i in range(4000)]
    domains = Counter(p.domain for p in prompts)
    assert domains.keys() == DOMAINS.keys()
    assert min(domains.values()) > 600
    assert len({question(p) for p in prompts}) > 3500
    assert 0.1 < sum(bool(p.follow_up) for p in prompts) / 4000 < 0.3
    assert 0.2 < sum(len(p.messages) == 2 for p in prompts) / 4000 < 0.4
    assert not any("{" in question(p) or "}" in question(p) or "\n" in question(p) for p in prompts)


def test_templates_name_fields_that_there_are() -> None:
    templates = [t for group in (*DOMAINS.values(), words.SENTENCES) for t in group]
    fields = {field for t in templates for _, field, _, _ in string.Formatter().parse(t) if field}
    assert fields == KNOWN
    for name, group in vars(words).items():
        if isinstance(group, list):
            assert all(w and w == w.strip() for w in group), name
            assert len(set(group)) == len(group), name
