import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hf_musiclf import plots
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.probabilities import softmax

GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
COMPOSERS = [f"Composer {number} with a long $name$ / arranger {number}" for number in range(25)]
HISTORY = [{"step": step, "loss": 2 - step / 50} for step in range(1, 21)] + [
    {"step": step, "eval_loss": 1.5, "eval_window_accuracy": step / 40, "eval_track_accuracy": step / 30}
    for step in (10, 20)
]


def scored(names, absent=None):
    rng = np.random.default_rng(0)
    n_classes = len(names)
    labels = np.delete(np.arange(n_classes), absent or []).repeat(8)
    probabilities = softmax(rng.normal(size=(len(labels), n_classes)) + 2 * np.eye(n_classes)[labels])
    return probabilities, labels, classification_metrics(probabilities, labels)


@pytest.fixture
def figures(monkeypatch):
    """The figures as they are saved, to read back what stands in them."""
    seen, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: (seen.append(self), save(self, *args, **kwargs))[1]
    )
    return seen


def check_picture(path):
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing half-written stays beside it
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 300 < image.width < 4000 and 200 < image.height < 4000
        assert np.asarray(image.convert("L")).std() > 5
        return image.size


def overlapping(texts, figure):
    """Pairs of upright texts whose boxes on the drawn figure meet."""
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in texts]
    return [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


@pytest.mark.parametrize("names", [GENRES[:2], GENRES, COMPOSERS], ids=len)
def test_confusion_matrix_shows_each_count_and_each_name(names, tmp_path, figures):
    confusion = np.array(scored(names)[2]["confusion"])
    path = plots.plot_confusion_matrix(confusion, names, tmp_path / "confusion.png", "Test windows")
    check_picture(path)
    axes = figures[0].axes[0]
    cells = {text.get_position()[::-1]: int(text.get_text()) for text in axes.texts}
    assert cells == {(row, column): confusion[row, column] for row, column in zip(*np.nonzero(confusion), strict=True)}
    np.testing.assert_allclose(axes.images[0].get_array(), confusion / confusion.sum(axis=1, keepdims=True))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == names
    assert not overlapping(axes.get_yticklabels() + axes.texts, figures[0])


def test_a_class_without_items_is_an_empty_row(tmp_path, figures):
    plots.plot_confusion_matrix([[3, 1], [0, 0]], ["a", "b"], tmp_path / "confusion.png")
    assert figures[0].axes[0].images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]


@pytest.mark.parametrize("names", [GENRES[:2], GENRES, COMPOSERS], ids=len)
def test_roc_legend_tells_the_areas_that_the_metrics_tell(names, tmp_path, figures):
    probabilities, labels, scores = scored(names)
    check_picture(plots.plot_roc_curves(probabilities, labels, names, tmp_path / "roc.png"))
    legend = figures[0].axes[0].get_legend().get_texts()
    areas = [entry["roc_auc"] for entry in scores["per_class"]]
    assert [text.get_text() for text in legend] == [
        f"{area:.3f}  {name}" for area, name in zip(areas, names, strict=True)
    ]
    assert not overlapping(legend, figures[0])


def test_roc_notes_the_classes_without_a_curve(tmp_path, figures):
    probabilities, labels, _ = scored(GENRES, absent=[3])
    check_picture(plots.plot_roc_curves(probabilities, labels, GENRES, tmp_path / "roc.png"))
    axes = figures[0].axes[0]
    assert axes.get_legend().get_texts()[3].get_text().endswith("disco (no items)")
    assert sum(len(line.get_xdata()) > 0 for line in axes.lines) == 1 + 9  # the diagonal and nine classes
    plots.plot_roc_curves([[0.4, 0.6]], [1], ["a", "b"], tmp_path / "roc.png")
    notes = [text.get_text().split("  ")[1] for text in figures[1].axes[0].get_legend().get_texts()]
    assert notes == ["a (no items)", "b (nothing else)"]


def test_validation_shows_losses_accuracies_and_the_chosen_step(tmp_path, figures):
    again = {"step": 20, "eval_loss": 9.0}  # the best model, evaluated once more after training
    path = plots.plot_validation([*HISTORY, again], tmp_path / "validation.png", "Run", best_step=10)
    check_picture(path)
    lines = [{line.get_label(): line.get_xydata().tolist() for line in axes.lines} for axes in figures[0].axes]
    assert lines[0]["training"] == [[entry["step"], entry["loss"]] for entry in HISTORY[:20]]
    assert lines[0]["validation"] == [[10, 1.5], [20, 1.5]]
    assert lines[1]["windows"] == [[10, 0.25], [20, 0.5]]
    assert lines[1]["whole tracks"] == [[10, 10 / 30], [20, 20 / 30]]
    for panel in lines:
        assert [step for step, _ in panel["chosen: step 10"]] == [10, 10]


def test_validation_needs_no_evaluations(tmp_path, figures):
    check_picture(plots.plot_validation(HISTORY[:20], tmp_path / "validation.png"))
    assert len(figures[0].axes) == 1
    assert [line.get_label() for line in figures[0].axes[0].lines] == ["training"]
    check_picture(plots.plot_validation([], tmp_path / "validation.png"))
    assert [text.get_text() for text in figures[1].axes[0].texts] == ["nothing was logged"]


@pytest.mark.parametrize("names", [GENRES, COMPOSERS], ids=len)
def test_per_class_bars_are_as_long_as_the_scores(names, tmp_path, figures):
    per_class = scored(names)[2]["per_class"]
    check_picture(plots.plot_per_class(per_class, names, tmp_path / "per_class.png"))
    axes = figures[0].axes[0]
    for bars, key in zip(axes.containers, ("precision", "recall", "f1"), strict=True):
        assert [bar.get_width() for bar in bars] == pytest.approx([entry[key] for entry in per_class])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"{name}  (n=8)" for name in names]
    assert not overlapping(axes.get_yticklabels(), figures[0])


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = plots.plot_confusion_matrix(np.eye(2, dtype=int), ["a", "b"], tmp_path / "new" / "confusion.png")
    before = path.read_bytes()

    def fail(self, target, **kwargs):
        target.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.plot_confusion_matrix(np.ones((2, 2), dtype=int), ["a", "b"], path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_display_is_asked_for():
    code = "import sys, hf_musiclf.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: plots.plot_confusion_matrix([[1, 2]], ["a"], p), r"confusion has shape \(1, 2\) for 1 names"),
        (lambda p: plots.plot_confusion_matrix([], [], p), r"confusion has shape \(0,\) for 0 names"),
        (lambda p: plots.plot_roc_curves([[0.5, 0.5]], [0], ["a"], p), r"shape \(1, 2\) for 1 labels and 1 names"),
        (lambda p: plots.plot_per_class([], ["a"], p), "per_class has 0 entries for 1 names"),
        (lambda p: plots.plot_validation([], p.with_suffix(".pdf")), r"picture\.pdf must end in \.png"),
    ],
)
def test_bad_input_is_refused_with_its_value(draw, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())
