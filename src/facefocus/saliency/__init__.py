"""Saliency maps: what a gradient explains, maps of a pair, and maps of an identity."""
