"""Log-mel, MFCC and chroma: those of torchaudio and librosa, in batches as one by one."""

import ast
import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy
import torch
import torchaudio
from transformers import ASTConfig, ASTForAudioClassification

from hf_musiclf.features.spectrogram import SpectrogramFeatures
from hf_musiclf.models import feature_extraction_spectrogram as extractor_file
from hf_musiclf.models.feature_extraction_spectrogram import SpectrogramFeatureExtractor

RATE = 16_000
STACK = ["log_mel", "mfcc", "chroma"]
INNER = slice(10, -10)  # frames without the window's ends, where reflection turns a tone's phase
PITCH_CLASSES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(midi, seconds=1.0, amplitude=0.5):
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * librosa.midi_to_hz(midi) * time)).astype(np.float32)


def made(waveforms, features="log_mel", window_seconds=1.0, **settings):
    """`(batch, frames, features)`, or of one waveform `(frames, features)`."""
    extractor = SpectrogramFeatureExtractor(features, window_seconds=window_seconds, **settings)
    values = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"]
    return values[0] if isinstance(waveforms, np.ndarray) and waveforms.ndim == 1 else values


def batch_of(waveforms):
    batch = torch.zeros(len(waveforms), max(map(len, waveforms)))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


@pytest.mark.parametrize(
    "rate, n_fft, hop, mels, scale, norm, low, high",
    [
        (16_000, 1024, 256, 128, "htk", None, 0.0, 8_000.0),
        (16_000, 512, 160, 64, "slaney", "slaney", 30.0, 7_600.0),
        (22_050, 2048, 512, 96, "slaney", "slaney", 0.0, 11_025.0),
    ],
)
def test_log_mel_is_torchaudios_and_librosas(rate, n_fft, hop, mels, scale, norm, low, high):
    samples = noise(rate)
    settings = dict(n_fft=n_fft, hop_length=hop, f_min=low, f_max=high)
    ours = made(samples, sampling_rate=rate, num_mel_bins=mels, mel_scale=scale, mel_norm=norm, **settings)
    assert ours.shape == (1 + rate // hop, mels) and ours.dtype == np.float32

    mel = torchaudio.transforms.MelSpectrogram(rate, n_mels=mels, mel_scale=scale, norm=norm, **settings)
    theirs = torchaudio.transforms.AmplitudeToDB("power")(mel(torch.from_numpy(samples)))
    np.testing.assert_allclose(ours, theirs.T, atol=1e-5, rtol=0)

    power = librosa.feature.melspectrogram(
        y=samples, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=mels, fmin=low, fmax=high, htk=scale == "htk",
        norm=norm, pad_mode="reflect",
    )  # fmt: skip
    np.testing.assert_allclose(ours, librosa.power_to_db(power, top_db=None).T, atol=1e-3, rtol=0)


@pytest.mark.parametrize("coefficients", [13, 20, 128])
def test_mfcc_are_the_orthonormal_cosine_transform_of_the_log_mel(coefficients):
    samples = noise(RATE)
    ours = made(samples, "mfcc", num_mfcc=coefficients)
    assert ours.shape == (63, coefficients)
    # Its limit of 80 dB below the loudest reaches no band of noise.
    theirs = torchaudio.transforms.MFCC(RATE, coefficients, melkwargs=dict(n_fft=1024, hop_length=256, n_mels=128))
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(samples)).T, atol=1e-4, rtol=1e-5)
    by_scipy = scipy.fft.dct(made(samples).astype(np.float64), type=2, norm="ortho")[:, :coefficients]
    np.testing.assert_allclose(ours, by_scipy, atol=1e-3, rtol=1e-5)  # torchaudio's cosines are of single precision


@pytest.mark.parametrize("rate, n_fft, hop, bins", [(16_000, 4096, 256, 12), (22_050, 2048, 512, 24)])
def test_chroma_is_librosas_at_its_fixed_tuning(rate, n_fft, hop, bins):
    samples = noise(rate) + 0.3 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate).astype(np.float32)
    ours = made(samples, "chroma", sampling_rate=rate, chroma_n_fft=n_fft, hop_length=hop, num_chroma=bins)
    theirs = librosa.feature.chroma_stft(
        y=samples, sr=rate, n_fft=n_fft, hop_length=hop, n_chroma=bins, tuning=0.0, pad_mode="reflect"
    )
    assert ours.shape == (1 + rate // hop, bins)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-5, rtol=0)
    filters = extractor_file._chroma_filters(n_fft, bins, rate, torch.device("cpu"))
    np.testing.assert_allclose(filters.T, librosa.filters.chroma(sr=rate, n_fft=n_fft, n_chroma=bins), atol=1e-7)


def test_an_a_lights_a_in_every_octave():
    octaves = [f"A{octave}" for octave in range(2, 7)]  # 110 to 1,760 Hz
    chroma = made([tone(librosa.note_to_midi(name)) for name in octaves], "chroma")[:, INNER]
    a = PITCH_CLASSES.index("A")
    assert (chroma[..., a] == 1).all() and np.delete(chroma, a, axis=-1).max() < 0.35


def test_each_semitone_lights_its_own_bin_from_the_lowest_string_of_a_bass_up():
    notes = np.arange(28, 97)  # E1, 41 Hz, to C7, 2,093 Hz
    chroma = made([tone(midi) for midi in notes], "chroma")[:, INNER]
    assert (chroma.argmax(-1) == notes[:, None] % 12).all()
    # Half the window mistakes the lowest E for its neighbour.
    short = made(tone(28), "chroma", chroma_n_fft=2048)[INNER]
    assert (short.argmax(-1) == PITCH_CLASSES.index("D#")).all()


def test_a_minor_second_in_the_bass_shows_both_notes():
    chroma = made(tone(33, amplitude=0.3) + tone(34, amplitude=0.3), "chroma")[INNER].mean(0)  # A1 and A#1
    assert {PITCH_CLASSES[index] for index in chroma.argsort()[-2:]} == {"A", "A#"}


def test_twice_the_amplitude_is_six_decibels():
    samples, step = noise(RATE), 20 * np.log10(2)
    np.testing.assert_allclose(made(2 * samples) - made(samples), step, atol=1e-4)
    cepstrum = made(2 * samples, "mfcc") - made(samples, "mfcc")
    np.testing.assert_allclose(cepstrum[:, 0], step * np.sqrt(128), atol=1e-3)  # the level is in the 0th alone
    np.testing.assert_allclose(cepstrum[:, 1:], 0, atol=1e-3)
    np.testing.assert_allclose(made(2 * samples, "chroma"), made(samples, "chroma"), atol=1e-6)


@pytest.mark.parametrize("names", [STACK, STACK[::-1], ["mfcc", "chroma"], ("chroma", "log_mel")])
def test_a_stack_is_its_parts_side_by_side(names):
    samples = noise(RATE)
    parts = [made(samples, name, num_mfcc=13, chroma_n_fft=2048) for name in names]
    np.testing.assert_array_equal(made(samples, names, num_mfcc=13, chroma_n_fft=2048), np.concatenate(parts, -1))
    extractor = SpectrogramFeatureExtractor(names, num_mfcc=13)
    assert extractor.feature_size == sum(part.shape[-1] for part in parts)


@pytest.mark.parametrize("names, window_seconds", [("log_mel", 0.5), ("mfcc", 1.0), (STACK, 1.28)])
def test_batches_are_the_extractors_windows_one_by_one(names, window_seconds):
    extractor = SpectrogramFeatureExtractor(names, window_seconds=window_seconds)
    features = SpectrogramFeatures(extractor)
    assert features.window_seconds == window_seconds and features.sampling_rate == RATE
    waveforms = [noise(count, seed=count) for count in (1, 2, 255, 1_600, 9_000, 16_000, 30_000)]
    singly = [extractor(w, sampling_rate=RATE, return_tensors="pt")["input_values"] for w in waveforms]
    together = extractor(waveforms, sampling_rate=RATE, return_tensors="pt")["input_values"]
    batch = features(*batch_of(waveforms))["input_values"]
    assert batch.shape == (7, 1 + round(window_seconds * RATE) // 256, extractor.feature_size)
    assert torch.equal(batch, torch.cat(singly)) and torch.equal(batch, together)
    # On a GPU all are made at once; 1e-3 dB, of coefficients up to 1,000.
    at_once = extractor.extract(extractor.fit(*batch_of(waveforms)))
    torch.testing.assert_close(at_once, batch, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("samples", [8_000, 7_001])
def test_long_waveforms_are_cut_and_short_ones_repeated(samples):
    short, long = noise(samples), noise(24_000)
    repeated = np.tile(short, 3)[:RATE]
    log_mel = made([short, repeated, long, long[:RATE]])
    np.testing.assert_array_equal(log_mel[0], log_mel[1])
    np.testing.assert_array_equal(log_mel[2], log_mel[3])
    assert log_mel.min() > -60  # none of it silence
    features = SpectrogramFeatures(SpectrogramFeatureExtractor(window_seconds=1.0))
    batch, lengths = batch_of([short, repeated, long[:3_000], long])
    both = features(batch, lengths)["input_values"]  # each row repeats from its own length on, not from the batch's
    np.testing.assert_array_equal(both[:2], log_mel[:2])
    np.testing.assert_array_equal(both[2], made(np.tile(long[:3_000], 6)[:RATE]))
    np.testing.assert_array_equal(both[3], log_mel[2])
    np.testing.assert_array_equal(features(torch.from_numpy(short)[None])["input_values"][0], log_mel[0])


def test_the_floor_is_where_it_is_set():
    samples = noise(RATE) * 1e-3
    deep, shallow = made(samples), made(samples, floor_db=-50.0)
    assert deep.min() < -55
    np.testing.assert_allclose(shallow, deep.clip(min=-50.0), atol=1e-4)


@pytest.mark.parametrize(
    "features, settings",
    [
        ("log_mel", dict(num_mel_bins=16)),  # fewer than 20 MFCC
        ("log_mel", dict(num_chroma=5, chroma_n_fft=3)),
        ("chroma", dict(sampling_rate=8_000, f_max=8_000.0)),
        ("chroma", dict(num_mel_bins=0, n_fft=1, mel_scale="mel")),
        ("mfcc", dict(sampling_rate=8_000)),  # of which half is the highest frequency then
    ],
)
def test_settings_that_are_not_in_use_are_no_hindrance(features, settings):
    extractor = SpectrogramFeatureExtractor(features, window_seconds=1.0, **settings)
    assert extractor(noise(8_000), return_tensors="np")["input_values"].shape[2] == extractor.feature_size
    assert extractor.f_max == settings.get("f_max", min(8_000.0, extractor.sampling_rate / 2))


@pytest.mark.parametrize("level", [0.0, 1e-30, 0.25, 1.0], ids=lambda level: f"constant {level}")
@pytest.mark.parametrize("samples", [1, 1_600, RATE], ids=["one sample", "0.1 s", "1 s"])
def test_constants_however_short_stay_finite(level, samples):
    values = made(np.full(samples, level, np.float32), STACK)
    assert np.isfinite(values).all()
    log_mel, chroma = values[:, :128], values[:, -12:]
    assert log_mel.min() >= -100.001 and 0 <= chroma.min() and chroma.max() <= 1
    if level < 1e-6:
        np.testing.assert_allclose(log_mel, -100.0, atol=1e-4)
        np.testing.assert_allclose(chroma, 0, atol=1e-6)


def test_arrays_lists_and_tensors_are_taken():
    extractor, samples = SpectrogramFeatureExtractor(STACK, window_seconds=0.2), noise(3_200)
    expected = extractor(samples, return_tensors="np")["input_values"]
    for speech in (samples.astype(np.float64), samples.tolist(), torch.from_numpy(samples), [samples], samples[None]):
        np.testing.assert_array_equal(extractor(speech, return_tensors="np")["input_values"], expected)
    plain = extractor(samples)["input_values"]
    assert isinstance(plain, list) and plain[0].shape == (13, 160)


def test_features_stay_in_single_precision_under_autocast():
    features = SpectrogramFeatures(SpectrogramFeatureExtractor(STACK, window_seconds=0.5))
    samples = torch.from_numpy(noise(8_000))[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = features(samples)["input_values"]
    assert mixed.dtype == torch.float32 and torch.equal(mixed, features(samples)["input_values"])


def test_settings_are_saved_and_give_the_same_values(tmp_path):
    extractor = SpectrogramFeatureExtractor(
        ["chroma", "mfcc"], window_seconds=0.5, hop_length=160, num_mfcc=13, mel_scale="slaney", mel_norm="slaney",
        f_min=20.0, f_max=7_000.0, n_fft=512, num_mel_bins=40, chroma_n_fft=2048, num_chroma=24, floor_db=-80.0,
    )  # fmt: skip
    extractor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["feature_size"] == 37
    loaded = SpectrogramFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    samples = noise(8_000) * np.linspace(0, 1, 8_000, dtype=np.float32) ** 4  # some of it below the floor
    expected = extractor(samples, return_tensors="np")["input_values"]
    assert expected.shape == (1, 51, 37)
    for other in (loaded, copy.deepcopy(extractor), pickle.loads(pickle.dumps(extractor))):
        np.testing.assert_array_equal(other(samples, return_tensors="np")["input_values"], expected)
    changed = SpectrogramFeatureExtractor.from_pretrained(tmp_path, features="mfcc")
    assert changed.feature_size == 13 and changed.num_mel_bins == 40


def test_filters_are_made_once_and_stay_outside_the_extractor():
    extractor, samples = SpectrogramFeatureExtractor(STACK, window_seconds=0.2), noise(3_200)
    extractor(samples)
    caches = [extractor_file._window, extractor_file._mel_filters, extractor_file._cosines]
    caches.append(extractor_file._chroma_filters)
    before = [cache.cache_info().misses for cache in caches]
    features = SpectrogramFeatures(pickle.loads(pickle.dumps(extractor)))
    features(torch.from_numpy(samples)[None].repeat(4, 1))
    assert [cache.cache_info().misses for cache in caches] == before
    assert not any(isinstance(value, (torch.Tensor, np.ndarray)) for value in vars(extractor).values())


ELSEWHERE = """
import json, sys
sys.modules["hf_musiclf"] = None
import numpy as np
from transformers import pipeline
folder = sys.argv[1]
classify = pipeline("audio-classification", model=folder, trust_remote_code=True)
sound = np.load(folder + "/sound.npy")
scores = {item["label"]: item["score"] for item in classify({"raw": sound, "sampling_rate": 16000})}
values = classify.feature_extractor(sound, sampling_rate=16000, return_tensors="np")["input_values"]
np.save(folder + "/values.npy", values)
print(json.dumps([type(classify.feature_extractor).__module__, scores]))
"""


def test_the_pipeline_makes_the_same_features_without_the_package(tmp_path, monkeypatch):
    extractor = SpectrogramFeatureExtractor(STACK, window_seconds=0.5)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=32,
        num_mel_bins=extractor.feature_size,
    )  # fmt: skip
    model = ASTForAudioClassification(config).eval()
    samples = noise(12_000)
    for part in (extractor, model):
        part.save_pretrained(tmp_path)
    np.save(tmp_path / "sound.npy", samples)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module, scores = json.loads(done.stdout.splitlines()[-1])
    assert module.startswith("transformers_modules.")
    inputs = SpectrogramFeatures(extractor)(torch.from_numpy(samples)[None])
    np.testing.assert_array_equal(np.load(tmp_path / "values.npy"), inputs["input_values"].numpy())
    here = model(**inputs).logits.softmax(-1)[0].tolist()
    assert scores == pytest.approx({f"LABEL_{index}": score for index, score in enumerate(here)}, abs=1e-5)


def test_the_published_file_imports_nothing_of_ours():
    found = set()
    for node in ast.walk(ast.parse(Path(extractor_file.__file__).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names}
    assert found == {
        "functools.lru_cache",
        "math",
        "numpy",
        "torch",
        "torchaudio",
        "transformers.BatchFeature",
        "transformers.SequenceFeatureExtractor",
        "transformers.audio_utils.chroma_filter_bank",
    }


def test_waveforms_that_make_nothing_are_refused():
    extractor = SpectrogramFeatureExtractor(window_seconds=0.5)
    with pytest.raises(ValueError, match="sampling_rate=44100 Hz: this extractor takes 16000 Hz; resample"):
        extractor(noise(100), sampling_rate=44_100)
    for empty in (np.zeros(0, np.float32), [], [noise(100), noise(0)]):
        with pytest.raises(ValueError, match="has no samples"):
            extractor(empty)
    with pytest.raises(ValueError, match="has 2 axes; this extractor takes mono"):
        extractor(np.zeros((1, 2, 100), np.float32))
    for batch, lengths in ((torch.zeros(2, 100), torch.tensor([100, 0])), (torch.zeros(2, 0), None)):
        with pytest.raises(ValueError, match="has no samples"):
            SpectrogramFeatures(extractor)(batch, lengths)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(features="mels"), r"features=\['mels'\] must name each once, one or several of log_mel, mfcc, chroma"),
        (dict(features=[]), r"features=\[\] must name"),
        (dict(features=["mfcc", "mfcc"]), "must name each once"),
        (dict(feature_size=64), r"feature_size=64, but \['log_mel'\] make 128; leave feature_size out"),
        (dict(n_fft=1023), "n_fft=1023 must be an even number"),
        (dict(features="chroma", chroma_n_fft=0), "chroma_n_fft=0 must be an even number"),
        (dict(hop_length=0), "hop_length=0 must be 1 or more"),
        (dict(hop_length=2.5), "hop_length=2.5 must be a whole number"),
        (dict(n_fft=1024.0), "n_fft=1024.0 must be a whole number"),
        (dict(num_mfcc=True), "num_mfcc=True must be a whole number"),
        (dict(sampling_rate=22_050.5), "sampling_rate=22050.5 must be a whole number"),
        (dict(num_mel_bins="many"), "num_mel_bins=many must be a whole number"),
        (dict(floor_db="low"), "floor_db=low must be a number"),
        (dict(floor_db=float("nan")), "floor_db=nan must be a number"),
        (dict(f_max="high"), "f_max=high must be a number"),
        (dict(f_min=None), "f_min=None must be a number"),
        (dict(floor_db=0), r"floor_db=0 must lie in \[-300, 0\)"),
        (dict(floor_db=-400.0), r"floor_db=-400.0 must lie in"),
        (dict(features=5), "features=5 must name each once"),
        (dict(num_mel_bins=0), "num_mel_bins=0 must be 1 or more"),
        (dict(features="mfcc", num_mfcc=129), "num_mfcc=129 exceeds num_mel_bins=128"),
        (dict(features="chroma", num_chroma=13), "num_chroma=13 must be 12 or a multiple"),
        (dict(mel_scale="mel"), "mel_scale='mel' must be 'htk' or 'slaney'"),
        (dict(mel_norm="area"), "mel_norm='area' None or 'slaney'"),
        (dict(sampling_rate=8_000, f_max=8_000.0), r"f_max=8000.0 Hz must rise and stay within 4000 Hz"),
        (dict(f_min=9_000.0), "f_min=9000.0 and f_max=8000.0 Hz must rise"),
        (dict(window_seconds=0.032), r"window_seconds=0.032 is 512 samples; log_mel of 1024 .* need 513, 0\.032 s"),
        (dict(features=STACK, window_seconds=0.128), r"0.128 is 2048 samples; log_mel \+ mfcc \+ chroma .* need 2049"),
    ],
)
def test_settings_that_make_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpectrogramFeatureExtractor(**settings)


@pytest.mark.parametrize("names, least", [("mfcc", 513), ("chroma", 2049)])
def test_the_shortest_window_makes_features(names, least):
    extractor = SpectrogramFeatureExtractor(names, window_seconds=least / RATE)
    values = SpectrogramFeatures(extractor)(torch.from_numpy(noise(least))[None])["input_values"]
    assert values.shape == (1, 1 + least // 256, extractor.feature_size) and torch.isfinite(values).all()
