import numpy as np
import pytest
import torch

from distill.batches import Feed, by_length, collate, shuffled

LENGTHS = np.random.default_rng(1).integers(2, 60, 200).tolist()


@pytest.mark.parametrize("budget", [1, 64, 500, 100_000])
def test_every_example_is_in_one_batch_within_the_budget(budget: int) -> None:
    for batches in (by_length(LENGTHS, budget), shuffled(LENGTHS, budget, 1, 0)):
        assert sorted(i for b in batches for i in b) == list(range(200))
        assert all(len(b) == 1 or len(b) * max(LENGTHS[i] for i in b) <= budget for b in batches)


def test_batches_follow_from_seed_and_epoch() -> None:
    first = shuffled(LENGTHS, 500, 1, 0)
    assert first == shuffled(LENGTHS, 500, 1, 0)
    assert first != shuffled(LENGTHS, 500, 1, 1)
    assert first != shuffled(LENGTHS, 500, 2, 0)
    assert len(first) < 1.3 * sum(LENGTHS) / 500  # neighbours in length share a batch


def test_a_batch_has_a_row_for_each_answer_token(labelled) -> None:
    examples = labelled[0][:3]
    b = collate(examples)
    flat, longest = b.tokens.flatten(), b.tokens.shape[1]
    at = 0
    for i, e in enumerate(examples):
        for j in range(len(e.answer)):
            row = int(b.rows[at])
            assert row == i * longest + e.start - 1 + j
            assert flat[row] == e.tokens[e.start - 1 + j]
            assert b.target.ids[at].tolist() == e.ids[j].tolist()
            at += 1
    assert at == len(b.rows) == len(b.target.probs)


def test_a_feed_that_begins_later_gives_the_same_batches(labelled) -> None:
    examples = labelled[0]
    steps = range(0, 40)  # some epochs
    all_steps = Feed(examples, 600, 5)
    want = [all_steps.batch(step) for step in steps]
    later = Feed(examples, 600, 5)
    for step in steps[17:]:
        assert torch.equal(later.batch(step).tokens, want[step].tokens)
