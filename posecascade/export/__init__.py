"""Export a trained model: a SavedModel, TFLite files and a certificate that compares them with the model."""
