"""Truths of the page in the browser: it says what the model says, refuses in words, and leaves nothing behind."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from html import unescape

import numpy as np
import pytest
import soundfile
from recipe_runs import ROOT

from hf_musiclf.app import Limits, Voice, answer, open_voices, serving
from hf_musiclf.app.answers import leaders, probability_table, told_by_time
from hf_musiclf.app.uploads import Uploads
from hf_musiclf.app.voices import held_out
from hf_musiclf.ensembles import Ensemble
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier, TrackScores

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def classify(finished):
    return TrackClassifier(str(finished[0]))


@pytest.fixture(scope="module")
def song(corpus):
    return sorted(corpus.glob("genres/jazz/*.wav"))[0]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("app_script", ROOT / "scripts" / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(table):
    """The rows of a table as lists of text."""
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


# What the page says


def test_the_answer_is_what_the_classifier_says_of_the_file_or_its_bytes(classify, song):
    expected, heard = classify(song), []
    for source in (song, song.read_bytes()):
        found = answer(Voice("ast", classify, ""), source, "my.wav", Limits(), lambda *moment: heard.append(moment))
        np.testing.assert_allclose(list(found.probabilities.values()), expected.probabilities, atol=1e-6)
        assert list(found.probabilities) == list(classify.labels)
        assert f"my.wav: 0:03 heard in {expected.n_windows} windows by ast" in found.facts
        head, *rows = cells(found.table)
        assert head == ["Label", "Probability", "Leads for"]
        assert [row[:2] for row in rows] == [[label, f"{value:.3f}"] for label, value in expected.top(10)]
        assert 'src="data:image/png;base64,iVBOR' in found.timeline and "Mel spectrogram of my.wav" in found.timeline
    assert heard[:2] == [(0.0, 3.0), (0.8, 3.0)] and len(heard) == 2 * expected.n_windows


def test_an_ensemble_answers_too(classify, song):
    found = answer(Voice("both", Ensemble([classify, classify]), ""), song, "my.wav", Limits())
    np.testing.assert_allclose(list(found.probabilities.values()), classify(song).probabilities, atol=1e-6)
    assert "Most probable: " in found.timeline


def test_who_leads_when_is_told_in_words_and_adds_up_to_the_track():
    windows = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    scores = TrackScores(("a", "<b>"), np.array([0.0, 10.0, 20.0]), windows, 10.0, 30.0)
    assert leaders(scores).tolist() == [0] * 20 + [1] * 10
    assert told_by_time(scores) == "Most probable: a from 0:00, <b> from 0:20."
    table = probability_table(scores)
    assert cells(table)[1:] == [["a", "0.667", "0:20"], ["<b>", "0.333", "0:10"]] and "<b>" not in table
    flicker = TrackScores(("a", "b"), np.arange(60.0), np.eye(2)[np.arange(60) % 2], 1.0, 60.0)
    assert told_by_time(flicker).count("from") == 20 and told_by_time(flicker).endswith(", ...")


def test_what_is_refused_is_told_by_the_name_of_the_file(classify, song, tmp_path):
    voice = Voice("ast", classify, "")
    with pytest.raises(UserError, match=r"^my.wav lasts 0:03; at most 0.01 min are heard here$"):
        answer(voice, song, "my.wav", Limits(minutes=0.01))
    with pytest.raises(UserError, match=r"^my.wav has 0.1 MB; at most 0.05 MB are taken here$"):
        answer(voice, song.read_bytes(), "my.wav", Limits(megabytes=0.05))
    (tmp_path / "fake.mp3").write_bytes(b"no music at all" * 50)
    for source in (tmp_path / "fake.mp3", (tmp_path / "fake.mp3").read_bytes()):
        with pytest.raises(UserError, match=r"^fake.mp3: .*convert it to WAV or FLAC"):
            answer(voice, source, "fake.mp3", Limits())
    soundfile.write(tmp_path / "blip.wav", np.zeros(80), 8000)
    with pytest.raises(UserError, match=r"^blip.wav: lasts 0.01"):
        answer(voice, (tmp_path / "blip.wav").read_bytes(), "blip.wav", Limits())
    with pytest.raises(UserError, match="max_minutes=0 must exceed 0"):
        Limits(minutes=0)


def test_a_model_is_shown_with_its_own_held_out_score(finished):
    folder, report = finished
    (name, voice), *others = open_voices([str(folder), str(folder)], "cpu").items()
    assert name == "ast" and not others  # named twice, loaded once
    assert voice.tested.startswith(f"Held-out accuracy {report['test']['track']['accuracy']:.3f} [")
    assert "of 10 tracks of synthetic corpus, artist split." in voice.tested
    leaking = json.loads(json.dumps(report))
    leaking["leakage"]["train/test"]["group"]["items"] = 6
    assert held_out(leaking).endswith("; 6 of them share their artist with training.")
    assert held_out(None) == held_out({"folds": []}) == ""
    with pytest.raises(UserError, match="no model is named; pass --model"):
        open_voices([], "cpu")


# What it holds


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """Its timers never ring by themselves."""
    timers = []
    monkeypatch.setattr("hf_musiclf.app.uploads._later", lambda seconds, ring, *args: timers.append((ring, args)))
    (tmp_path / "in").mkdir()
    found = Uploads(tmp_path / "in", most=2)
    found.timers = timers
    return found


def drop(uploads, content=b"music", folder="hash"):
    path = uploads.folder / folder / "song.wav"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".part").write_bytes(content)
    return path.with_suffix(".part").replace(path)


def ring(uploads):
    while uploads.timers:
        function, args = uploads.timers.pop(0)
        function(*args)


def test_an_upload_is_held_in_memory_and_leaves_the_disk_and_then_the_memory(uploads):
    path = drop(uploads)
    token = uploads.take(path)
    assert uploads.get(token) == ("song.wav", b"music") and path.is_file()  # for the player in the page
    ring(uploads)
    assert not list(uploads.folder.iterdir())
    with pytest.raises(UserError, match="no longer held; drop it again"):
        uploads.get(token)
    with pytest.raises(UserError, match=r"song.wav is no longer here; drop it again"):
        uploads.take(path)


def test_the_same_music_dropped_again_is_not_deleted_by_the_first_drop(uploads):
    first = uploads.take(drop(uploads))
    path = drop(uploads)
    ring(uploads)
    assert path.is_file()
    second = uploads.take(path)
    assert uploads.get(second) == ("song.wav", b"music") and first != second
    ring(uploads)
    assert not path.exists()


def test_nothing_outside_the_uploads_is_deleted_and_the_oldest_is_forgotten_first(uploads, tmp_path):
    (tmp_path / "own.wav").write_bytes(b"mine")
    tokens = [uploads.take(tmp_path / "own.wav"), uploads.hold("b", b"b"), uploads.hold("c", b"c")]
    assert list(uploads.held) == tokens[1:]
    ring(uploads)
    assert (tmp_path / "own.wav").read_bytes() == b"mine" and not uploads.held


# How it is served


def test_without_gradio_one_line_says_what_to_install(monkeypatch, tmp_path):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r'^gradio is missing, which the page needs; pip install "\.\[app\]"$'):
        serving.import_gradio(tmp_path / "in")


def test_a_space_takes_its_models_from_the_environment(script, monkeypatch):
    asked = []
    monkeypatch.setattr("hf_musiclf.app.serve", lambda *args: asked.append(args))
    monkeypatch.setenv("HF_MUSICLF_MODEL", "me/one, me/two,")
    script.main(["--device", "cpu"])
    script.main(["--model", "runs/a", "--model", "runs/b", "--max_minutes", "3", "--port", "8000", "--device", "cpu"])
    assert asked[0] == (["me/one", "me/two"], Limits(15, 100), None, None, None, "cpu", False)
    assert asked[1] == (["runs/a", "runs/b"], Limits(3, 100), None, None, 8000, "cpu", False)


def test_a_device_that_is_not_here_is_told(script):
    with pytest.raises(UserError, match="device=abacus is not here; pass cpu"):
        script.main(["--model", "runs/a", "--device", "abacus"])


def test_examples_are_copies_of_the_first_clips_of_a_folder(tmp_path, song, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "to").mkdir()
    with pytest.raises(UserError, match=r"examples=.*mine holds no \.wav, "):
        serving.copied_clips(tmp_path / "mine", tmp_path / "to")
    for number in range(9):
        shutil.copy(song, tmp_path / "mine" / f"{number}.wav")
    (tmp_path / "mine" / "diary.txt").write_text("private")
    clips = serving.copied_clips(tmp_path / "mine", tmp_path / "to")
    assert [path.name for path in clips] == sorted(os.listdir(tmp_path / "to")) == [f"{n}.wav" for n in range(8)]
    assert "holds 9 clips; the first 8 are shown" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"examples=.*nowhere is no folder"):
        serving.copied_clips(tmp_path / "nowhere", tmp_path / "to")


@pytest.fixture
def gradio():
    return pytest.importorskip("gradio", reason="gradio is not installed")


def broken(source, read=None):
    raise RuntimeError("out of memory")


def test_a_defect_is_a_message_in_the_page_and_a_traceback_in_the_log(gradio, tmp_path, song, capsys):
    from hf_musiclf.app.page import _hearing

    uploads = Uploads(tmp_path)
    hear = _hearing(gradio, {"m": Voice("m", broken, "")}, Limits(), uploads)
    message, scores, *_ = hear(uploads.hold("my.wav", song.read_bytes()), "m", lambda *args, **kwargs: None)
    assert "my.wav could not be heard: RuntimeError" in message and 'role="alert"' in message
    assert not scores["visible"] and not uploads.held
    assert "out of memory" in capsys.readouterr().err


def test_the_page_hears_one_track_at_a_time_and_is_no_api(gradio, classify, tmp_path):
    from hf_musiclf.app.page import build_page

    page = build_page({"m": Voice("m", classify, "")}, [tmp_path / "a.wav"], "Examples:", Limits(), Uploads(tmp_path))
    waiting = [function for function in page.fns.values() if function.queue and function.fn]
    assert waiting and {function.concurrency_limit for function in waiting} == {"default"}
    assert page._queue.default_concurrency_limit == 1
    assert not page.get_api_info()["named_endpoints"] and not page.get_api_info()["unnamed_endpoints"]
    assert not page.analytics_enabled


def test_a_port_that_is_taken_is_told(gradio, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, gradio.Blocks() as page:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port}: the page cannot be served there .*another --host or --port"):
            serving.launch(gradio, page, tmp_path, Limits(), None, port)


# In a real browser


@pytest.fixture(scope="module", autouse=True)
def process(finished, tmp_path_factory):
    """The real script, which starts while other tests run; None where something that it takes is missing.

    Two models: `ast`, and `turned`, whose labels are those of `ast` moved on by one.
    """
    if why_no_browser():
        yield None
        return
    folder = tmp_path_factory.mktemp("app")
    shutil.copytree(finished[0], folder / "turned", ignore=shutil.ignore_patterns("checkpoint-*", "report*"))
    config = json.loads((folder / "turned" / "config.json").read_text())
    labels = [config["id2label"][str(index)] for index in range(10)]
    config["id2label"] = {index: labels[index - 1] for index in range(10)}
    config["label2id"] = {label: index for index, label in config["id2label"].items()}
    (folder / "turned" / "config.json").write_text(json.dumps(config))
    (folder / "tmp").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    models = [f"--model={finished[0]}", f"--model={folder / 'turned'}"]
    limits = ["--max_minutes=0.1", "--max_megabytes=1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "scripts" / "app.py", *models, *limits, f"--port={port}", "--device=cpu"],
            env={**os.environ, "TMPDIR": str(folder / "tmp")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    process.folder, process.url = folder, f"http://127.0.0.1:{port}/"
    yield process
    process.kill()
    process.wait()


def why_no_browser():
    """What is missing; empty where nothing is."""
    missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
    return ", ".join(missing + ([] if CHROMIUM else ["chromium"]))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium whose microphone beeps."""
    if why_no_browser():
        pytest.skip(f"not installed: {why_no_browser()}")
    from playwright.sync_api import sync_playwright

    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *fake])


@pytest.fixture(scope="module")
def server(browser, process):
    """The script, once it serves."""
    log = process.folder / "log"
    wait(lambda: process.url in log.read_text() or process.poll() is not None, 120)
    assert process.poll() is None, log.read_text()
    return process


@pytest.fixture
def page(browser, server):
    context = browser.new_context(permissions=["microphone"], viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(server.url)
    page.wait_for_selector("input[type=file]", state="attached")
    yield page
    context.close()


def wait(until, seconds):
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.1)
    assert until()


def told(page, text):
    """The message of the page, once it holds this text."""
    page.locator("#message p", has_text=text).wait_for()
    return page.inner_text("#message")


def shown(page):
    """The label in large letters."""
    return page.inner_text("#label h2").strip()


def test_a_dropped_file_is_scored_as_the_classifier_scores_it(page, server, classify, song, tmp_path):
    page.set_input_files("input[type=file]", song)
    expected = classify(song)
    assert f"heard in {expected.n_windows} windows by ast" in told(page, song.name)
    assert shown(page) == expected.top(1)[0][0]
    page.get_by_role("button", name="All probabilities").click()
    page.wait_for_selector(".probabilities td")
    found = [row.all_inner_texts()[0].split() for row in page.locator(".probabilities tbody tr").all()]
    assert [(label, float(value)) for label, value, _ in found] == [(k, round(v, 3)) for k, v in expected.top(10)]
    assert "Held-out accuracy" in page.inner_text("body")
    picture = page.locator("#timeline img")
    assert picture.evaluate("image => image.naturalWidth") > 500
    assert picture.get_attribute("alt").startswith(f"Mel spectrogram of {song.name}")
    # As wide as the phone: only the picture scrolls sideways.
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.screenshot(path=tmp_path / "page.png", full_page=True)
    page.get_by_label("turned").check()
    told(page, "by turned")
    index = classify.labels.index(expected.top(1)[0][0])
    assert shown(page) == classify.labels[index - 1]
    assert page.asked and all(url.startswith((server.url, "data:", "blob:")) for url in page.asked)


def test_an_example_and_the_microphone_are_heard(page, server):
    page.get_by_role("button", name="synthetic metal").click()
    told(page, "synthetic metal.wav lasts 0:20; at most 0.1 min")  # the limits hold for all
    page.get_by_role("button", name="Clear").click()
    told(page, "Drop a file")
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop").first.click()
    assert re.search(r"audio.wav: 0:0[12] heard in \d windows? by ast", told(page, "heard in"))
    assert shown(page) in page.inner_text("#scores")


def test_what_cannot_be_heard_is_told_without_a_traceback(page, server, song, tmp_path):
    (tmp_path / "fake.mp3").write_bytes(b"no music at all" * 50)
    soundfile.write(tmp_path / "long.ogg", np.zeros(8000 * 8), 8000)
    soundfile.write(tmp_path / "large.wav", np.zeros(8000 * 70), 8000)
    page.set_input_files("input[type=file]", tmp_path / "fake.mp3")
    told(page, "fake.mp3: ")
    assert page.locator("#message [role=alert]").count() == 1 and not page.locator("#scores").is_visible()
    page.get_by_role("button", name="Clear").click()
    page.set_input_files("input[type=file]", tmp_path / "long.ogg")
    told(page, "long.ogg lasts 0:08; at most 0.1 min are heard here")
    page.get_by_role("button", name="Clear").click()
    told(page, "Drop a file")
    page.set_input_files("input[type=file]", tmp_path / "large.wav")
    page.get_by_text("exceed the maximum allowed size").wait_for()
    assert "Traceback" not in page.content() and "Traceback" not in (server.folder / "log").read_text()


def test_nothing_is_left_of_an_upload_nor_of_the_server(page, server, song):
    def left():
        return [path.name for path in (server.folder / "tmp").rglob("uploads/**/*") if path.is_file()]

    page.set_input_files("input[type=file]", song)
    told(page, "by ast")
    wait(lambda: song.name not in left(), 8)
    assert set(left()) <= {"synthetic metal.wav"}  # our own clip, as the player has it
    page.get_by_role("button", name="Play", exact=True).click()  # the player needs the file no more
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    assert not list((server.folder / "tmp").iterdir())
    assert "Traceback" not in (server.folder / "log").read_text()
