/** Poses, and their lines of predictions.jsonl as posecascade/poses_io.py writes them. */

import type { Box, Point } from "./geometry";

const PIXEL_DIGITS = 3;
const SCORE_DIGITS = 4;

/** One person; K keypoints in the order of the model's schema. */
export interface Pose {
  /** Pixels of the image. */
  readonly keypoints: readonly Point[];
  /** 0..1, after the model's calibration. */
  readonly scores: readonly number[];
  /** 0..1: the detector's map at the keypoint; the map's peak if the model has no detector. */
  readonly visibility: readonly number[];
  /** The box that was cropped. */
  readonly box: Box;
}

/** {"image", "box", "keypoints": {NAME: [x, y, score, visibility]}} as one line of JSON. */
export function answer(image: string, pose: Pose, names: readonly string[]): string {
  const { x, y, w, h } = pose.box;
  const keypoints = names.map((name, k) => [name, [
    ...pose.keypoints[k].map((value) => rounded(value, PIXEL_DIGITS)),
    rounded(pose.scores[k], SCORE_DIGITS), rounded(pose.visibility[k], SCORE_DIGITS)]]);
  return JSON.stringify({ image, box: [x, y, w, h].map((value) => rounded(value, PIXEL_DIGITS)),
                          keypoints: Object.fromEntries(keypoints) });
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
