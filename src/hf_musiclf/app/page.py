"""The page as Gradio lays it out: what stands where, and what happens when."""

import html
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_musiclf.app.answers import Answer, Limits, answer, paragraph
from hf_musiclf.app.uploads import Uploads
from hf_musiclf.app.voices import Voice
from hf_musiclf.errors import UserError

if TYPE_CHECKING:
    from gradio import Blocks

TITLE = "Music classification"
INVITATION = "Drop a file, record, or choose an example: what the model says of it appears here."
LABELS_WITH_BARS = 5  # the table lists all
# How often Gradio looks for files of its own, and how old they get: what no event took, and the player's examples.
CACHE_SECONDS = (60, 600)
WAITING = 20  # requests in the queue; more are told to come back

CSS = """
.gradio-container .html-container { padding: 0; }
.told { margin: 0; overflow-wrap: anywhere; }
.told.wrong { padding: .6rem .8rem; border-radius: .4rem; background: #fff4d6; color: #1c1e21; }
#message { min-height: 4.5rem; }
#message [data-testid="status-tracker"]:not(.hide) { background: var(--background-fill-primary); opacity: 1; }
#clips { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; }
.wide { overflow-x: auto; background: #fff; border-radius: .4rem; }
.wide img { display: block; width: 100%; min-width: 44rem; height: auto; }
.probabilities { max-height: 24rem; overflow: auto; }
.gradio-container .probabilities :is(table, tr) { border: 0; }
.probabilities table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.gradio-container .probabilities :is(th, td) { padding: .2rem .6rem .2rem 0; text-align: left; font-weight: 400;
  border: 0; border-bottom: 1px solid var(--border-color-primary); }
.probabilities thead th { font-weight: 600; }
"""
# On a phone the answer stands below the fold.
SHOW_ANSWER = "() => { if (innerWidth < 700) document.getElementById('message').scrollIntoView(); }"


def build_page(
    voices: Mapping[str, Voice], clips: Sequence[Path], about_clips: str, limits: Limits, uploads: Uploads
) -> "Blocks":
    """The page, with a queue in which one track is heard at a time.

    voices: by name; the first one is chosen. clips: audio files to try, a button each. about_clips: what they are.
    """
    import gradio

    names = list(voices)
    taken = f"mp3, wav, flac or ogg, up to {limits.minutes:g} min and {limits.megabytes:g} MB. Nothing is kept."
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=CACHE_SECONDS) as page:
        gradio.HTML(f"<h1>{TITLE}</h1>")
        with gradio.Row():
            with gradio.Column(min_width=320):
                chosen = gradio.Radio(names, value=names[0], label="Model", visible=len(names) > 1)
                about = gradio.HTML(about_model(voices[names[0]]))
                audio = gradio.Audio(
                    sources=["upload", "microphone"], type="filepath", label="Music", editable=False, buttons=[]
                )
                gradio.HTML(f"<p>{taken}</p>")
                buttons = _clip_buttons(gradio, clips, about_clips)
            with gradio.Column(min_width=320):
                message = gradio.HTML(paragraph(INVITATION), elem_id="message")
                with gradio.Column(visible=False, elem_id="scores") as scores:
                    label = gradio.Label(num_top_classes=LABELS_WITH_BARS, label="Whole track", elem_id="label")
                    with gradio.Accordion("All probabilities", open=False):
                        table = gradio.HTML(elem_classes="probabilities")
        timeline = gradio.HTML(visible=False, elem_id="timeline")
        held = gradio.State(None)  # the token of the track

        shown = [message, scores, label, table, timeline]
        hear = _hearing(gradio, voices, limits, uploads)
        at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        queued = {"show_progress_on": message, "api_visibility": "private"}
        dropped = gradio.on([audio.upload, audio.stop_recording], _taking(uploads), audio, held, **at_once)
        dropped.then(hear, [held, chosen], shown, **queued).then(None, js=SHOW_ANSWER)
        for button, clip in zip(buttons, clips, strict=True):
            picked = button.click(_picking(uploads, clip), None, [audio, held], **at_once)
            picked.then(hear, [held, chosen], shown, **queued).then(None, js=SHOW_ANSWER)
        chosen.change(lambda name: about_model(voices[name]), chosen, about, **at_once)
        chosen.change(hear, [held, chosen], shown, **queued)
        audio.clear(_clearing(gradio, uploads), held, [held, *shown], **at_once)
    return page.queue(default_concurrency_limit=1, max_size=WAITING)


def about_model(voice: Voice) -> str:
    """The name of a model, its labels, and what its own report says of it."""
    knows = f"{voice.name} tells {len(voice.labels)} labels apart: {', '.join(voice.labels[:20])}"
    knows += ", ..." if len(voice.labels) > 20 else "."
    return "".join(f"<p>{html.escape(line)}</p>" for line in (knows, voice.tested) if line)


def _clip_buttons(gradio, clips: Sequence[Path], about_clips: str) -> list:
    if not clips:
        return []
    gradio.HTML(f"<p>{about_clips}</p>")
    with gradio.Row(elem_id="clips"):
        return [gradio.Button(clip.stem, size="sm", min_width=120) for clip in clips]


def _taking(uploads: Uploads) -> Callable:
    """What takes an upload out of its file at once, before it waits in the queue."""

    def take(upload):
        try:
            return uploads.take(upload) if upload else None
        except UserError:
            return "gone"  # which is told where it is asked for

    return take


def _picking(uploads: Uploads, clip: Path) -> Callable:
    return lambda: (str(clip), uploads.hold(clip.name, clip.read_bytes()))


def _clearing(gradio, uploads: Uploads) -> Callable:
    def clear(token):
        uploads.forget(token)
        return [None, *_message(gradio, INVITATION)]

    return clear


def _hearing(gradio, voices: Mapping[str, Voice], limits: Limits, uploads: Uploads) -> Callable:
    """What hears the track of a token: the values of all outputs. No error leaves it."""

    def hear(token, model, progress=gradio.Progress()):  # noqa: B008 - Gradio looks for it here
        if token is None:  # another model is chosen, and there is no track yet
            return [gradio.skip()] * 5
        name = "the track"
        try:
            name, data = uploads.get(token)
            progress((0, None), desc="Listening", unit="s")
            return _all_of(gradio, answer(voices[model], data, name, limits, _told(progress)))
        except UserError as error:
            return _message(gradio, str(error), is_error=True)
        except Exception as error:  # a defect of ours: its traceback belongs into the log of the server
            traceback.print_exc(file=sys.stderr)
            told = f"{name} could not be heard: {type(error).__name__}, of which the server's log tells more"
            return _message(gradio, told, is_error=True)
        finally:
            if len(voices) == 1:  # no other model will be asked
                uploads.forget(token)

    return hear


def _told(progress) -> Callable:
    return lambda heard, seconds: progress((round(heard), round(seconds)), desc="Listening", unit="s")


def _all_of(gradio, found: Answer) -> list:
    show = gradio.update(visible=True)
    return [found.facts, show, found.probabilities, found.table, gradio.update(value=found.timeline, visible=True)]


def _message(gradio, text: str, is_error: bool = False) -> list:
    hide = gradio.update(visible=False)
    return [paragraph(text, is_error), hide, None, "", gradio.update(value="", visible=False)]
