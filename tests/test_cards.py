"""The cards in model_cards/: of real runs, whole, and of the figures that the recipes' page tells."""

import re

import pytest
from huggingface_hub import ModelCard
from recipe_runs import ROOT

RECIPES = sorted(path.stem for path in ROOT.glob("recipes/*.py"))


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_has_the_card_of_a_run_of_its_own(name):
    card = ModelCard.load(ROOT / "model_cards" / name / "README.md")
    assert f"recipe `{name}`" in card.text and f"recipes/{name}.py" in card.text
    assert card.data.pipeline_tag == "audio-classification" and card.data.library_name == "transformers"
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"accuracy", "f1"}
    for result in results.values():
        low, high = map(float, re.search(r"\[([\d.]+), ([\d.]+)\]", result.metric_name).groups())
        assert 0 <= low <= result.metric_value <= high <= 1
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", card.text):
        assert (ROOT / "model_cards" / name / picture).is_file()
    assert not re.search(r"(^|[\s`(=])/(tmp|home|root|work|data)/", card.content, re.M)


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_page_tells_the_accuracy_of_the_card(name):
    card = ModelCard.load(ROOT / "model_cards" / name / "README.md")
    tracks, accuracy = re.search(r"^\| whole tracks \| (\d+) \| ([\d.]+ \[[\d., ]+\]) \|", card.text, re.M).groups()
    page = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    told = [line for line in page.splitlines() if f"{name}.py" in line and f"{accuracy} of {tracks}" in line]
    assert told, f"{accuracy} of {tracks}"
