"""The original's files: read, refused, written back bit by bit; and the converted folder without this package."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_musiclf.errors import UserError
from hf_musiclf.models.efficientat import EfficientAtConfig, EfficientAtForAudioClassification
from hf_musiclf.models.efficientat_checkpoints import load_original, to_original
from hf_musiclf.models.efficientat_folders import load_folder, read_label_names
from hf_musiclf.models.families import efficientat
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "../shared/checkpoints/efficientat"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published checkpoint is not beside the repository")


def original_of(width=0.1, labels=5, **fields):
    """A state dict as the original would save it, with random weights and statistics."""
    torch.manual_seed(0)
    config = EfficientAtConfig(width_mult=width, num_labels=labels, **fields)
    state_dict = to_original(EfficientAtForAudioClassification(config).state_dict())
    for key, value in state_dict.items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return state_dict


@pytest.fixture
def file(tmp_path):
    def write(content, name="some.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    return tmp_path / "cache" / "efficientat"


def same(left, right):
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("width", [0.1, 0.33, 0.4, 0.5, 0.75, 1.0, 1.4])
def test_any_width_is_found_and_comes_back_bit_by_bit(file, width):
    original = original_of(width)
    config, state_dict = load_original(file(original))
    assert config.width_mult == width and config.num_labels == 5
    model = EfficientAtForAudioClassification(config)
    model.load_state_dict(state_dict)
    assert same(to_original(model.state_dict()), original)


@published
def test_the_published_file_has_the_originals_keys_and_comes_back_bit_by_bit():
    path = PUBLISHED / "mn04_as_mAP_432.pt"
    config, state_dict = load_original(path)
    assert config.width_mult == 0.4 and config.num_labels == 527
    assert config.problem_type == "multi_label_classification"
    assert same(to_original(state_dict), torch.load(path, weights_only=True))


def test_keys_are_those_of_the_specification():
    keys = list(original_of(0.4))
    assert {"features.0.0.weight", "features.0.1.running_mean", "features.16.1.num_batches_tracked"} <= set(keys)
    assert {"features.1.block.1.0.weight", "features.2.block.2.1.bias", "classifier.2.bias"} <= set(keys)
    assert {"features.4.block.2.conc_se_layers.0.fc1.weight", "features.4.block.3.0.weight"} <= set(keys)
    assert not {"features.1.block.2.0.weight", "features.2.block.3.0.weight"} & set(keys)
    assert keys[-2:] == ["classifier.5.weight", "classifier.5.bias"] and len(keys) == 312


class Calls:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_file_is_not_run(file, capsys):
    path = file({"features.0.0.weight": Calls()})
    with pytest.raises(
        UserError, match=r"holds no weights alone and is not loaded: it wants to call .*print"
    ) as caught:
        load_original(path)
    assert "\n" not in str(caught.value) and "executed" not in capsys.readouterr().out


def without(state_dict, key):
    return {name: value for name, value in state_dict.items() if name != key}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: list(s.values()), "holds a list, not a state dict"),
        (lambda s: {"model": s}, "no plain state dict: its 'model' is a dict"),
        (lambda s: {"fc.weight": torch.zeros(2, 2)}, "state dict of 1 entries, 'fc.weight' the first, but of no Eff"),
        (lambda s: {}, "state dict of 0 entries"),
        (lambda s: without(s, "classifier.5.weight"), "lacks classifier.5.weight"),
        (
            lambda s: without(s, "features.7.block.1.1.running_var"),
            "lacks 1 entries, 'features.7.block.1.1.running_var'",
        ),
        (lambda s: without(s, "features.7.block.2.0.weight"), "no width of MobileNetV3-Large"),
        (lambda s: {**s, "head.weight": torch.zeros(1)}, "1 entries too many, 'head.weight'"),
        (lambda s: {**s, "features.0.0.weight": torch.zeros(8, 3, 3, 3)}, r"torch.float32 \(8, 3, 3, 3\), not \(8, 1"),
        (lambda s: {**s, "features.0.1.bias": torch.zeros(8).long()}, "'features.0.1.bias' is torch.int64"),
        (lambda s: {**s, "classifier.2.weight": torch.zeros(999, 96)}, "its classifier 999; no width"),
        (lambda s: {**s, "classifier.2.weight": torch.zeros(3)}, "its classifier is no pair of linear layers"),
    ],
)
def test_files_of_something_else_are_refused_in_one_line(file, change, message):
    with pytest.raises(UserError, match=message) as caught:
        load_original(file(change(original_of())))
    assert "\n" not in str(caught.value)


def test_files_that_are_damaged_or_not_there_are_refused(file, tmp_path):
    whole = file(original_of()).read_bytes()
    for number, content in enumerate((whole[: len(whole) // 2], b"", b"RIFF" + bytes(200), b"not a checkpoint")):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged, cut short, or of another format") as caught:
            load_original(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is not there"):
        load_original(tmp_path / "none.pt")
    with pytest.raises(UserError, match="is a folder"):
        load_original(tmp_path)


def test_a_file_becomes_a_folder_in_the_cache_once(file, cache):
    original = original_of()
    path = file(original)
    drawn = torch.get_rng_state()
    folder = efficientat.resolve(str(path))
    assert Path(folder).parent == cache
    assert torch.equal(torch.get_rng_state(), drawn)  # a run that converts draws the same head as a later one
    written = (Path(folder) / "model.safetensors").stat().st_mtime_ns
    assert efficientat.resolve(str(path)) == folder
    assert (Path(folder) / "model.safetensors").stat().st_mtime_ns == written
    assert same(to_original(AutoModelForAudioClassification.from_pretrained(folder).state_dict()), original)
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is EfficientAtFeatureExtractor
    original["classifier.5.bias"] += 1
    assert efficientat.resolve(str(file(original))) != folder  # another file of the same name
    with pytest.raises(UserError, match="'head' is a int"):
        efficientat.resolve(str(file({"head": 3})))


def test_another_way_of_converting_makes_another_folder(file, cache, monkeypatch):
    path = str(file(original_of()))
    before = efficientat.resolve(path)
    monkeypatch.setattr(efficientat, "FORMAT", efficientat.FORMAT + 1)
    after = efficientat.resolve(path)
    assert before != after == efficientat.resolve(path) and Path(before).is_dir() and Path(after).is_dir()


def test_a_release_is_known_by_its_digest_and_else_by_its_name(file, tmp_path, monkeypatch):
    content = original_of()
    path = file(content, "renamed.pt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert efficientat.origin(str(path)) is None and efficientat.origin(str(tmp_path)) is None
    assert efficientat.origin("someone/efficientat") is None
    assert efficientat.origin("mn10_as") == "EfficientAT's mn10_as"
    named = tmp_path / "mn01_as_mAP_298.pt"
    named.write_bytes(path.read_bytes())
    assert efficientat.origin(str(named)) == "EfficientAT's mn01_as (by its file's name)"
    monkeypatch.setitem(efficientat.RELEASES, "mn01_as", (0.1, 298, digest))
    assert efficientat.origin(str(named)) == efficientat.origin(str(path)) == "EfficientAT's mn01_as"
    monkeypatch.setitem(efficientat.RELEASES, "mn01_as", (0.1, 298, "0" * 64))  # its name, but not its weights
    assert efficientat.origin(str(named)) is None


@published
def test_the_published_file_is_known_under_any_name(tmp_path):
    path = tmp_path / "backbone.pt"
    path.write_bytes((PUBLISHED / "mn04_as_mAP_432.pt").read_bytes())
    assert efficientat.origin(str(path)) == efficientat.origin("mn04_as") == "EfficientAT's mn04_as"


def test_folders_and_hub_ids_are_left_alone_and_releases_are_asked_for(tmp_path, cache, monkeypatch):
    assert efficientat.resolve(str(tmp_path)) == str(tmp_path)
    assert efficientat.resolve("someone/efficientat") == "someone/efficientat"
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set; .*v0\.0\.1/mn10_as_mAP_471\.pt"):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        efficientat.resolve("mn10_as")


def test_what_comes_as_a_release_is_checked(cache):
    cache.mkdir(parents=True)
    target = cache / "mn01_as_mAP_298.pt"
    torch.save(original_of(0.1), target)
    assert load_folder(efficientat.resolve("mn01_as")).config.width_mult == 0.1
    torch.save(original_of(0.2), target)
    with pytest.raises(UserError, match=r"has width 0\.2, not 0\.1"):
        efficientat.resolve("mn01_as")
    assert not target.exists()


@published
def test_the_digest_of_a_release_is_that_of_the_file():
    digest = hashlib.sha256((PUBLISHED / "mn04_as_mAP_432.pt").read_bytes()).hexdigest()
    assert efficientat.RELEASES["mn04_as"][2] == digest


def convert(*arguments):
    command = [sys.executable, str(ROOT / "scripts/convert_efficientat.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


ELSEWHERE = """
import json, sys
sys.modules["hf_musiclf"] = None
import numpy as np
from transformers import pipeline
folder = sys.argv[1]
classify = pipeline("audio-classification", model=folder, trust_remote_code=True)
sound = {"raw": np.load(folder + "/sound.npy"), "sampling_rate": 32000}
scores = {item["label"]: item["score"] for item in classify(sound, function_to_apply="sigmoid")}
print(json.dumps([type(classify.model).__module__, type(classify.feature_extractor).__module__, scores]))
"""


def test_the_script_converts_both_ways_and_the_pipeline_needs_no_package(file, tmp_path, monkeypatch):
    original, folder = original_of(labels=3), tmp_path / "model"
    path, names = file(original), tmp_path / "labels.csv"
    names.write_text('index,mid,display_name\n0,/m/1,"Male speech, man speaking"\n2,/m/3,Jazz\n1,/m/2,Music\n')
    done = convert(path, "--output", folder, "--labels", names)
    assert done.returncode == 0, done.stderr
    assert f"{folder}: EfficientAT of width 0.1, 3 labels" in done.stdout
    assert {"efficientat.py", "feature_extraction_efficientat.py", "README.md"} <= {p.name for p in folder.iterdir()}
    assert "AutoModelForAudioClassification" in json.loads((folder / "config.json").read_text())["auto_map"]
    done = convert(folder, "--to_original", tmp_path / "back.pt")
    assert done.returncode == 0 and done.stdout.endswith("back.pt: 294 entries\n"), done.stderr
    assert same(torch.load(tmp_path / "back.pt", weights_only=True), original)

    sound = (0.1 * np.random.default_rng(0).standard_normal(50_000)).astype(np.float32)
    np.save(folder / "sound.npy", sound)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model_module, extractor_module, elsewhere = json.loads(done.stdout.splitlines()[-1])
    assert model_module.startswith("transformers_modules.") and extractor_module.startswith("transformers_modules.")
    features = efficientat.make_features(EfficientAtFeatureExtractor.from_pretrained(folder))
    logits = load_folder(folder).eval()(**features(torch.from_numpy(sound)[None])).logits[0]
    labels = ["Male speech, man speaking", "Music", "Jazz"]
    assert elsewhere == pytest.approx(dict(zip(labels, logits.sigmoid().tolist(), strict=True)), abs=1e-5)


def test_the_scripts_errors_are_one_line_and_nothing_is_left(file, tmp_path):
    path = file({"fc.weight": torch.zeros(2, 2)})
    for arguments, message in (
        ((path, "--output", tmp_path / "out"), "of no EfficientAT with the usual classifier"),
        ((path, "--output", path), "is there already; remove it"),
        ((tmp_path / "none", "--to_original", tmp_path / "out.pt"), "none cannot be loaded"),
    ):
        done = convert(*arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_label_files_that_do_not_fit_are_refused(tmp_path):
    names = tmp_path / "labels.csv"
    names.write_text("index,display_name\n0,Music\n1,Jazz\n")
    assert read_label_names(names, 2) == ["Music", "Jazz"]
    with pytest.raises(UserError, match="names 2 labels, the checkpoint has 3"):
        read_label_names(names, 3)
    names.write_text("number,name\n0,Music\n")
    with pytest.raises(UserError, match=r"columns index and display_name \(KeyError\)"):
        read_label_names(names, 1)
    with pytest.raises(UserError, match="FileNotFoundError"):
        read_label_names(tmp_path / "none.csv", 1)


@published
def test_audiosets_labels_are_527():
    names = read_label_names(PUBLISHED / "class_labels_indices.csv", 527)
    assert names[0] == "Speech" and "Jazz" in names


def test_folders_of_other_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="architecture 'bert', no EfficientAT"):
        load_folder(tmp_path)


def test_a_head_that_an_original_file_cannot_hold_is_refused(tmp_path):
    config = EfficientAtConfig(width_mult=0.1, num_labels=3, head_type="probe")
    EfficientAtForAudioClassification(config).save_pretrained(tmp_path / "probe")
    done = convert(tmp_path / "probe", "--to_original", tmp_path / "out.pt")
    assert done.returncode == 2 and "has a head of type 'probe', which an original file cannot hold" in done.stderr
    assert not (tmp_path / "out.pt").exists()
