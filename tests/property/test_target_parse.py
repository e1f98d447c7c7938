"""`Target.parse` and `str` invert each other, and what is not a target is refused, never half understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets import PRECISIONS, InputError, Target, load_catalog

CATALOG = load_catalog()

targets = st.sampled_from(sorted(CATALOG)).flatmap(
    lambda name: st.sampled_from(CATALOG[name].supported_precisions).map(CATALOG[name].with_precision)
)


@given(targets)
def test_parse_inverts_str(target):
    assert Target.parse(str(target)) == target


@given(targets)
def test_str_inverts_parse(target):
    text = f"{target.name}:{target.precision}"
    assert str(Target.parse(text)) == text


@given(targets, st.data())
def test_case_and_blanks_around_do_not_matter(target, data):
    text = "".join(data.draw(st.sampled_from((c.lower(), c.upper()))) for c in str(target))
    assert Target.parse(f" {text}\n") == target


@given(st.sampled_from(sorted(CATALOG)))
def test_a_bare_name_is_the_default_precision(name):
    target = Target.parse(name)
    assert target.precision == target.default_precision
    assert Target.parse(str(target)) == target


@given(targets)
def test_every_target_has_a_runtime_and_a_rate(target):
    assert target.precision in target.precisions[target.runtime]
    assert target.peak_rate(target.precision) > 0


@given(st.text(max_size=20))
def test_other_text_is_refused(text):
    name, _, precision = text.strip().lower().partition(":")
    known = {precision, f"{precision}-static"}
    if name in CATALOG and (":" not in text or any(map(CATALOG[name].supports, known))):
        return
    with pytest.raises(InputError):
        Target.parse(text)


@given(st.sampled_from(sorted(CATALOG)), st.sampled_from([*PRECISIONS, "tf32", "fp8", ""]))
def test_a_precision_is_run_or_refused_with_the_choices(name, precision):
    target = CATALOG[name]
    static = f"{precision}-static"  # where that is the only int8 there is
    if target.supports(precision):
        assert target.with_precision(precision).precision == precision
    elif target.supports(static):
        assert target.with_precision(precision).precision == static
    else:
        with pytest.raises(InputError) as refused:
            target.with_precision(precision)
        assert ", ".join(target.supported_precisions) in str(refused.value)
