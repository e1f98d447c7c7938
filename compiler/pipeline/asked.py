"""What the options ask of a run, held against its model, its task and its data before anything is computed."""

from compiler.families import Checkpoint
from compiler.pipeline.options import Options
from compiler.tasks import Task
from targets.errors import InputError


def settle_effort(options: Options, *, labelled: bool, head_trained: bool, task: Task) -> tuple[str, bool]:
    """The effort, and whether the dense model is fine-tuned first."""
    needs_training = task.learns_from_labels and not head_trained
    if needs_training and not labelled:
        raise InputError(
            "the checkpoint's task head was never trained and the data have no labels\n"
            "give labelled data (--label-column), a fine-tuned checkpoint, or --task embedding"
        )
    effort = options.effort
    if effort == "auto":
        of_thorough = options.of_supernets or options.search == "mo-asha"
        effort = "thorough" if of_thorough else "balanced" if needs_training else "fast"
    if effort == "fast" and needs_training:
        raise InputError(
            "the checkpoint's task head was never trained, and --effort fast does not train\n"
            "use --effort balanced or thorough, or a fine-tuned checkpoint"
        )
    return effort, labelled and task.learns_from_labels and (needs_training or effort == "thorough")


def check_training(options: Options, *, effort: str, trained: bool) -> None:
    """InputError where a search trains every sub-network on its own, or a flag is of super-networks, and the run trains none."""
    alone = options.search == "mo-asha"
    if options.of_supernets and (alone or effort != "thorough"):
        run = "--search mo-asha" if alone else f"--effort {effort}"
        raise InputError(
            f"{options.of_supernets[0]} is of the training of a super-network, and a run with {run} has none\n"
            "leave it out, or use --effort thorough with another --search"
        )
    if alone and not (effort == "thorough" and trained):
        raise InputError(
            "--search mo-asha trains every sub-network on its own: it needs labels and --effort thorough\n"
            f"here the effort is {effort}, {'with' if trained else 'without'} labels to train on; use another --search"
        )


def check_decisions(options: Options, task: Task) -> None:
    """InputError where a budget is on decisions, and the task decides on no classes."""
    budgets = options.budgets
    limits = {"--max-flips": budgets.max_flips, "--max-class-drop": budgets.max_class_drop}
    flag = next((name for name, limit in limits.items() if limit is not None), None)
    if flag is not None and not task.decides:
        raise InputError(
            f"{flag} is of tasks with classes, and this one is {task.words}\nleave it out, or give --max-drop"
        )


def check_length(checkpoint: Checkpoint, tokens: int) -> None:
    """InputError where the model has no positions for so many tokens."""
    if tokens > checkpoint.architecture.max_tokens:
        raise InputError(f"--seq-len {tokens} is over the model's limit of {checkpoint.architecture.max_tokens} tokens")


def embedding_dimensions(options: Options, checkpoint: Checkpoint) -> tuple[int, ...]:
    """Those of --embedding-dim. InputError where the model embeds nothing, or in no more dimensions."""
    recipe = checkpoint.model.recipe
    if not options.embedding_dim:
        return ()
    if recipe is None:
        raise InputError(
            f"--embedding-dim is of embedding models, and this run is for {checkpoint.task.words}\nleave it out"
        )
    *_, size = recipe.sizes(checkpoint.architecture.hidden_size)
    size = min(size, recipe.dimensions or size)
    over = [each for each in options.embedding_dim if each >= size]
    if over or len(set(options.embedding_dim)) < len(options.embedding_dim):
        raise InputError(
            f"--embedding-dim must be different numbers below {size}, the model's own, got {over[0] if over else 'one twice'}"
        )
    return options.embedding_dim
