"""How well predicted keypoints match labeled ones: metrics, reports, and prediction files that others wrote."""
