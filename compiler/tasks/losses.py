"""What outputs cost against labels, a teacher's outputs, or both: the parts that tasks share. Scalars, lower is better."""

from torch import Tensor
from torch.nn import functional

from compiler.tasks.batches import IGNORED

Outputs = tuple[Tensor, ...]
"""What a TaskModel returns, in the order of the task's output names."""


def distilled(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² times the divergence of softened logits [rows, classes] from the teacher's, a mean over rows.

    Hinton et al., arXiv 1503.02531: T² keeps the gradient's size whatever T is. The divergence and the cross-entropy of
    softened logits have the same gradient; the divergence is 0 for a perfect pupil.
    """
    softened = functional.log_softmax(logits / temperature, dim=-1)
    target = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    return temperature**2 * functional.kl_div(softened, target, reduction="batchmean", log_target=True)


def distilled_labels(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The same of logits [rows, labels] each with a sigmoid of its own, a mean over rows and labels."""
    target = (teacher.detach() / temperature).sigmoid()
    crossed = functional.binary_cross_entropy_with_logits(logits / temperature, target)
    return temperature**2 * (
        crossed - functional.binary_cross_entropy_with_logits(teacher.detach() / temperature, target)
    )


def classification_loss(logits: Tensor, labels: Tensor | None, teacher: Tensor | None, temperature: float) -> Tensor:
    """Cross-entropy of int64 `labels` [rows], `IGNORED` left out, plus `distilled`. ValueError without any target."""
    terms = []
    if teacher is not None:
        terms.append(distilled(logits, teacher, temperature))
    if labels is not None:
        terms.append(functional.cross_entropy(logits, labels, ignore_index=IGNORED))
    return total(terms)


def total(terms: list[Tensor]) -> Tensor:
    """The sum of a loss's terms. ValueError where there is none."""
    if not terms:
        raise ValueError("neither labels nor a teacher to learn from")
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]
