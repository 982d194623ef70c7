/** Draws maps over the darkened crop, one hue per keypoint, as posecascade/drawing.py does. */

import type { Maps } from "./network";
import { ring, type Choice } from "./drawing";
import { transformed } from "./geometry";
import type { Prediction } from "./predictor";

const DARKENED = 0.6;
const SATURATION = 200 / 255;
export const SIDE = 480; // of the canvas, pixels

/** Draw one stage's maps of a crop; `choice.keypoint` null shows those of all keypoints together. */
export function drawMaps(context: CanvasRenderingContext2D, prediction: Prediction, maps: Maps, choice: Choice): void {
  const size = Math.sqrt(prediction.crop.length / 3);
  context.canvas.width = context.canvas.height = SIDE;
  context.imageSmoothingQuality = "high";
  context.drawImage(painted(size, size, (i, pixel) => {
    for (let c = 0; c < 3; c++) pixel[c] = DARKENED * prediction.crop[3 * i + c];
    pixel[3] = 255;
  }), 0, 0, SIDE, SIDE);
  context.drawImage(overlay(maps, choice.keypoint), 0, 0, SIDE, SIDE);
  if (choice.keypoint === null || prediction.pose.scores[choice.keypoint] < choice.minScore) return;
  const [x, y] = transformed(prediction.transform, prediction.pose.keypoints[choice.keypoint]);
  ring(context, [(x + 0.5) * SIDE / size, (y + 0.5) * SIDE / size], SIDE / 40);
}

/** Draw one pixel per cell: the keypoints' hues weighted by their maps, as opaque as the highest of them. */
function overlay(maps: Maps, keypoint: number | null): OffscreenCanvas {
  const hues = Array.from({ length: maps.keypoints }, (_, k) => hueOf(k, maps.keypoints));
  return painted(maps.width, maps.height, (i, pixel) => {
    let [total, most] = [0, 0];
    const mixed = [0, 0, 0];
    for (let k = 0; k < maps.keypoints; k++) {
      if (keypoint !== null && k !== keypoint) continue;
      const value = Math.min(Math.max(maps.data[i * maps.keypoints + k], 0), 1);
      total += value;
      most = Math.max(most, value);
      for (let c = 0; c < 3; c++) mixed[c] += value * hues[k][c];
    }
    for (let c = 0; c < 3; c++) pixel[c] = mixed[c] / Math.max(total, 1e-6);
    pixel[3] = 255 * most;
  });
}

/** Return red, green and blue of keypoint k's hue, 0..255. */
export function hueOf(k: number, keypoints: number): [number, number, number] {
  const channel = (offset: number) => {
    const at = (offset + (6 * k) / keypoints) % 6;
    return 255 * (1 - SATURATION * Math.max(0, Math.min(at, 4 - at, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

function painted(width: number, height: number, paint: (i: number, pixel: Uint8ClampedArray) => void): OffscreenCanvas {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) paint(i, image.data.subarray(4 * i, 4 * i + 4));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")!.putImageData(image, 0, 0);
  return canvas;
}
