"""Imports point one way, and the pure modules stay pure."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "hf_musiclf"

# Lowest first: a module may import from its own layer or from one below.
LAYERS = [
    {"errors", "files", "reach", "pages", "hub_access"},
    {"windows", "labels", "splits", "leakage", "probabilities", "predictions", "intervals", "mixtures", "balancing"},
    {"zip_members", "zip_streams", "ogg_pages", "audio_readers"},
    {"audio", "metrics", "significance", "plot_style"},
    {"arguments", "launching"},
    {"data", "features", "plots", "seeds", "augmentation", "waveform_augmentation", "losses"},
    {"models"},
    {"inference", "runs", "embeddings", "callbacks", "debiasing", "registration"},
    {"trainer"},
    {"report"},
    {"training", "cards", "crossvalidation", "comparison", "ensembles", "hub", "spaces"},
    {"timeline"},
    {"predicting"},
    {"app"},
    {"experts"},
    {"stages"},
]
PURE = {
    "errors",
    "files",
    "windows",
    "labels",
    "splits",
    "leakage",
    "probabilities",
    "intervals",
    "mixtures",
    "balancing",
    "metrics",
    "significance",
    "predictions",
    "plot_style",
    "plots",
    "pages",
    "audio",
    "audio_readers",
    "zip_members",
    "zip_streams",
    "ogg_pages",
}


def modules():
    found = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    assert len(found) > 15
    return found


def imports(path):
    """Top-level part of every module of ours that is imported anywhere in the file, and every other top package."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [node.module]
        for name in names:
            parts = name.split(".")
            (ours if parts[0] == "hf_musiclf" else others).add(parts[1] if parts[0] == "hf_musiclf" else parts[0])
    return ours, others


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer(name):
    found = [index for index, names in enumerate(LAYERS) if name in names]
    assert found, f"{name} stands in no layer of tests/test_layers.py"
    return found[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    ours, _ = imports(path)
    known = {name for names in LAYERS for name in names}
    assert not {name for name in ours & known if layer(name) > layer(part(path))}


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_neither_torch_nor_transformers(name):
    assert not imports(PACKAGE / f"{name}.py")[1] & {"torch", "torchaudio", "transformers", "accelerate"} - {"evaluate"}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda path: path.name)
def test_recipes_never_import_each_other(path):
    _, others = imports(path)
    assert not others & {other.stem for other in (ROOT / "recipes").glob("*.py")}
