"""Recognizers: embeddings of frames, and the activations and gradients of their layers."""
