/** Images to poses, as posecascade's predictor does it: search for a person, or follow one. */

import { calibrated } from "./calibration";
import {
  boxAround, transformed, CROP_PADDING, cropTransform, inverse, iou, type Affine, type Box, type Point,
} from "./geometry";
import type { Metadata } from "./metadata";
import type { MapsByName, Run } from "./network";
import { crop, type Pixels } from "./pixels";
import type { Pose } from "./poses";

const CONFIDENT = 0.3; // least score, before calibration, of a keypoint that counts in the search
const MIN_CONFIDENT = 3; // confident keypoints that a new crop needs
const MIN_SIDE = 0.05; // least side of a new crop's box, as a share of the image's longer side
const UNSURE = 0.4; // mean score of the complete image below which its tiles are tried as well
const TILES = 3; // squares along the longer side
const ROUNDS = 2; // crops after that
const MIN_SCORE_RATIO = 0.8; // a new crop whose mean score is below this share of the previous one is dropped
const CONVERGED_IOU = 0.9; // two boxes with this intersection over union count as the same
const GRID = 32; // a new box's edges lie on a grid of about its longer side divided by this
/** Least score, before calibration, of a keypoint that counts for the next frame's box. */
export const FOLLOWED = 0.15;

/** A pose with the network's input and maps. */
export interface Prediction {
  readonly pose: Pose;
  readonly maps: MapsByName;
  /** (S, S, 3) RGB. */
  readonly crop: Uint8Array;
  /** From pixels of the image to those of the crop. */
  readonly transform: Affine;
}

/** Return the pose in the box, in pixels of the image. */
export async function predictCrop(run: Run, metadata: Metadata, image: Pixels, box: Box): Promise<Prediction> {
  const transform = cropTransform(box, metadata.inputSize);
  const square = crop(image, transform, metadata.inputSize);
  const { maps, keypoints, scores, visibility } = await run(square);
  const back = inverse(transform);
  const pose = { keypoints: keypoints.map((point) => transformed(back, point)), scores, visibility, box };
  return { pose, maps, crop: square, transform };
}

/**
 * Search for a person: in the complete image and, if the scores are low, in its tiles; then in the box of the confident
 * keypoints until it converges. A crop with a lower score is dropped.
 */
export async function search(run: Run, metadata: Metadata, image: Pixels): Promise<Prediction> {
  const { width, height } = image;
  const least = calibrated(metadata.calibration, CONFIDENT);
  let best = await predictCrop(run, metadata, image, boxIn(-0.5, -0.5, width, height));
  if (mean(best.pose.scores) < calibrated(metadata.calibration, UNSURE)) {
    for (const box of tileBoxes(width, height)) {
      const tile = await predictCrop(run, metadata, image, box);
      if (mean(tile.pose.scores) > mean(best.pose.scores)) best = tile;
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    const box = confidentBox(best.pose, width, height, least);
    if (!box) break;
    const again = await predictCrop(run, metadata, image, box);
    if (!(mean(again.pose.scores) >= MIN_SCORE_RATIO * mean(best.pose.scores))) break;
    best = again;
  }
  return best;
}

/** Return the box whose crop is the square around these pixels. */
export function boxIn(x: number, y: number, width: number, height: number): Box {
  const side = Math.ceil(Math.max(width, height) / CROP_PADDING);
  return { x: x + (width - side) / 2, y: y + (height - side) / 2, w: side, h: side };
}

/** Return TILES squares of the shorter side along the longer one; none for a square image. */
export function tileBoxes(width: number, height: number): Box[] {
  if (width === height) return [];
  const shorter = Math.min(width, height);
  return Array.from({ length: TILES }, (_, tile) => boxIn(
    ((width - shorter) * tile) / (TILES - 1) - 0.5, ((height - shorter) * tile) / (TILES - 1) - 0.5, shorter, shorter));
}

/**
 * Return the box of the keypoints with a score of `least` or more; null if they are few, or if the box hardly changed.
 *
 * Its edges are rounded outwards to a grid of a power of two pixels, so that all runtimes take the same crop.
 */
export function confidentBox(pose: Pose, width: number, height: number, least: number): Box | null {
  const confident = pose.keypoints.filter((_, k) => pose.scores[k] >= least);
  if (confident.length < Math.min(MIN_CONFIDENT, pose.keypoints.length)) return null;
  const tight = boxAround(confident, minSide(width, height));
  const step = 2 ** Math.floor(Math.log2(Math.max(tight.w, tight.h) / GRID));
  const [x, y] = [Math.floor(tight.x / step) * step, Math.floor(tight.y / step) * step];
  const box = { x, y, w: Math.ceil((tight.x + tight.w) / step) * step - x,
                h: Math.ceil((tight.y + tight.h) / step) * step - y };
  return iou(box, pose.box) >= CONVERGED_IOU ? null : box;
}

/** Return the next frame's box, around the keypoints with a score of `least` or more; null if the person is lost. */
export function nextBox(pose: Pose, width: number, height: number, least: number): Box | null {
  const confident = pose.keypoints.filter((_, k) => pose.scores[k] >= least);
  if (confident.length < Math.min(MIN_CONFIDENT, pose.keypoints.length)) return null;
  return boxAround(confident, minSide(width, height));
}

function minSide(width: number, height: number): number {
  return Math.max(1, MIN_SIDE * Math.max(width, height));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Transform a pose from a shrunk image's pixels to those of the image itself. */
export function enlarged(pose: Pose, toImage: Affine): Pose {
  const scale = toImage[0];
  const [x, y] = transformed(toImage, [pose.box.x, pose.box.y]);
  return { ...pose, keypoints: pose.keypoints.map((point): Point => transformed(toImage, point)),
           box: { x, y, w: pose.box.w * scale, h: pose.box.h * scale } };
}
