"""The published benchmark: its tables, their layout, its questions, its stages as a study."""
