"""Makes docs/poses.jpg, the first image of the README: poses of `base` on photographs and on rendered people.

    python docs/make_pictures.py

The photographs are scikit-image's (the `demo` extra): astronaut, by NASA, public domain; camera, by Lav Varshney, CC0.
The people next to them are rendered by this package. Look at the result before you commit it.
"""

from pathlib import Path

import cv2
import numpy as np
from skimage import data

import posecascade
from posecascade import datasets, drawing

HEIGHT = 320        # px: of every image
GAP = 4             # px between two images
MIN_SCORE = 0.25    # keypoints with a lower score are not drawn, as posecascade-predict does
QUALITY = 85        # of the JPEG file
RENDERED = "synthetic:60@3"
CHOSEN = (31, 51, 30)  # of the rendered people


def photographs() -> list[np.ndarray]:
    """Return the images, (H, W, 3) uint8 RGB."""
    people = datasets.read(RENDERED, "test")
    return [data.astronaut(), cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB),
            *(people[number].image.read() for number in CHOSEN)]


def scaled(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the image at a height of HEIGHT, and the factor of its scale."""
    factor = HEIGHT / image.shape[0]
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (round(image.shape[1] * factor), HEIGHT), interpolation=interpolation), factor


def main() -> None:
    """Write the file next to this script."""
    predict = posecascade.load("base", flip_test=True)
    tiles = []
    for image in photographs():
        pose = predict.predict(image)
        background, factor = scaled(image)
        keypoints = np.where(pose.scores[:, None] >= MIN_SCORE, (pose.keypoints + 0.5) * factor - 0.5, np.nan)
        tiles += [drawing.draw_pose(background, keypoints, pose.schema, visibility=pose.visibility),
                  np.full((HEIGHT, GAP, 3), 255, np.uint8)]
    file = Path(__file__).with_name("poses.jpg")
    cv2.imwrite(str(file), np.hstack(tiles[:-1])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(f"wrote {file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
