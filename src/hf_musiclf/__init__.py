"""Recipes that fine-tune audio models into music classifiers, and evaluate them honestly.

After `import hf_musiclf`, `transformers.pipeline("music-classification", model=...)` scores whole tracks.
"""

import os

from hf_musiclf.registration import register_soon

__version__ = "0.1.0"

# Linux hands PyTorch memory in pages of 4 KiB, and for a batch of spectrograms that is most of what a CPU waits for:
# in pages of 2 MiB it trains up to 1.6 times as fast (benchmarks/huge_pages.py). PyTorch asks at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
register_soon()
