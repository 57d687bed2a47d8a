"""The page served from this machine: a folder that goes with it, no calls to anyone else, an end that cleans up."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import soundfile

from hf_musiclf.app.answers import MEGABYTE, Limits
from hf_musiclf.app.page import CSS, build_page
from hf_musiclf.app.uploads import Uploads
from hf_musiclf.app.voices import Voice, open_voices
from hf_musiclf.data.synthetic import GENRES, render_track
from hf_musiclf.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")  # that browsers play
MAX_CLIPS = 8
CLIP_SECONDS, CLIP_RATE = 20.0, 22_050
CLIP_ARTIST = 999  # not in the corpus that the demo trains on
OWN_CLIPS = "Examples:"
SYNTHETIC_CLIPS = "Examples, played by a program: a model trained on recordings may take them for something else."
SYSTEM_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
SYSTEM_MONO = ["ui-monospace", "Consolas", "monospace"]


def serve(
    models: Sequence[str],
    limits: Limits,
    examples: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> None:
    """Show the page until the process is told to stop; what it wrote is then gone.

    models: folders or Hub ids. examples: folder of clips; None: some of the synthetic corpus. host, port: None leaves
    them to Gradio and its variables GRADIO_SERVER_NAME and GRADIO_SERVER_PORT: this machine alone, the first free port
    from 7860 on. Raises UserError for what cannot be loaded or served.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes then, too
    with tempfile.TemporaryDirectory(prefix="hf_musiclf_app_") as name:
        folder, uploads = Path(name), Path(name) / "uploads"
        gradio = import_gradio(uploads)
        voices = open_voices(models, device, trust_remote_code)
        (folder / "examples").mkdir()
        clips = copied_clips(examples, folder / "examples") if examples else write_clips(voices, folder / "examples")
        about_clips = OWN_CLIPS if examples else SYNTHETIC_CLIPS
        page = build_page(voices, clips, about_clips, limits, Uploads(uploads))
        try:
            launch(gradio, page, folder, limits, host, port)
            print(f"serving {', '.join(voices)} at {page.local_url} (Ctrl+C stops)", flush=True)
            page.block_thread()
        finally:
            page.close(verbose=False)


def import_gradio(uploads: Path):
    """Gradio, which is not to call home and writes uploads into `uploads`. Raises UserError where it is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is missing, which the page needs; pip install ".[app]"') from error
    uploads.mkdir(parents=True, exist_ok=True)
    return gradio


def launch(gradio, page, folder: Path, limits: Limits, host: str | None, port: int | None) -> None:
    """Start serving and return. Raises UserError where host and port cannot be had."""
    # Fonts of the system: the page fetches nothing from elsewhere.
    theme = gradio.themes.Default(primary_hue="blue", font=SYSTEM_FONTS, font_mono=SYSTEM_MONO)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            theme=theme,
            css=CSS,
            max_file_size=int(limits.megabytes * MEGABYTE),
            allowed_paths=[str(folder / "examples")],
            footer_links=[],
            run_history=False,  # which would keep a list in the browser
            pwa=False,
            ssr_mode=False,
            enable_monitoring=False,
        )
    except OSError as error:
        where = f"host={host or 'default'}, port={port or 'default'}"
        raise UserError(f"{where}: the page cannot be served there ({error}); pass another --host or --port") from error


def write_clips(voices: dict[str, Voice], folder: Path) -> list[Path]:
    """Some short synthetic music, of genres that the models know where they know any."""
    known = {label for voice in voices.values() for label in voice.labels}
    genres = [genre for genre in ("classical", "hiphop", "metal", "reggae") if genre in known or not known & {*GENRES}]
    clips = []
    for genre in genres:
        clips.append(folder / f"synthetic {genre}.wav")
        soundfile.write(clips[-1], render_track(genre, CLIP_ARTIST, 0, CLIP_SECONDS, CLIP_RATE), CLIP_RATE)
    return clips


def copied_clips(examples: Path, folder: Path) -> list[Path]:
    """The first clips of a folder, copied, so that nothing else of it can be asked for. Raises UserError for none."""
    if not examples.is_dir():
        raise UserError(f"examples={examples} is no folder; name one that holds audio files")
    found = [path for path in sorted(examples.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES]
    if not found:
        raise UserError(f"examples={examples} holds no {', '.join(AUDIO_SUFFIXES)} file; name a folder that does")
    if len(found) > MAX_CLIPS:
        print(f"examples={examples} holds {len(found)} clips; the first {MAX_CLIPS} are shown", flush=True)
    return [Path(shutil.copy(path, folder)) for path in found[:MAX_CLIPS]]
