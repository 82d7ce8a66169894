"""Where face sets come from: one file for each kind of source."""
