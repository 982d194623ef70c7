"""People, things and backgrounds painted with NumPy and OpenCV: synthetic data, and occluders for augmentation."""
