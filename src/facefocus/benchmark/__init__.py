"""The main job: an experiment, its tasks by stage, their execution, the result table."""
