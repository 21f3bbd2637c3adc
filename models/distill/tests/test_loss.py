import pytest
import torch
from torch import Tensor

from distill.loss import Mix, Target, distill_loss, shortlist

ROWS, WIDTH, VOCAB = 37, 12, 50


def dense(hidden: Tensor, head: Tensor, target: Target, mix: Mix) -> Tensor:
    """The formula of the module's text, by autograd over whole logits."""
    z = hidden @ head.T
    q = (z / mix.temperature).softmax(-1)
    p, qk = target.probs, q.gather(1, target.ids)
    p_tail, q_tail = 1 - p.sum(1), 1 - qk.sum(1)
    soft = (p * (p / qk).log()).sum(1)
    if target.ids.shape[1] < VOCAB:
        soft = soft + p_tail * (p_tail / q_tail).log()
    hard = torch.nn.functional.cross_entropy(z, target.ids[:, 0])
    return (1 - mix.hard) * mix.temperature**2 * soft.mean() + mix.hard * hard


def case(k: int, temperature: float) -> tuple[Tensor, Tensor, Target]:
    rng = torch.Generator().manual_seed(k)
    hidden = torch.randn(ROWS, WIDTH, generator=rng, dtype=torch.float64)
    head = torch.randn(VOCAB, WIDTH, generator=rng, dtype=torch.float64)
    p = (torch.randn(ROWS, VOCAB, generator=rng, dtype=torch.float64) / temperature).softmax(-1).topk(k)
    return hidden.requires_grad_(), head.requires_grad_(), Target(p.indices, p.values)


@pytest.mark.parametrize("k", [1, 8, VOCAB])
@pytest.mark.parametrize("mix", [Mix(1.0, 0.0), Mix(1.0, 0.3), Mix(2.0, 0.0), Mix(0.7, 0.25), Mix(1.0, 1.0), Mix(2.0, 1.0)])
@pytest.mark.parametrize("chunk", [1, 10, ROWS, 1000])
def test_loss_and_gradients_are_those_of_whole_logits(k: int, mix: Mix, chunk: int) -> None:
    hidden, head, target = case(k, mix.temperature)
    want = dense(hidden, head, target, mix)
    want_grads = torch.autograd.grad(want, (hidden, head))
    got, soft, hard = distill_loss(hidden, head, target, mix, chunk=chunk)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close((1 - mix.hard) * soft + mix.hard * hard, want)
    # A factor, as gradient accumulation has it, reaches both.
    got_grads = torch.autograd.grad(3 * got, (hidden, head))
    for mine, theirs in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(mine, 3 * theirs, atol=1e-9, rtol=1e-6)


def test_a_shortlist_of_every_token_is_the_whole_head() -> None:
    hidden, head, target = case(3, 2.0)
    mix = Mix(2.0, 0.3)
    cut = shortlist(head, target, torch.Generator(), VOCAB)
    assert not cut.log_weight.any()
    got, *_ = distill_loss(hidden, cut.head, cut.target, mix, cut.log_weight)
    want = dense(hidden, head, target, mix)
    torch.testing.assert_close(got, want)
    for mine, theirs in zip(torch.autograd.grad(got, (hidden, head)), torch.autograd.grad(want, (hidden, head)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("t", [1.0, 2.0])
def test_a_drawn_token_stands_for_those_it_was_drawn_from(t: float) -> None:
    hidden, head, target = case(3, t)
    hidden, target, mix = hidden[:5], Target(target.ids[:5], target.probs[:5]), Mix(t, 0.3)
    rest = VOCAB - len(target.ids.unique())
    assert rest > 10
    cut = shortlist(head, target, torch.Generator().manual_seed(1), 4)
    assert len(cut.head) == VOCAB - rest + 4
    # As if every drawn token were there so many times: whole numbers of them, here.
    copies = 3
    log_weight = torch.where(cut.log_weight > 0, torch.tensor(copies).log(), 0.0).double()
    many = torch.cat((cut.head, *[cut.head[-4:]] * (copies - 1)))
    got, *_ = distill_loss(hidden, cut.head, cut.target, mix, log_weight)
    want = dense(hidden, many, cut.target, mix)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, hidden)[0], torch.autograd.grad(want, hidden)[0])
    torch.testing.assert_close(cut.log_weight[-4:].exp(), torch.full((4,), rest / 4, dtype=torch.float64))
    # Over many draws, the sum of the softmax is that of the whole one.
    z = (hidden @ head.T / t).detach().exp().sum(1)
    sums = []
    for seed in range(400):
        c = shortlist(head, target, torch.Generator().manual_seed(seed), 4)
        sums.append((hidden @ c.head.T / t + c.log_weight).detach().exp().sum(1))
    drawn = torch.stack(sums)
    assert ((drawn.mean(0) - z).abs() < 4 * drawn.std(0) / len(sums) ** 0.5).all()


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, target = case(8, 1.0)
    loss, *_ = distill_loss(hidden, head.detach(), target, Mix())
    loss.backward()
    assert hidden.grad is not None
    assert head.grad is None


def test_the_teacher_itself_has_no_soft_loss() -> None:
    rng = torch.Generator().manual_seed(1)
    hidden, head = torch.randn(ROWS, WIDTH, generator=rng), torch.randn(VOCAB, WIDTH, generator=rng)
    top = (hidden @ head.T).softmax(-1).topk(8)
    hidden.requires_grad_()
    loss, soft, _ = distill_loss(hidden, head, Target(top.indices, top.values), Mix(hard=0.0))
    loss.backward()
    assert abs(soft.item()) < 1e-5
    assert hidden.grad.abs().max() < 1e-5


def test_a_certain_student_keeps_gradients_finite() -> None:
    """A student that puts everything on one token leaves a tail of 0 in float32."""
    head = torch.zeros(VOCAB, WIDTH)
    head[3, 0] = 1
    hidden = torch.zeros(1, WIDTH)
    hidden[0, 0] = 300
    hidden.requires_grad_()
    target = Target(torch.tensor([[3, 4]]), torch.tensor([[0.5, 0.2]]))
    loss, *_ = distill_loss(hidden, head, target, Mix())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all()


def test_bfloat16_is_near_float32() -> None:
    rng = torch.Generator().manual_seed(2)
    hidden, head = torch.randn(ROWS, WIDTH, generator=rng), torch.randn(VOCAB, WIDTH, generator=rng)
    top = torch.randn(ROWS, VOCAB, generator=rng).softmax(-1).topk(8)
    target = Target(top.indices, top.values)
    wide, *_ = distill_loss(hidden, head, target, Mix())
    narrow, *_ = distill_loss(hidden, head.bfloat16(), target, Mix())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, rtol=0.02, atol=0.02)
