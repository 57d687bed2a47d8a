"""The page in the browser: drop a file or record, and see what saved models say of it."""

from hf_musiclf.app.answers import Answer, Limits, answer
from hf_musiclf.app.serving import serve
from hf_musiclf.app.voices import Voice, open_voices

__all__ = ["Answer", "Limits", "Voice", "answer", "open_voices", "serve"]
