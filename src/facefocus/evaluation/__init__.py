"""Scores: verification, retention under occlusion, statistics."""
