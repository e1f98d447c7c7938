"""What the pages beside a graph tell those who tokenise by themselves."""

import pytest

from compiler.export.serving import _about_texts, _tei_page
from compiler.tasks import TASKS
from tests import recipe_forms as forms
from tests.recipes import load


@pytest.mark.parametrize(
    ("form", "flag", "requests", "texts"),
    [
        (
            forms.prompts,
            " --default-prompt-name query\n",
            '"normalize": false',
            '"the film : " before every text; at most 64',
        ),
        (forms.new_names, "--model-id tei\n", None, "at most 64 tokens, cut on the right"),
        (
            forms.cut_on_the_left,
            "--model-id tei\n",
            '"truncation_direction": "Left"',
            "at most 9 tokens, cut on the left",
        ),
    ],
)
def test_they_name_prompt_length_and_side(form, flag, requests, texts, tmp_path):
    form(tmp_path / "model")
    checkpoint = load(tmp_path / "model")
    page = _tei_page(checkpoint, TASKS["embedding"].route.tei)
    assert flag in page
    assert ("Every request must say" in page) == (requests is not None)
    assert (requests or "") in page
    assert texts in _about_texts(checkpoint)
