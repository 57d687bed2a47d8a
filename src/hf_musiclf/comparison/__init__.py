"""Finished runs side by side on the tracks that all of them were tested on: figures, tables, pictures, one page."""
