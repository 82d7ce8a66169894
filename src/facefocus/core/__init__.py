"""What every folder may use: errors, files, the store, registries, seeds."""
