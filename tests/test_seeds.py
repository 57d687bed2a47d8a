"""Runs over seeds: gains are paired, and tell a difference that means alone hide."""

import pytest

from hf_musiclf.seeds import plot_seeds, seeds_table, summarise_seeds

# Seeds differ by far more than the losses do; seed by seed the second is always five points better.
ACCURACIES = {
    "none": [{"unbiased": value} for value in (0.50, 0.70, 0.90)],
    "poe": [{"unbiased": value} for value in (0.55, 0.75, 0.95)],
}


def test_a_constant_gain_has_an_interval_of_no_width_however_far_the_seeds_lie_apart():
    plain, debiased = (row["tests"]["unbiased"] for row in summarise_seeds(ACCURACIES, "none"))
    assert debiased["gain"] == pytest.approx(0.05)
    assert debiased["gain_interval"] == pytest.approx((0.05, 0.05))
    assert debiased["interval"][0] < plain["mean"] < debiased["interval"][1]
    assert "gain" not in plain


def test_the_table_has_percents_and_points_and_no_gain_for_the_baseline():
    rows = summarise_seeds(ACCURACIES, "none")
    lines = seeds_table(rows, {"none": "cross-entropy", "poe": "product"}, ["unbiased"]).splitlines()
    assert lines[0] == "| trained by | unbiased test | unbiased, gain |"
    assert lines[2].startswith("| cross-entropy | 70.0 (") and lines[2].endswith("|  |")
    assert lines[3].endswith("| +5.0 (+5.0 to +5.0) |")


def test_one_seed_has_no_interval_and_no_baseline_no_gain(tmp_path):
    rows = summarise_seeds({"poe": [{"unbiased": 0.5, "misleading": 0.25}]}, "none")
    assert rows[0]["tests"]["misleading"] == {"by_seed": [0.25], "mean": 0.25, "interval": None}
    assert "| product | 50.0 | 25.0 |" in seeds_table(rows, {"poe": "product"}, [])
    assert plot_seeds(rows, {"poe": "product"}, tmp_path / "seeds.png", 0.1).read_bytes().startswith(b"\x89PNG")


def test_kinds_of_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match="zip"):
        summarise_seeds({"none": ACCURACIES["none"], "poe": ACCURACIES["poe"][:2]}, "none")
