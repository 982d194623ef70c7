"""Trained models on disk: read, checked and run, in every format; `export` writes the TFLite files."""
