/** A crop darkened, with its maps over it: each joint's in a hue of its own, as posecascade/drawing.py draws them. */

import type { Maps } from "./codec";
import { ring, type Choice } from "./drawing";
import { carried } from "./geometry";
import type { Look } from "./predictor";

const DARKENED = 0.6;
const SATURATION = 200 / 255;
export const SIDE = 480; // of the canvas, pixels

/** Draw one stage's maps of a look; `choice.joint` null shows all joints' together. */
export function drawMaps(context: CanvasRenderingContext2D, look: Look, maps: Maps, choice: Choice): void {
  const size = Math.sqrt(look.crop.length / 3);
  context.canvas.width = context.canvas.height = SIDE;
  context.imageSmoothingQuality = "high";
  context.drawImage(painted(size, size, (i, pixel) => {
    for (let c = 0; c < 3; c++) pixel[c] = DARKENED * look.crop[3 * i + c];
    pixel[3] = 255;
  }), 0, 0, SIDE, SIDE);
  context.drawImage(overlay(maps, choice.joint), 0, 0, SIDE, SIDE);
  if (choice.joint === null || look.pose.scores[choice.joint] < choice.leastScore) return;
  const [x, y] = carried(look.transform, look.pose.points[choice.joint]);
  ring(context, [(x + 0.5) * SIDE / size, (y + 0.5) * SIDE / size], SIDE / 40);
}

/** One pixel a cell: the joints' hues mixed by their maps, as opaque as the highest of them. */
function overlay(maps: Maps, joint: number | null): OffscreenCanvas {
  const hues = Array.from({ length: maps.joints }, (_, k) => hueOf(k, maps.joints));
  return painted(maps.width, maps.height, (i, pixel) => {
    let [total, most] = [0, 0];
    const mixed = [0, 0, 0];
    for (let k = 0; k < maps.joints; k++) {
      if (joint !== null && k !== joint) continue;
      const value = Math.min(Math.max(maps.data[i * maps.joints + k], 0), 1);
      total += value;
      most = Math.max(most, value);
      for (let c = 0; c < 3; c++) mixed[c] += value * hues[k][c];
    }
    for (let c = 0; c < 3; c++) pixel[c] = mixed[c] / Math.max(total, 1e-6);
    pixel[3] = 255 * most;
  });
}

/** Red, green and blue of joint k's hue, 0..255. */
export function hueOf(k: number, joints: number): [number, number, number] {
  const channel = (offset: number) => {
    const at = (offset + (6 * k) / joints) % 6;
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
