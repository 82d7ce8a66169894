"""Faces with a known answer: recognizers trained on them, and whether maps find it."""
