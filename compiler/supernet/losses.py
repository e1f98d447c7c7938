"""What a network's outputs cost: against labels, against a teacher's outputs, or both. Scalars, lower is better."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Outputs = tuple[Tensor, ...]
"""What a TaskModel returns: (logits [batch, labels],) or (tokens [batch, tokens, hidden], sentence [batch, hidden])."""

Loss = Callable[[Outputs, Tensor, Tensor | None, Outputs | None], Tensor]
"""(outputs, attention mask [batch, tokens], labels [batch], teacher's outputs) to a scalar; a missing term is left out."""


def classification_loss(logits: Tensor, labels: Tensor | None, teacher: Tensor | None, temperature: float) -> Tensor:
    """Cross-entropy of int64 `labels` [batch] plus T² times the divergence from the teacher's softened logits.

    Hinton et al., arXiv 1503.02531: T² keeps the gradient's size whatever T is. The divergence and the cross-entropy of
    softened logits have the same gradient; the divergence is 0 for a perfect pupil. ValueError without any target.
    """
    terms = []
    if teacher is not None:
        softened = functional.log_softmax(logits / temperature, dim=-1)
        target = functional.log_softmax(teacher.detach() / temperature, dim=-1)
        terms.append(temperature**2 * functional.kl_div(softened, target, reduction="batchmean", log_target=True))
    if labels is not None:
        terms.append(functional.cross_entropy(logits, labels))
    return _sum(terms)


def regression_loss(scores: Tensor, labels: Tensor | None, teacher: Tensor | None) -> Tensor:
    """Mean squared error of scores [batch, 1] to `labels` [batch] plus that to the teacher's scores [batch, 1]."""
    terms = []
    if teacher is not None:
        terms.append(functional.mse_loss(scores, teacher.detach()))
    if labels is not None:
        terms.append(functional.mse_loss(scores[:, 0], labels))
    return _sum(terms)


def embedding_loss(outputs: Outputs, mask: Tensor, teacher: Outputs | None) -> Tensor:
    """1 - cosine of sentence embeddings, plus the mean squared error of token embeddings where the mask is 1."""
    if teacher is None:
        raise ValueError("an embedding model learns from a teacher's embeddings: got none")
    tokens, sentence = outputs
    teacher_tokens, teacher_sentence = (tensor.detach() for tensor in teacher)
    distance = 1 - functional.cosine_similarity(sentence, teacher_sentence, dim=-1).mean()
    real = mask.unsqueeze(-1).to(tokens.dtype)
    squared = ((tokens - teacher_tokens) * real).square().sum()
    return distance + squared / (real.sum() * tokens.shape[-1])


def _sum(terms: list[Tensor]) -> Tensor:
    if not terms:
        raise ValueError("neither labels nor a teacher to learn from")
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def task_loss(task: str, temperature: float) -> Loss:
    """The loss of a task ("classification", "regression" or "embedding") on a TaskModel's outputs."""
    losses: dict[str, Loss] = {
        "classification": lambda outputs, _, labels, teacher: classification_loss(
            outputs[0], labels, None if teacher is None else teacher[0], temperature
        ),
        "regression": lambda outputs, _, labels, teacher: regression_loss(
            outputs[0], labels, None if teacher is None else teacher[0]
        ),
        "embedding": lambda outputs, mask, _, teacher: embedding_loss(outputs, mask, teacher),
    }
    return losses[task]
