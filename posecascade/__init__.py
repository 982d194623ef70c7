"""posecascade: part detection, then heatmap regression: 2D human pose estimation in Keras."""
