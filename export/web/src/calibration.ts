/**
 * The model's score calibration (Platt 1999), for the search's limits: the decoder has calibrated the scores already.
 */

const EDGE = 1e-4; // scores are clipped to EDGE..1 - EDGE

/** sigmoid(slope x logit(score) + offset); [1, 0] leaves scores as they are. */
export type Calibration = readonly [slope: number, offset: number];

/** Return the calibrated score of a score in 0..1. */
export function calibrated([slope, offset]: Calibration, score: number): number {
  if (slope === 1 && offset === 0) return score;
  const inside = Math.min(Math.max(score, EDGE), 1 - EDGE);
  return 1 / (1 + Math.exp(-(slope * (Math.log(inside) - Math.log1p(-inside)) + offset)));
}
