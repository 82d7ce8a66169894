"""One person's photographs in; what to hide, and the proof, out. An application."""
