"""Recipes that fine-tune audio models into music classifiers, and evaluate them honestly."""

__version__ = "0.1.0"
