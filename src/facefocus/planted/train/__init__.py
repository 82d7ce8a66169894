"""Recognizers trained on drawn faces."""
