"""Whole tracks by `pipeline("music-classification")`, with this package and without it."""

import csv
import http.server
import json
import subprocess
import sys
import threading
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from conftest import FORMATS, noise
from recipe_runs import CLAP, CNN, CRNN, EFFICIENTAT, TINY, VGG, WAV2VEC2
from tiny_encoders import write_encoder
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline
from transformers.pipelines import AudioClassificationPipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_musiclf import audio_readers, windows
from hf_musiclf.arguments import ModelArguments
from hf_musiclf.audio import read_audio
from hf_musiclf.audio_readers import AudioError
from hf_musiclf.data.tracks import MIN_TRACK_SECONDS
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier, TrackPipeline
from hf_musiclf.models import music_pipeline
from hf_musiclf.models.families import clap
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.models.music_pipeline import TASK, MusicClassificationPipeline, open_source, window_starts, write_beside

LABELS = ("blues", "jazz", "rock")
RATE = 22_050
TINY_MODELS = {
    "audio-spectrogram-transformer": TINY["model_config"],
    clap.MODEL_TYPE: CLAP["model_config"],
    "spectrogram_cnn": CNN["model_config"],
    "spectrogram_crnn": CRNN["model_config"],
    "spectrogram_vgg": VGG["model_config"],
    "efficientat": EFFICIENTAT["model_config"],
    "wav2vec2": WAV2VEC2["model_config"],
}
ENCODERS = ("wav2vec2-stable", "wav2vec2-bert", "whisper")


def save(folder, model_type):
    """A tiny model of 3 labels and windows of 1 s at a hop of 0.6 s, saved as a run saves it; returns the folder."""
    torch.manual_seed(0)
    encoder = model_type in ENCODERS
    args = dict(model=str(write_encoder(folder / "base", model_type))) if encoder else dict(model="random")
    config = None if encoder else TINY_MODELS[model_type]
    loaded = load_classifier(
        ModelArguments(**args, model_config=config), LABELS, 1.0, "wav2vec2" if encoder else model_type, verbose=False
    )
    loaded.model.config.hop_seconds = 0.6
    with torch.no_grad():  # so that windows differ
        for parameter in loaded.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    loaded.save(folder / "saved")
    write_beside(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("cnn"), "spectrogram_cnn")


@pytest.fixture(scope="module")
def classify(folder):
    return pipeline(TASK, model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def published(folder):
    """The published class itself: what those have who have not installed this package."""
    return published_pipeline(folder)


def published_pipeline(folder):
    model = AutoModelForAudioClassification.from_pretrained(folder)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    return MusicClassificationPipeline(model=model, feature_extractor=extractor, device="cpu", task=TASK)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """2.9 s of 16-bit stereo that changes all the time."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    times = np.arange(round(2.9 * RATE)) / RATE
    sweep = np.sin(2 * np.pi * (100 * times + 400 * times**2))
    soundfile.write(path, 0.5 * np.stack([sweep, noise(2.9, RATE, 3)], 1), RATE)
    return path


def by_label(scores):
    return [{entry["label"]: entry["score"] for entry in scores}[label] for label in LABELS]


# Numbers


@pytest.mark.parametrize("model_type", [*TINY_MODELS, *ENCODERS])
def test_of_every_family_the_published_file_says_what_track_classifier_says(model_type, song, tmp_path):
    folder = save(tmp_path, model_type)
    short = {"array": noise(0.4, RATE, 1), "sampling_rate": RATE}
    published, classify = published_pipeline(folder), TrackClassifier(str(folder))
    assert published.window_seconds == classify.features.window_seconds
    spread = np.ptp(classify(song).window_probabilities, axis=0).max()
    assert spread > 5e-5
    for source, n_windows in ((song, 5), (short, 1)):
        ours, theirs = classify(source), published(source, top_k=None, timeline=True)
        of_windows = [by_label(window["scores"]) for window in theirs["timeline"]]
        assert len(of_windows) == n_windows
        np.testing.assert_allclose(of_windows, ours.window_probabilities, atol=0.02 * spread + 1e-6)


ELSEWHERE = """
import json, sys
sys.modules["hf_musiclf"] = None
from transformers import pipeline
folder, *files = sys.argv[1:]
stock = pipeline("audio-classification", model=folder, device="cpu")
try:
    pipeline("music-classification", model=folder, device="cpu")
except ValueError as error:
    refused = str(error)
classify = pipeline("music-classification", model=folder, device="cpu", trust_remote_code=True, top_k=None)
said = [{entry["label"]: entry["score"] for entry in scores} for scores in classify(files)]
named = type(pipeline(model=folder, device="cpu", trust_remote_code=True)).__name__
print(json.dumps([type(stock).__name__, type(stock.model).__module__, refused, said, named]))
"""


def test_a_finished_run_says_what_its_evaluation_said_without_our_package(finished, corpus, tmp_path, monkeypatch):
    """Nor does the stock pipeline of a class of Transformers' own ask for trust_remote_code."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, report = finished
    with (folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    files = [str(corpus / "genres" / row["track"].split(".")[0] / f"{row['track']}.wav") for row in rows]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(folder), *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    stock, module, refused, said, named = json.loads(done.stdout.splitlines()[-1])
    assert stock == "AudioClassificationPipeline" and module.startswith("transformers.models.audio_spectrogram")
    assert "trust_remote_code=True" in refused and named == "MusicClassificationPipeline"
    labels = report["data"]["labels"]
    expected = [[float(row[label]) for label in labels] for row in rows]
    np.testing.assert_allclose([[scores[label] for label in labels] for scores in said], expected, atol=2e-5)
    ours = pipeline(TASK, model=str(folder), device="cpu", top_k=None)(files)
    np.testing.assert_allclose([[s["score"] for s in sorted(one, key=lambda s: labels.index(s["label"]))]
                                for one in ours], expected, atol=2e-5)  # fmt: skip


def test_the_timeline_covers_the_track_and_its_mean_is_the_score(published, song):
    said = published(song, timeline=True, top_k=None)
    places = [(window["start"], window["end"]) for window in said["timeline"]]
    np.testing.assert_allclose(places, [(0, 1), (0.6, 1.6), (1.2, 2.2), (1.8, 2.8), (1.9, 2.9)], atol=1e-4)
    assert said["duration"] == pytest.approx(2.9, abs=1e-4)
    mean = np.mean([by_label(window["scores"]) for window in said["timeline"]], axis=0)
    np.testing.assert_allclose(by_label(said["scores"]), mean, atol=1e-9)
    assert [entry["score"] for entry in said["scores"]] == sorted((s["score"] for s in said["scores"]), reverse=True)
    for start, window in zip((0, 0.6), said["timeline"], strict=False):
        samples, _ = soundfile.read(song, start=round(start * RATE), frames=RATE)
        alone = published({"array": samples.T, "sampling_rate": RATE}, top_k=None)
        # The window alone lacks what the resampler saw around it.
        np.testing.assert_allclose(by_label(window["scores"]), by_label(alone), atol=2e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_and_neighbours_change_nothing(classify, published, song, batch_size):
    short = {"array": noise(0.5, 8000, 2), "sampling_rate": 8000}
    for one in (classify, published):
        together = one([str(song), short, str(song)], batch_size=batch_size, top_k=None)
        for source, scores in zip((song, short, song), together, strict=True):
            np.testing.assert_allclose(by_label(scores), by_label(one(source, top_k=None)), atol=1e-6)


def test_a_cpu_hears_four_windows_at_once_unless_told_otherwise(published, song, monkeypatch):
    heard, prepare = [], published.prepare
    monkeypatch.setattr(published, "prepare", lambda waveforms: heard.append(len(waveforms)) or prepare(waveforms))
    published(song, hop_seconds=0.3)
    published(song, hop_seconds=0.3, batch_size=5)
    assert heard == [4, 4, 5, 3]


def test_a_track_within_one_window_ends_where_it_ends(published):
    short = {"array": noise(0.4, 8000, 2), "sampling_rate": 8000}
    (window,) = published(short, timeline=True)["timeline"]
    assert (window["start"], window["end"]) == (0, 0.4)


def test_a_track_that_ends_before_its_header_says_is_scored_as_far_as_it_goes(published, monkeypatch):
    """An MP3's header may count a frame too many: its last window is shorter than the others."""
    lengths, prepare = [], published.prepare
    monkeypatch.setattr(published, "prepare", lambda batch: lengths.append([len(w) for w in batch]) or prepare(batch))
    track = open_source(noise(3.2, published.sampling_rate, 5), published.sampling_rate)
    monkeypatch.setattr(published, "open_track", lambda source: track)
    whole, window = track.samples, round(published.window_seconds * published.sampling_rate)
    track.samples = whole[:-1000]
    assert sum(by_label(published("a.mp3", hop_seconds=1.0))) == pytest.approx(1)
    assert lengths == [[window] * 3, [window - 1000]]
    track.samples = whole[: 2 * window]
    with pytest.raises(ValueError, match=r"ends before the 3\.200 s that its header promises"):
        published("a.mp3", hop_seconds=1.0)


def test_the_hop_is_that_of_the_evaluation_unless_said(published, song):
    assert len(published(song, timeline=True)["timeline"]) == 5
    starts = [window["start"] for window in published(song, timeline=True, hop_seconds=1.0)["timeline"]]
    np.testing.assert_allclose(starts, [0, 1, 1.9], atol=1e-4)


def test_a_hop_of_the_window_is_the_window_though_both_are_rounded(folder, monkeypatch):
    """At 22,050 Hz 3.03 s are 66,811.5 samples; the trainer's hop of 66,812 lasts longer than they do."""
    one = published_pipeline(folder)
    monkeypatch.setattr(one, "sampling_rate", 22_050)
    monkeypatch.setattr(one, "window_seconds", 3.03)
    monkeypatch.setattr(one.model.config, "hop_seconds", 66_812 / 22_050)
    assert one._hop_samples(None) == 66_812 == windows.seconds_to_samples(3.03, 22_050)


# Reading: the published file has its own, which must give what ours gives


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("name", FORMATS)
def test_a_track_read_once_gives_what_is_read_window_by_window(encoded, name, rate, monkeypatch):
    monkeypatch.setattr(music_pipeline, "BLOCK_FRAMES", 10_000)  # blocks that begin within the music
    track = open_source(encoded[name], rate)
    window, seconds = 2 * rate, track.frames / track.sampling_rate
    starts = window_starts(round(seconds * rate), window, round(1.3 * rate))
    cut = list(music_pipeline.cut_windows(track, rate, starts, window))
    track.close()
    assert len(cut) == len(starts) > 8
    for start, waveform in zip(starts, cut, strict=True):
        expected = read_audio(encoded[name], rate, start / rate, 2.0)
        assert abs(len(waveform) - len(expected)) <= 1
        # Opus decays slowly from a seek, see audio_readers.py.
        same = min(len(waveform), len(expected))
        np.testing.assert_allclose(waveform[:same], expected[:same], atol=2e-3 if name == "opus" else 2e-6)


def test_the_published_file_repeats_what_it_cannot_import():
    for samples, window, hop in [(30, 100, 100), (100, 100, 7), (101, 100, 100), (250, 100, 100), (1000, 99, 33)]:
        assert window_starts(samples, window, hop) == windows.window_starts(samples, window, hop)
    assert music_pipeline.MIN_TRACK_SECONDS == MIN_TRACK_SECONDS
    assert music_pipeline.WARM_UP_FRAMES == audio_readers.WARM_UP_FRAMES
    assert music_pipeline.LAST_VORBIS_PAGE_FRAMES == audio_readers.LAST_VORBIS_PAGE_FRAMES


class Decoder:
    """As torchcodec's, which datasets hands out."""

    def __init__(self, path):
        self.path = path

    def get_all_samples(self):
        samples, rate = soundfile.read(self.path, dtype="float32")
        return SimpleNamespace(data=torch.from_numpy(samples.T.copy()), sample_rate=rate)


@pytest.mark.parametrize("which", ["classify", "published"])
def test_the_same_track_in_every_shape_has_the_same_scores(which, request, song):
    one = request.getfixturevalue(which)
    samples, _ = soundfile.read(song, dtype="float32")
    whole, data = soundfile.read(song, dtype="int16")[0], song.read_bytes()
    known = {"sampling_rate": RATE}
    shapes = [
        song, str(song), data, {"path": str(song), "bytes": None}, {"path": None, "bytes": data}, Decoder(song),
        {"array": samples, **known}, {"raw": samples.T, **known}, {"array": torch.from_numpy(samples), **known},
        {"array": whole, **known}, {"array": samples.astype(np.float64).mean(1), **known},
    ]  # fmt: skip
    expected = by_label(one(song))
    for source in shapes:
        np.testing.assert_allclose(by_label(one(source)), expected, atol=1e-6)
    mono = read_audio(song, one.sampling_rate)
    np.testing.assert_allclose(by_label(one(mono)), expected, atol=1e-4)  # at the model's rate, as the stock pipeline
    generated = list(one(source for source in shapes[:3]))
    of_data_set = list(one(KeyDataset([{"audio": source} for source in shapes[:3]], "audio")))
    for listed in (generated, of_data_set, one(shapes[:3]), one(tuple(shapes[:3]))):
        np.testing.assert_allclose([by_label(scores) for scores in listed], [expected] * 3, atol=1e-6)
    assert one([]) == [] and len(one(song, top_k=1)) == 1


@pytest.mark.parametrize("which", ["classify", "published"])
def test_silence_and_a_tenth_of_a_second_are_tracks(which, request):
    for seconds in (0.1, 2.0):
        scores = request.getfixturevalue(which)({"array": np.zeros(round(seconds * 8000)), "sampling_rate": 8000})
        assert sum(by_label(scores)) == pytest.approx(1) and np.isfinite(by_label(scores)).all()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"array": np.zeros(300), "sampling_rate": 8000}, r"lasts 0\.037 s; 0\.1 s are the least"),
        ({"array": np.full(8000, np.nan), "sampling_rate": 8000}, "NaN or infinite"),
        ({"array": np.zeros(8000)}, "needs its sampling_rate in Hz"),
        ({"array": np.zeros((2, 2, 2)), "sampling_rate": 8000}, r"shape \(2, 2, 2\)"),
        ("nowhere.wav", r"nowhere\.wav: no such file"),
        (b"no audio at all", "15 bytes of audio: .*libsndfile"),
        (7, "cannot read audio from 7"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line(classify, published, source, told):
    for one, error in ((classify, AudioError), (published, ValueError)):
        with pytest.raises(error, match=told) as caught:
            one(source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (dict(hop_seconds=1.5), r"hop_seconds=1\.5 must lie in \(0, 1\.0\], the window"),
        (dict(hop_seconds=0), "hop_seconds=0 must lie in"),
        (dict(top_k=0), "top_k=0 must be 1 or more"),
        (dict(hop=0.5), "hop is not known; pass top_k, timeline, hop_seconds or batch_size"),
    ],
)
def test_wrong_settings_are_told_with_the_way_out(classify, published, song, wrong, told):
    for one, error in ((classify, UserError), (published, ValueError)):
        with pytest.raises(error, match=told):
            one(song, **wrong)


# URLs


@pytest.fixture
def server(song):
    """Base URL of a server on this machine: /song.wav, /half.wav which breaks off, nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = song.read_bytes()
            known = self.path.partition("?")[0] in ("/song.wav", "/half.wav")
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(data) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(data if "song" in self.path else data[: len(data) // 2])

        def log_message(self, *args):
            """Nothing on the terminal."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.mark.parametrize("which", ["classify", "published"])
def test_a_url_is_streamed_to_a_file_that_is_gone_afterwards(which, request, server, song, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one = request.getfixturevalue(which)
    assert one(f"{server}/song.wav?token=secret") == one(song)
    assert one(f"{server}/song.wav?a name%20of=Dvořák") == one(song)  # as browsers take it
    for path, told in (("half.wav", "broke off after"), ("none.wav", "cannot be fetched .*Not Found")):
        with pytest.raises(ValueError, match=told) as caught:
            one(f"{server}/{path}?token=secret")
        assert "secret" not in str(caught.value)
    monkeypatch.setattr(music_pipeline, "MAX_URL_BYTES", 1000)
    with pytest.raises(ValueError, match="GB; fetch the file and pass that"):
        one(f"{server}/song.wav")
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_told(published):
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/a\.wav cannot be fetched"):
        published("http://127.0.0.1:9/a.wav")


# An hour


@pytest.mark.parametrize("which", ["classify", "published"])
def test_an_hour_takes_the_memory_of_a_minute_and_is_read_once(which, request, tmp_path, monkeypatch):
    one = request.getfixturevalue(which)
    path, rate, seconds = tmp_path / "hour.wav", 8_000, 3600
    soundfile.write(path, np.zeros(rate, np.int16), rate)
    with path.open("r+b") as file:  # 58 MB, of which the disk holds none
        size = 2 * rate * seconds
        file.truncate(44 + size)
        for place, value in ((4, 36 + size), (40, size)):
            file.seek(place)
            file.write(value.to_bytes(4, "little"))
    frames, read = [], soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **how: frames.append(n) or read(self, n, **how))
    monkeypatch.setattr(one, "window_seconds", 10.0)  # and 60 hops in a minute would be no news
    monkeypatch.setattr(one, "model", Silent(one.model))
    tracemalloc.start()
    said = one(path, timeline=True, hop_seconds=10.0, top_k=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(said["timeline"]) == 360 and said["timeline"][-1]["end"] == 3600
    assert sum(frames) == rate * seconds and max(frames) <= 1 << 20
    # A block of 4 MB, at 16 kHz of 8, a few times while it is finite, mixed and joined. The hour has 230 MB.
    assert peak < 60e6, f"{peak / 1e6:.0f} MB"


class Silent(torch.nn.Module):
    """In the place of a model, which would take the test's time."""

    def __init__(self, model):
        super().__init__()
        self.config, self.dtype, self.device = model.config, model.dtype, model.device

    def forward(self, **inputs):
        return SimpleNamespace(logits=torch.zeros(len(next(iter(inputs.values()))), len(LABELS)))


# Saving and finding it


def test_the_saved_pipeline_is_saved_again_with_its_file(folder, song, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    expected = by_label(pipeline(TASK, model=str(folder), device="cpu")(song))
    for number, source in enumerate([folder, tmp_path / "0"]):
        one = pipeline(model=str(source), device="cpu", trust_remote_code=True)  # the task is in config.json
        assert type(one).__module__.startswith("transformers_modules.")
        one.save_pretrained(tmp_path / str(number))
        assert (tmp_path / str(number) / "music_pipeline.py").read_bytes() == (
            folder / "music_pipeline.py"
        ).read_bytes()
    entry = json.loads((tmp_path / "1" / "config.json").read_text())["custom_pipelines"]
    assert entry == {TASK: music_pipeline.CUSTOM_PIPELINE}
    np.testing.assert_allclose(by_label(pipeline(TASK, model=str(tmp_path / "1"), device="cpu")(song)), expected)


def test_writing_it_beside_keeps_what_the_config_says(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"hop_seconds": 1.0, "custom_pipelines": {"other": {"impl": "a.B"}}})
    )
    write_beside(tmp_path)
    write_beside(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["hop_seconds"] == 1.0 and set(config["custom_pipelines"]) == {"other", TASK}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "music_pipeline.py"]


def test_with_our_package_nobody_is_asked_for_trust(folder, classify, song):
    assert type(classify) is TrackPipeline and type(classify.features).__name__ == "SpectrogramFeatures"
    np.testing.assert_allclose(by_label(classify(song)), TrackClassifier(str(folder))(song).probabilities, atol=1e-6)
    stock = pipeline("audio-classification", model=str(folder), device="cpu")
    assert type(stock) is AudioClassificationPipeline
    other = json.loads((folder / "config.json").read_text())["custom_pipelines"][TASK]
    assert other["impl"] == "music_pipeline.MusicClassificationPipeline"


def test_the_pipeline_of_a_stranger_still_asks_for_trust(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["custom_pipelines"][TASK]["impl"] = "strange.Pipeline"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        pipeline(TASK, model=str(tmp_path), device="cpu")


IMPORTED_FIRST = """
import sys, importlib.util
import hf_musiclf
assert not {"torch", "transformers", "numpy"} & set(sys.modules)
assert importlib.util.find_spec("transformers.pipelines")  # as some ask who do not import it
from transformers import pipeline
assert len([finder for finder in sys.meta_path if type(finder).__module__ == "hf_musiclf.registration"]) == 0
one = pipeline("music-classification", model=sys.argv[1], device="cpu")
print(type(one).__name__)
"""


def test_importing_our_package_is_cheap_and_enough(folder):
    done = subprocess.run([sys.executable, "-c", IMPORTED_FIRST, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "TrackPipeline"
