/** The curve from a map's peak to a score, as posecascade/calibration.py has it (Platt 1999). */

const EDGE = 1e-4; // peaks count as at least this, and at most 1 less this

/** sigmoid(slope x logit(score) + offset); [1, 0] leaves scores as they are. */
export type Calibration = readonly [slope: number, offset: number];

/** The probability of a score in 0..1. */
export function calibrated([slope, offset]: Calibration, score: number): number {
  if (slope === 1 && offset === 0) return score;
  const inside = Math.min(Math.max(score, EDGE), 1 - EDGE);
  return 1 / (1 + Math.exp(-(slope * (Math.log(inside) - Math.log1p(-inside)) + offset)));
}
