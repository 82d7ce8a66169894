"""The card of a recognizer: what it needs of a face, for an auditor."""
