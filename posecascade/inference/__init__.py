"""Prediction: images and boxes to poses in the images' own pixels, the search for a person, videos."""
