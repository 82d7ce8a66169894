"""Drawn faces: traits to shapes, shapes to pixels."""
