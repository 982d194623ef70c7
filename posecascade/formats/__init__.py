"""Trained models on disk: read, checked and run, whatever their format; writing TFLite exports is in `export`."""
