"""One training run, from recipe and records to a trained model."""
