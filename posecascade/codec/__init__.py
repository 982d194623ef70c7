"""Convert keypoints to maps and back: training targets (keras.ops), decoders and score calibration (NumPy)."""
