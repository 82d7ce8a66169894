"""Masks of exactly k pixels and what is put in their place."""
