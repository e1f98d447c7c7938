"""Bad models, data and flags: `compile`, `profile` and `data`. The other verbs are in test_hostile_runs.py, for another worker."""

import pytest

from tests.hostile.campaign import campaign, check


@pytest.mark.timeout(600)
def test_bad_models_data_and_flags_are_refused_in_three_lines(tmp_path, seeds):
    found = campaign(tmp_path, seeds, "compile,profile,data", 500)
    check(found)
    assert found["inputs"] >= 475
