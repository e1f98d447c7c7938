"""Models in a published shape with random weights, and texts of made-up words, for machines that have neither weights nor data.

python bench/generated.py --models minilm-shape bert-base --out build/inputs
"""

import argparse
import random
from itertools import product
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXTS = 1000


def words() -> list[str]:
    """Two thousand made-up words of three syllables."""
    syllables = [first + vowel for first, vowel in product("bdfgklmnprst", "aeiou")]
    rng = random.Random(0)  # noqa: S311  seeded, not secret
    return sorted({"".join(rng.choices(syllables, k=3)) for _ in range(2000)})


def tokenizer() -> Any:
    """A tokenizer that knows the made-up words, with BERT's special tokens around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words()])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106  a token of a vocabulary
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )  # fmt: skip
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=made, model_input_names=inputs, **names)


def write_texts(path: Path, count: int = TEXTS) -> Path:
    """A file of so many texts, 5 to 100 words each."""
    rng, known = random.Random(1), words()  # noqa: S311  seeded, not secret
    lines = [" ".join(rng.choices(known, k=rng.randint(5, 100))) for _ in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Write models and texts."""
    from tables import RANDOM, model_folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(RANDOM), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name in arguments.models:
        model_folder(name, arguments.out)
    write_texts(arguments.out / "texts.txt")


if __name__ == "__main__":
    main()
