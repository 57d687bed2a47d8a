import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clap import MAX_SAMPLES, RATE, extractor_of, load, sound, stock_of, write_clap
from transformers import AutoFeatureExtractor

from hf_musiclf.models import feature_extraction_clap as extractor_file
from hf_musiclf.models.families import clap


def test_crops_are_the_middle_of_each_third_of_the_places():
    extractor = extractor_of("fusion", window_seconds=4.0)
    assert extractor.crop_starts(401, 201) == [33, 100, 167]  # of 0..66, 67..133 and 134..200
    assert extractor.crop_starts(202, 201) == [0, 1, 0]
    waveform = sound(2 * MAX_SAMPLES)
    mel = extractor._np_extract_fbank_features(waveform, extractor.mel_filters)
    made = extractor(waveform, sampling_rate=RATE)["input_features"][0]
    for crop, start in zip(made[1:], (33, 100, 167), strict=True):
        np.testing.assert_array_equal(crop, mel[start : start + 201])
    stock = stock_of(extractor)(waveform, sampling_rate=RATE)["input_features"][0]
    np.testing.assert_array_equal(made[0], stock[0])  # the overview is of the whole window


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_the_extractor_is_the_stock_one_where_nothing_is_drawn(truncation, padding):
    extractor = extractor_of(truncation, padding=padding)
    waveforms = [sound(count, seed=count) for count in (1, 500, MAX_SAMPLES // 2 + 1, MAX_SAMPLES)]
    made = extractor(waveforms, sampling_rate=RATE, return_tensors="pt")
    stock = stock_of(extractor)(waveforms, sampling_rate=RATE, return_tensors="pt")
    assert torch.equal(made["input_features"], stock["input_features"])
    assert made["is_longer"].shape == stock["is_longer"].shape and not made["is_longer"].any()


def test_windows_and_waveforms_that_make_nothing_are_refused():
    for window_seconds in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"window_seconds={window_seconds} must be above 0"):
            extractor_of(window_seconds=window_seconds)
    with pytest.raises(ValueError, match="has no samples"):
        extractor_of()(np.zeros(0, dtype=np.float32), sampling_rate=RATE)


def test_the_saved_extractor_is_found_with_its_window(tmp_path):
    source = write_clap(tmp_path / "clap", fused=False)
    extractor = clap.extractor_class.from_pretrained(source)
    clap.fit_window(load(source), extractor, 1.5)
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["auto_map"] == {"AutoFeatureExtractor": "feature_extraction_clap.ClapWindowFeatureExtractor"}
    assert (tmp_path / "feature_extraction_clap.py").read_text() == Path(extractor_file.__file__).read_text()
    found = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(found) is clap.extractor_class and found.window_seconds == 1.5


def test_the_auto_class_knows_the_extractor_of_a_model_without_its_code(tmp_path):
    load(write_clap(tmp_path, fused=False)).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    del settings["feature_extractor_type"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is clap.extractor_class
