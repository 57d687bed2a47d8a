"""Recipes that fine-tune audio models into music classifiers, and evaluate them honestly.

After `import hf_musiclf`, `transformers.pipeline("music-classification", model=...)` scores whole tracks.
"""

from hf_musiclf.registration import register_soon

__version__ = "0.1.0"

register_soon()
