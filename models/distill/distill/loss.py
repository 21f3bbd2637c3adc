"""The loss against stored top-k distributions, with the head's gradient in chunks.

A row's target is what the teacher thought likely: k token ids with their
probabilities, and the rest as one bucket, the tail. With p the target, q the
student's softmax(z / T), sums over the k tokens and the tail's p_t and q_t:

    soft = T² · ( Σ p·log(p/q) + p_t·log(p_t/q_t) )        hard = −log softmax(z)[argmax p]
    loss = (1 − λ)·soft + λ·hard, the mean over rows

    ∂ KL / ∂ (z/T) = q − p on the k tokens, q·(1 − p_t/q_t) on the others

So a chunk's logits become its gradient in place, and go through the head to the
hidden states and, where it is trained, to the head's own gradient, before the next
chunk is looked at: nothing as wide as the vocabulary is kept for the backward pass.

Most of a vocabulary is likely nowhere in a batch. `shortlist` cuts the head to the
tokens that some row of the batch names and a random few of the others, each of which
stands for as many as it was drawn from: with w tokens behind a logit, the softmax is
that of z / T + log w. Its sum has the whole softmax's as its mean, and a step costs a
fifth of the head or so.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# A tail that the student holds for less likely counts as this much: below it, float32
# cannot tell 1 − Σq from 0.
_MIN_TAIL = 1e-6


@dataclass(frozen=True)
class Target:
    """Rows of the teacher's distributions at the labels' temperature, most likely first."""

    ids: Tensor  # (rows, k) int64
    probs: Tensor  # (rows, k)


@dataclass(frozen=True)
class Mix:
    temperature: float = 1.0
    hard: float = 0.1  # λ


@dataclass(frozen=True)
class Shortlist:
    """What a batch needs of the head."""

    head: Tensor  # (n, width): rows of the whole one
    log_weight: Tensor  # (n): for how many tokens each stands
    target: Target  # in the numbers of these rows


def shortlist(head: Tensor, target: Target, rng: torch.Generator, others: int = 2048) -> Shortlist:
    """The rows of the head that the target names, and so many others."""
    named, places = target.ids.unique(return_inverse=True)
    unnamed = torch.ones(len(head), dtype=torch.bool)
    unnamed[named] = False
    rest = unnamed.nonzero().squeeze(1)
    drawn = rest[torch.randperm(len(rest), generator=rng)[:others]]
    log_weight = torch.zeros(len(named) + len(drawn), dtype=target.probs.dtype)
    if len(drawn):
        log_weight[len(named) :] = math.log(len(rest) / len(drawn))
    return Shortlist(head[torch.cat((named, drawn))], log_weight, Target(places, target.probs))


def distill_loss(
    hidden: Tensor, head: Tensor, target: Target, mix: Mix, log_weight: Tensor | None = None, chunk: int = 128
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its two parts before they are mixed, which carry no gradient."""
    return _ChunkedHead.apply(hidden, head, target.ids, target.probs, log_weight, mix, chunk)


class _ChunkedHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, ids, probs, log_weight, mix, chunk):
        want_hidden, want_head = ctx.needs_input_grad[:2]
        rows = hidden.shape[0]
        grad_hidden = torch.empty_like(hidden) if want_hidden else None
        # Summed in the loss's precision: many small chunks would be lost in bfloat16.
        grad_head = torch.zeros(head.shape, dtype=probs.dtype, device=head.device) if want_head else None
        soft = probs.new_zeros(())
        hard = probs.new_zeros(())
        for at in range(0, rows, chunk):
            part = slice(at, at + chunk)
            h = hidden[part].to(head.dtype)
            z = (h @ head.T).to(probs.dtype)
            kl, ce, grad = _row_losses(z, ids[part], probs[part], log_weight, mix, want_hidden or want_head)
            soft += kl
            hard += ce
            if grad is None:
                continue
            grad = (grad / rows).to(head.dtype)
            if want_hidden:
                grad_hidden[part] = (grad @ head).to(hidden.dtype)
            if want_head:
                grad_head += grad.T @ h
        soft, hard = soft / rows, hard / rows
        ctx.save_for_backward(grad_hidden, None if grad_head is None else grad_head.to(head.dtype))
        ctx.mark_non_differentiable(soft, hard)
        return (1 - mix.hard) * soft + mix.hard * hard, soft, hard

    @staticmethod
    def backward(ctx, grad, *_):
        grad_hidden, grad_head = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad.to(grad_hidden.dtype),
            None if grad_head is None else grad_head * grad.to(grad_head.dtype),
            *(None,) * 5,
        )


def _row_losses(
    z: Tensor, ids: Tensor, p: Tensor, log_weight: Tensor | None, mix: Mix, with_grad: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sums of soft and hard loss over a chunk's rows, and their mix's gradient by z."""
    t = mix.temperature
    log_q = _log_softmax(z / t, log_weight)
    log_qk = log_q.gather(1, ids)
    p_tail = (1 - p.sum(1)).clamp_min(0)
    q_tail = (1 - log_qk.exp().sum(1)).clamp_min(_MIN_TAIL)
    top = torch.special.xlogy(p, p) - p * log_qk
    tail = torch.special.xlogy(p_tail, p_tail) - p_tail * q_tail.log()
    soft = t * t * (top.sum() + tail.sum())
    best = ids[:, :1]
    log_q1 = log_q if t == 1 else _log_softmax(z, log_weight)
    hard = -log_q1.gather(1, best).sum()
    if not with_grad:
        return soft, hard, None
    # λ times the hard part first, in a tensor of its own only where T makes it differ.
    hard_grad = log_q1.exp() if t != 1 else None
    q = log_q.exp_()
    qk = q.gather(1, ids)
    grad = q * ((1 - mix.hard) * t * (1 - p_tail / q_tail) + (mix.hard if t == 1 else 0.0))[:, None]
    grad.scatter_(1, ids, (1 - mix.hard) * t * (qk - p) + (mix.hard * qk if t == 1 else 0.0))
    if hard_grad is not None:
        grad += mix.hard * hard_grad
    return soft, hard, grad.scatter_add_(1, best, torch.full_like(best, -mix.hard, dtype=grad.dtype))


def _log_softmax(z: Tensor, log_weight: Tensor | None) -> Tensor:
    return torch.log_softmax(z if log_weight is None else z + log_weight, -1)
