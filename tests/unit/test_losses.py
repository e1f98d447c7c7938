"""The paper's losses against closed forms."""

import pytest
import torch
from torch.nn import functional

from compiler.tasks import task_named
from compiler.tasks.embedding import embedding_loss
from compiler.tasks.losses import classification_loss
from compiler.tasks.regression import regression_loss


def test_distillation_has_the_gradient_of_the_papers_cross_entropy():
    torch.manual_seed(0)
    logits, teacher = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    for temperature in (1.0, 4.0, 10.0):
        soft = (teacher / temperature).softmax(-1)
        paper = temperature**2 * functional.cross_entropy(logits / temperature, soft)
        paper = paper + functional.cross_entropy(logits, labels)
        (expected,) = torch.autograd.grad(paper, logits)
        (ours,) = torch.autograd.grad(classification_loss(logits, labels, teacher, temperature), logits)
        torch.testing.assert_close(ours, expected)


def test_a_perfect_pupil_costs_nothing_and_the_teacher_gets_no_gradient():
    torch.manual_seed(0)
    teacher = torch.randn(4, 3, requires_grad=True)
    loss = classification_loss(teacher.detach().clone().requires_grad_(), None, teacher, 10.0)
    assert abs(loss.item()) < 1e-5
    loss.backward()
    assert teacher.grad is None
    score = torch.randn(4, 1)
    assert float(regression_loss(score, score[:, 0], score)) == 0
    assert float(regression_loss(score, score[:, 0] + 1, score + 2)) == pytest.approx(5)


def test_embedding_loss_ignores_padding_and_length_of_vectors():
    torch.manual_seed(0)
    tokens, sentence = torch.randn(2, 4, 8), torch.randn(2, 8)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    changed = tokens.clone()
    changed[1, 2:] = 99.0
    assert float(embedding_loss((changed, 3 * sentence), mask, (tokens, sentence))) == pytest.approx(0, abs=1e-6)
    changed[0, 0] += 1
    assert float(embedding_loss((changed, sentence), mask, (tokens, sentence))) == pytest.approx(1 / 6)


@pytest.mark.parametrize("task", ["classification", "regression", "embedding"])
def test_nothing_to_learn_from_is_an_error(task):
    outputs = (torch.randn(2, 3, 1), torch.randn(2, 1))
    with pytest.raises(ValueError, match=r"teacher"):
        task_named(task).loss(outputs, torch.ones(2, 3), None, None, 10.0)
