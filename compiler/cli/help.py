"""Words of flags that several commands have."""

TASKS_HELP = (
    "auto, classification, multi_label, regression, reranking, token_classification, question_answering, masked_lm, causal_lm "
    "or embedding"
)
"""The names of `compiler.tasks.TASKS`, which a command that only says its help does not load."""
