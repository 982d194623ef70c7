/** The One-Euro filter (Casiez, Roussel and Vogel 2012), as posecascade/smoothing.py has it. */

import type { Point } from "./geometry";

const LEAST_CUTOFF = 1.0; // Hz, of a joint at rest
const CUTOFF_GROWTH = 10.0; // Hz more per body length a second
const SPEED_CUTOFF = 1.0; // Hz, of the speed itself

/** What the filter knows after a frame: the smoothed joints, and their speed in pixels a second. */
export interface Smoothed {
  readonly points: Point[];
  readonly speed: Point[];
}

/**
 * The filter's next state; its `points` are the answer for this frame.
 *
 * `last` is the state after the frame before, null for the first frame, which is left as it is; `seconds` have passed
 * since; `size` of the person in pixels, since speed counts in body lengths.
 */
export function oneEuro(last: Smoothed | null, points: readonly Point[], seconds: number, size: number): Smoothed {
  if (!last) return { points: [...points], speed: points.map(() => [0, 0] as const) };
  const slow = weight(SPEED_CUTOFF, seconds);
  const speed = points.map(([x, y], k): Point => {
    const [before, known] = [last.points[k], last.speed[k]];
    return [known[0] + slow * ((x - before[0]) / seconds - known[0]),
            known[1] + slow * ((y - before[1]) / seconds - known[1])];
  });
  const smooth = points.map(([x, y], k): Point => {
    const now = weight(LEAST_CUTOFF + CUTOFF_GROWTH * Math.hypot(...speed[k]) / size, seconds);
    const before = last.points[k];
    return [before[0] + now * (x - before[0]), before[1] + now * (y - before[1])];
  });
  return { points: smooth, speed };
}

/** Of the new value, in the low-pass filter of first order with this cutoff in Hz. */
function weight(cutoff: number, seconds: number): number {
  return 1 / (1 + 1 / (2 * Math.PI * cutoff * seconds));
}
