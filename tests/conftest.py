"""Small audio made on the spot, in the layouts of the real data; no network."""

import csv
import gc
import io
import os
import socket
import tarfile

# Read when these libraries are imported; offline, they ask nobody and do not wait for an answer.
os.environ["HF_HUB_OFFLINE"] = "1"
# The models are so small that threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import pytest
import soundfile
import soxr

from hf_musiclf.data.gtzan import load_gtzan, read_index
from hf_musiclf.data.gtzan_files import GENRES

ENCODINGS = {"wav": "PCM_16", "au": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
# name -> container, encoding, a rate that the encoding knows
FORMATS = {
    "wav": ("WAV", "PCM_16", 44100),
    "au": ("AU", "PCM_16", 22050),
    "flac": ("FLAC", "PCM_16", 44100),
    "vorbis": ("OGG", "VORBIS", 44100),
    "opus": ("OGG", "OPUS", 48000),
    "mp3": ("MP3", "MPEG_LAYER_III", 44100),
    "mp3_low_rate": ("MP3", "MPEG_LAYER_III", 22050),
}


def pytest_collection_finish(session):
    """What is imported by now is not searched for garbage again: Trainer collects after every training, which takes
    longer than these trainings do."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every connection is refused, as on a machine without a network, but for sockets within the machine."""
    connect = socket.socket.connect

    def refusing_connect(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refusing_connect)


def noise(seconds, sampling_rate, *key):
    """`(time,)` float32 within [-0.5, 0.5], of 16 bits, the same for the same key of ints."""
    rng = np.random.default_rng(key)
    return (rng.integers(-16384, 16384, round(seconds * sampling_rate)) / 32768).astype(np.float32)


def write_gtzan(folder, tracks_per_genre=4, seconds=0.25, sampling_rate=8000, suffix="wav"):
    """`folder/GENRE/GENRE.NNNNN.suffix`, each track other noise; returns folder."""
    for label, genre in enumerate(GENRES):
        (folder / genre).mkdir(parents=True)
        for number in range(tracks_per_genre):
            path = folder / genre / f"{genre}.{number:05d}.{suffix}"
            samples = noise(seconds, sampling_rate, label, number)
            soundfile.write(path, samples, sampling_rate, subtype=ENCODINGS[suffix])
    return folder


def write_archive(path, folder, members=None, mode="w:gz"):
    """An archive of `genres/...`, the members in a shuffled order, then those of `members`."""
    files = sorted(folder.rglob("*.wav"))
    np.random.default_rng(0).shuffle(files)
    with tarfile.open(path, mode, format=tarfile.USTAR_FORMAT) as archive:
        for file in files:
            archive.add(file, f"genres/{file.parent.name}/{file.name}")
        for member in members or []:
            archive.addfile(member, io.BytesIO(bytes(member.size)) if member.isfile() else None)
    return path


def music(rate, seconds=12.0, channels=2):
    """`(time, channels)` float32: rising tones, noise, bursts and a silence, so that no two moments are alike."""
    rng = np.random.default_rng(rate)
    times = np.arange(round(rate * seconds)) / rate
    noise = rng.standard_normal((len(times), channels))
    burst = np.exp(-(times % 0.31) * 40)[:, None]
    tones = np.sin(2 * np.pi * np.outer(100 * times + 30 * times**2, np.arange(1, channels + 1)))
    loud = (np.abs(times / seconds - 0.6) > 0.05)[:, None]
    return np.clip(0.3 * tones * loud + (0.02 + 0.2 * burst) * noise * loud, -0.99, 0.99).astype(np.float32)


def write_audio(path, samples, rate, container="WAV", encoding="PCM_16", **options):
    # In pieces: libsndfile's Vorbis encoder overflows its stack on long arrays.
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, format=container, subtype=encoding, **options) as file:
        for start in range(0, len(samples), 16384):
            file.write(samples[start : start + 16384])
    return path


def slice_of_whole(path, sampling_rate, start_seconds, duration_seconds):
    """The truth: decode everything with soundfile, average, resample at once with soxr, cut."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    whole = soxr.resample(samples.mean(axis=1), rate, sampling_rate, quality="HQ")
    first = round(start_seconds * sampling_rate)
    return whole[first : first + round(duration_seconds * sampling_rate)]


@pytest.fixture
def tiny_gtzan(tmp_path):
    """Factory of a folder of its own, in one of GTZAN's layouts: `tiny_gtzan(layout="genres", **write_gtzan's)`."""

    def make(layout=".", name="gtzan", **options):
        write_gtzan(tmp_path / name / layout, **options)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def gtzan_folder(tmp_path_factory):
    """Ten genres of four tracks, to be read only."""
    return write_gtzan(tmp_path_factory.mktemp("tiny") / "genres").parent


@pytest.fixture(scope="session")
def artist_index(tmp_path_factory):
    """An index for `tiny_gtzan` in which every track is by an artist of its own."""
    path = tmp_path_factory.mktemp("index") / "index.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["track", "artist", "title"])
        rows.writerows([f"{g}.{n:05d}", f"{g} artist {n}", f"song {n}"] for g in GENRES for n in range(4))
    return path


@pytest.fixture(scope="session")
def full_gtzan(tmp_path_factory):
    """The table of all 1,000 names of GTZAN, each 0.1 s of noise; jazz.00054 is undecodable, as in most copies."""
    folder = tmp_path_factory.mktemp("full")
    for number, track in enumerate(read_index()):
        path = folder / "genres" / track.split(".")[0] / f"{track}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(0.1, 8000, number), 8000)
    (folder / "genres" / "jazz" / "jazz.00054.wav").write_text("no audio")
    return load_gtzan(str(folder), str(folder / "cache"))


@pytest.fixture(scope="session")
def encoded(tmp_path_factory):
    """The same music in every format: name -> path; to be read only."""
    folder = tmp_path_factory.mktemp("encoded")
    return {
        name: write_audio(folder / f"{name}.{container.lower()}", music(rate), rate, container, encoding)
        for name, (container, encoding, rate) in FORMATS.items()
    }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """80 synthetic tracks of 3 s: eight artists a genre, so that each split by artist has every genre."""
    from hf_musiclf.data.synthetic import write_corpus

    folder = tmp_path_factory.mktemp("corpus") / "synthetic"
    write_corpus(folder, tracks_per_artist=1, artists_per_genre=8, seconds=3.0, sampling_rate=16_000)
    return folder


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """The folder and report of one finished run of the AST recipe."""
    from recipe_runs import data_flags, flags, recipe

    folder = tmp_path_factory.mktemp("run") / "ast"
    return folder, recipe().main(flags(**data_flags(corpus), output_dir=folder))


@pytest.fixture
def hub(monkeypatch):
    """A Hub on the loopback, to which the real client talks with a token that may write; see hub_server.py.

    `hub.waited`: the seconds that the client would have slept between its tries.
    """
    from types import SimpleNamespace

    from hub_server import HubServer
    from huggingface_hub import close_session, constants

    with HubServer() as server:
        server.waited = []
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=server.waited.append))
        told = {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
        told["HUGGINGFACE_CO_URL_TEMPLATE"] = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in told.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server
        close_session()
