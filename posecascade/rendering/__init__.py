"""Paint people, objects and backgrounds with NumPy and OpenCV, for synthetic data and as occluders in augmentation."""
