import csv
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from hf_musiclf.data.synthetic import GENRES, compose, render_track, sound, write_corpus
from hf_musiclf.data.synthetic.styles import PATCHES, STEPS, STYLES

SMALL = {"tracks_per_artist": 2, "artists_per_genre": 2, "seconds": 0.2, "sampling_rate": 8000}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "synthetic", **SMALL)


def power(samples, sampling_rate, low, high, hop=256):
    """Energy between low and high Hz in frames of two hops: (frames,)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * hop)[::hop] * np.hanning(2 * hop)
    hertz = np.fft.rfftfreq(2 * hop, 1 / sampling_rate)
    return (np.abs(np.fft.rfft(frames)) ** 2)[:, (hertz >= low) & (hertz <= high)].sum(axis=1)


def test_the_genres_are_those_of_gtzan():
    assert GENRES == ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


@pytest.mark.parametrize("genre", GENRES)
def test_a_track_is_float32_in_range_of_the_stated_length_and_without_clicks_at_its_ends(genre):
    samples = render_track(genre, artist=1, track=0, seconds=1.5, sampling_rate=16000)
    assert samples.shape == (24000,) and samples.dtype == np.float32
    assert 0.05 < samples.std() and np.abs(samples).max() <= 1
    assert samples[0] == samples[-1] == 0


def test_the_same_arguments_give_the_same_samples_and_any_other_argument_others():
    first = render_track("jazz", 2, 1, seconds=1.0)
    np.testing.assert_array_equal(first, render_track("jazz", 2, 1, seconds=1.0))
    others = [("jazz", 3, 1, 0), ("jazz", 2, 0, 0), ("blues", 2, 1, 0), ("jazz", 2, 1, 1)]
    for genre, artist, track, seed in others:
        other = render_track(genre, artist, track, seconds=1.0, seed=seed)
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.5


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown genre 'polka'; the synthetic corpus knows blues, classical"):
        render_track("polka", 0, 0)
    with pytest.raises(ValueError, match=r"artist=-1.*negative"):
        render_track("pop", -1, 0)
    with pytest.raises(ValueError, match=r"sampling_rate=4000.*8000 Hz"):
        render_track("pop", 0, 0, sampling_rate=4000)


@pytest.mark.parametrize("genre", GENRES)
def test_the_tables_are_well_formed(genre):
    style = STYLES[genre]
    assert set(style.neighbours.split()) < set(GENRES) - {genre}
    patterns = [line[1:] for kit in style.drums.split("|") for line in kit.split()]
    for text in (style.bass, style.comp, style.lead):
        names, _, options = text.partition(":")
        assert set(names.split()) <= set(PATCHES)
        patterns += options.split("|") if options else []
    assert all(STEPS % len(pattern) == 0 for pattern in patterns)
    for artist in range(20):
        song = compose(genre, artist, 0)
        assert all(0 <= root < 12 for root, _ in song.chords)


@pytest.mark.parametrize("artist", range(4))
def test_a_disco_track_repeats_with_its_beat(artist):
    rate, hop = 22050, 256
    tempo = compose("disco", artist, 0).tempo
    loudness = np.log(power(render_track("disco", artist, 0, 12.0, rate), rate, 0, rate / 2, hop) + 1e-6)
    onsets = np.maximum(np.diff(loudness), 0)
    onsets -= onsets.mean()
    similarity = np.correlate(onsets, onsets, mode="full")[len(onsets) - 1 :]
    lags = np.arange(len(similarity)) * hop / rate
    search = (lags > 0.4) & (lags < 0.8)  # between an eighth and two beats of any disco tempo
    assert lags[search][similarity[search].argmax()] == pytest.approx(60 / tempo, abs=1.5 * hop / rate)


@pytest.mark.parametrize("artist", range(3))
def test_cymbals_burst_in_metal_and_not_in_classical(artist):
    bursts = {}
    for genre in ("classical", "metal"):
        samples = render_track(genre, artist, 1, seconds=5.0)
        high, total = power(samples, 22050, 7000, 11025), power(samples, 22050, 0, 11025)
        bursts[genre] = np.percentile(high, 95) / total.mean()
    assert 4 * bursts["classical"] < bursts["metal"]


@pytest.mark.parametrize("patch", ["flute", "piano", "rhodes", "violin"])
def test_a_note_sounds_at_its_pitch(patch):
    tone = sound.tone(PATCHES[patch], 69, 22050, 22050, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(tone))
    assert spectrum[:660].argmax() == pytest.approx(440, abs=8)  # of one second, bin = Hz; vibrato moves 0.25 semitones


def test_a_plucked_string_grows_dull():
    tone = sound.tone(PATCHES["banjo"], 50, 22050, 22050, np.random.default_rng(0))
    bright = [
        spectrum[1000:].sum() / spectrum.sum() for spectrum in np.abs(np.fft.rfft(tone[:20000].reshape(2, -1), 22050))
    ]
    assert bright[1] < 0.7 * bright[0]


def test_the_corpus_lies_on_disk_as_gtzan_does(corpus):
    wavs = sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.wav"))
    assert wavs == [f"genres/{genre}/{genre}.{number:05d}.wav" for genre in GENRES for number in range(4)]
    info = soundfile.info(corpus / wavs[0])
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (8000, 1, "PCM_16", 1600)
    samples, _ = soundfile.read(corpus / "genres/rock/rock.00003.wav")
    np.testing.assert_allclose(samples, render_track("rock", 1, 1, 0.2, 8000), atol=1 / 2**15)


def test_the_index_names_every_track_once_and_each_artist_has_as_many_as_stated(corpus):
    with open(corpus / "index.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["track", "artist", "title"]
    assert sorted(row["track"] for row in rows) == sorted(path.stem for path in corpus.rglob("*.wav"))
    artists = [row["artist"] for row in rows]
    assert len(set(artists)) == 20 and all(artists.count(artist) == 2 for artist in artists)
    assert len({row["title"] for row in rows}) == len(rows)
    assert {"track": "blues.00002", "artist": "Synthetic blues 1"}.items() <= rows[2].items()


def test_a_second_call_returns_the_corpus_as_it_is(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert write_corpus(corpus, **SMALL) == corpus
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}


def test_any_other_folder_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="exists and is no synthetic corpus"):
        write_corpus(tmp_path, **SMALL)
    with pytest.raises(ValueError, match=r"holds the synthetic corpus of .*'seed': 0.*not .*'seed': 7"):
        write_corpus(corpus, **SMALL, seed=7)
    with pytest.raises(ValueError, match="tracks_per_artist=0"):
        write_corpus(tmp_path / "new", tracks_per_artist=0)


def test_a_corpus_that_lost_a_track_is_refused(tmp_path):
    folder = write_corpus(tmp_path / "corpus", 1, 1, seconds=0.1, sampling_rate=8000)
    (folder / "genres/pop/pop.00000.wav").unlink()
    with pytest.raises(ValueError, match=r"has lost 1 of its 10 tracks, as genres/pop/pop.00000.wav"):
        write_corpus(folder, 1, 1, seconds=0.1, sampling_rate=8000)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def write(path, *args, **kwargs):
        if "metal" in str(path):
            raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "write", write)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "corpus", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_callers_at_the_same_time_get_one_corpus_whatever_the_number_of_workers(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_musiclf.data.synthetic.available_cores", lambda: 1)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: write_corpus(tmp_path / "corpus", **SMALL), range(2)))
    assert folders == [tmp_path / "corpus"] * 2 and list(tmp_path.iterdir()) == folders[:1]
    for path in corpus.rglob("*.*"):
        assert path.read_bytes() == (folders[0] / path.relative_to(corpus)).read_bytes()
