"""Images and boxes to poses, in the images' own pixels; videos and the search for a person."""
