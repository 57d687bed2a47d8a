"""What the documentation says can be typed: paths exist, flags are known, figures are those of the cards."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import yaml

from hf_musiclf.arguments import ARGUMENT_CLASSES, DataArguments

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "recipes/README.md", "benchmarks/README.md"]
FLAGS = {field.name for cls in ARGUMENT_CLASSES for field in dataclasses.fields(cls)} | {"config"}
DATA_FLAGS = {field.name for field in dataclasses.fields(DataArguments)}
LAUNCHER_FLAGS = {"cpu", "num_processes", "config_file", "quiet"}
# Stand for the user's own data and runs.
PLACEHOLDERS = re.compile(r"^(\.\./shared/|runs/|[A-Z_]+$|GTZANindex|my_|song|music)")


def commands():
    """`(page, words)` of every command line in the pages' code blocks and in the docstrings of scripts."""
    texts = [(page, block) for page in PAGES for block in re.findall(r"```(?:bash|sh)\n(.*?)```", read(page), re.S)]
    for path in [*ROOT.glob("recipes/*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py")]:
        texts.append((path.name, path.read_text(encoding="utf-8").split('"""')[1]))
    found = []
    for page, text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(accelerate|python|make|torchrun|\.venv/bin/)", line):
                found.append((page, shlex.split(line.partition("#")[0])))
    assert len(found) > 10
    return found


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page, words", commands(), ids=lambda value: value if isinstance(value, str) else value[-1][-30:]
)
def test_every_command_names_real_files_and_flags(page, words):
    for word in words:
        if re.search(r"\.(py|yaml|txt)$", word) and not PLACEHOLDERS.match(word):
            assert (ROOT / word).is_file(), f"{page}: {word} is not there"
    recipe = next((word for word in words if word.startswith("recipes/") and word.endswith(".py")), None)
    script = next((word for word in words if re.match(r"(scripts|benchmarks)/.*\.py$", word)), None)
    flags = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    if recipe:
        assert flags <= FLAGS | LAUNCHER_FLAGS, page
    elif script:
        source = read(script)
        known = DATA_FLAGS if "parse_data" in source else FLAGS if "parse_recipe" in source else set()
        if "make_parser(" in source:  # of benchmarks/machine.py
            known |= {"output", "threads"} if "threads=True" in source else {"output"}
        assert all(f'"--{flag}"' in source for flag in flags - known), page
    elif words[0] == "make":
        assert all(re.search(rf"^{target}:", read("Makefile"), re.M) for target in words[1:])


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", read(page))
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/configs/*.yaml")), ids=lambda path: path.name)
def test_configs_hold_known_keys(path):
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= FLAGS


def test_the_version_stands_once():
    version = re.search(r'__version__ = "(.+)"', read("src/hf_musiclf/__init__.py"))[1]
    assert f'"{version}"' not in read("setup.py") and f"version: {version}" not in read("CITATION.cff")
    assert f"## {version}" in read("CHANGELOG.md")


def test_the_makefile_and_the_readme_say_the_same():
    """Those without make type what make would: each of its commands stands in the README."""
    readme = read("README.md")
    for piece in (
        "-m venv .venv",
        "--constraint constraints.txt",
        "recipes/configs/demo.yaml",
        "-m pytest",
        "ruff check",
    ):
        assert piece in read("Makefile") and piece in readme
