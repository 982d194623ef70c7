/** Pictures to poses, as posecascade/predictor.py finds them: a person looked for, or followed. */

import { calibrated } from "./calibration";
import { DECODERS, valueAt, type Maps } from "./codec";
import {
  boxRound, carried, CROP_PADDING, cropTransform, inverse, overlap, type Affine, type Box, type Point,
} from "./geometry";
import type { Metadata } from "./metadata";
import { crop, type Pixels } from "./pixels";
import type { Pose } from "./poses";

const CONFIDENT = 0.3; // a score, before the curve, from which a joint counts when a person is looked for
const LEAST_CONFIDENT = 3; // joints that a new crop needs
const LEAST_SIDE = 0.05; // of the picture's longer side: no new crop is smaller
const UNSURE = 0.4; // mean score of the look at the whole picture below which its parts are looked at too
const PARTS = 3; // squares along the longer side
const ROUNDS = 2; // crops after that
const WORSE = 0.8; // of the mean score before: a new crop with less is dropped
const SETTLED = 0.9; // intersection over union of two boxes that count as the same
const GRID = 32; // a new crop's edges lie on a grid of its longer side by this
/** Score, before the curve, from which a joint counts for the next frame's box (posecascade/video.py). */
export const FOLLOWED = 0.15;

/** A model's maps by name, "parts" and "heatmaps" as far as it has them; the last is the result. */
export type Outputs = Readonly<Partial<Record<"parts" | "heatmaps", Maps>>>;

/** A crop (S, S, 3) RGB to the model's maps. */
export type Run = (crop: Uint8Array) => Promise<Outputs>;

/** A pose with what the network saw and said. */
export interface Look {
  readonly pose: Pose;
  readonly maps: Outputs;
  /** (S, S, 3) RGB. */
  readonly crop: Uint8Array;
  /** From pixels of the picture to those of the crop. */
  readonly transform: Affine;
}

/** The pose in the box, in pixels of the picture. */
export async function look(run: Run, metadata: Metadata, picture: Pixels, box: Box): Promise<Look> {
  const transform = cropTransform(box, metadata.inputSize);
  const square = crop(picture, transform, metadata.inputSize);
  const maps = await run(square);
  const result = maps.heatmaps ?? maps.parts!;
  const { points, peaks } = DECODERS[metadata.decoder](result, metadata.stride);
  const inside = peaks.map(unit);
  const visibility = maps.parts ? valueAt(maps.parts, points, metadata.stride).map(unit) : inside;
  const back = inverse(transform);
  const pose = { points: points.map((point) => carried(back, point)),
                 scores: inside.map((peak) => calibrated(metadata.calibration, peak)), visibility, box };
  return { pose, maps, crop: square, transform };
}

/**
 * The pose of a person who is looked for: in the whole picture and, where that is unsure, in its parts; then in the
 * box of the confident joints, until it settles. A look that is worse is dropped.
 */
export async function search(run: Run, metadata: Metadata, picture: Pixels): Promise<Look> {
  const { width, height } = picture;
  const least = calibrated(metadata.calibration, CONFIDENT);
  let found = await look(run, metadata, picture, boxIn(-0.5, -0.5, width, height));
  if (mean(found.pose.scores) < calibrated(metadata.calibration, UNSURE)) {
    for (const box of partBoxes(width, height)) {
      const part = await look(run, metadata, picture, box);
      if (mean(part.pose.scores) > mean(found.pose.scores)) found = part;
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    const box = confidentBox(found.pose, width, height, least);
    if (!box) break;
    const again = await look(run, metadata, picture, box);
    if (!(mean(again.pose.scores) >= WORSE * mean(found.pose.scores))) break;
    found = again;
  }
  return found;
}

/** The box whose crop is the square round these pixels. */
export function boxIn(x: number, y: number, width: number, height: number): Box {
  const side = Math.ceil(Math.max(width, height) / CROP_PADDING);
  return { x: x + (width - side) / 2, y: y + (height - side) / 2, w: side, h: side };
}

/** Those of PARTS squares of the shorter side along the longer one; none of a square. */
export function partBoxes(width: number, height: number): Box[] {
  if (width === height) return [];
  const shorter = Math.min(width, height);
  return Array.from({ length: PARTS }, (_, part) => boxIn(
    ((width - shorter) * part) / (PARTS - 1) - 0.5, ((height - shorter) * part) / (PARTS - 1) - 0.5, shorter, shorter));
}

/**
 * The box of the joints with a score of `least` or more; null where they are few, or where it was just that box.
 *
 * Its edges lie on a grid of a power of two pixels, the next outwards, so that all runtimes take the same crop.
 */
export function confidentBox(pose: Pose, width: number, height: number, least: number): Box | null {
  const confident = pose.points.filter((_, k) => pose.scores[k] >= least);
  if (confident.length < Math.min(LEAST_CONFIDENT, pose.points.length)) return null;
  const tight = boxRound(confident, leastSide(width, height));
  const step = 2 ** Math.floor(Math.log2(Math.max(tight.w, tight.h) / GRID));
  const [x, y] = [Math.floor(tight.x / step) * step, Math.floor(tight.y / step) * step];
  const box = { x, y, w: Math.ceil((tight.x + tight.w) / step) * step - x,
                h: Math.ceil((tight.y + tight.h) / step) * step - y };
  return overlap(box, pose.box) >= SETTLED ? null : box;
}

/** Where to look in the next frame: round the joints with a score of `least` or more; null where the person is lost. */
export function nextBox(pose: Pose, width: number, height: number, least: number): Box | null {
  const sure = pose.points.filter((_, k) => pose.scores[k] >= least);
  if (sure.length < Math.min(LEAST_CONFIDENT, pose.points.length)) return null;
  return boxRound(sure, leastSide(width, height));
}

function leastSide(width: number, height: number): number {
  return Math.max(1, LEAST_SIDE * Math.max(width, height));
}

function unit(value: number): number {
  return Math.min(Math.max(value, 0), 1);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The pose carried from a shrunk picture's pixels to those of the picture itself. */
export function enlarged(pose: Pose, toPicture: Affine): Pose {
  const scale = toPicture[0];
  const [x, y] = carried(toPicture, [pose.box.x, pose.box.y]);
  return { ...pose, points: pose.points.map((point): Point => carried(toPicture, point)),
           box: { x, y, w: pose.box.w * scale, h: pose.box.h * scale } };
}
