"""hf-musiclf: recipes that fine-tune audio models into music classifiers."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "src/hf_musiclf/__init__.py").read_text(), re.MULTILINE)[1]

setup(
    name="hf-musiclf",
    version=VERSION,
    description="Fine-tune audio models into music classifiers with the Hugging Face stack, and evaluate them honestly",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # The card template lives at the repository's root, where people look for it, and installs as a package of ours.
    packages=[*find_packages("src"), "hf_musiclf.model_cards"],
    package_dir={"": "src", "hf_musiclf.model_cards": "model_cards"},
    package_data={"hf_musiclf.data": ["*.csv"], "hf_musiclf.model_cards": ["*.jinja"]},
    install_requires=[
        "torch>=2.8",
        "torchaudio>=2.8",
        "transformers>=5.17",
        "datasets>=4",
        "evaluate>=0.4.6",
        "accelerate>=1.10",
        "huggingface_hub>=1.33",
        "soundfile>=0.12.1",
        "soxr>=0.5",
        "audiomentations>=0.42",
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-learn>=1.4",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "pyyaml>=6",
        "psutil>=5.9",
        "tqdm>=4.66",
        "requests>=2.31",
        "filelock>=3.12",
    ],
    extras_require={
        # gradio for the tests of the page, which playwright opens in a Chromium of the system.
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.12", "librosa>=0.11", "gradio>=6", "playwright>=1.50"],
        "app": ["gradio>=6"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
