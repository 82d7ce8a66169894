"""What a task of each stage computes."""
