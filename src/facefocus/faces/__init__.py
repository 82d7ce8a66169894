"""Photographs to aligned crops of known people."""
