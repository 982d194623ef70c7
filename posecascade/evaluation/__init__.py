"""Evaluation: metrics of predicted against labeled keypoints, reports, readers of prediction files."""
