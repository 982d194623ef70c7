/** The One-Euro filter (Casiez, Roussel and Vogel 2012), as in posecascade's smoothing.py. */

import type { Point } from "./geometry";

const MIN_CUTOFF = 1.0; // Hz, of a keypoint at rest
const CUTOFF_GROWTH = 10.0; // Hz more per body length a second
const SPEED_CUTOFF = 1.0; // Hz, of the speed itself

/** The filter's state after a frame: the smoothed keypoints, and their speed in pixels a second. */
export interface Smoothed {
  readonly keypoints: Point[];
  readonly speed: Point[];
}

/**
 * Return the filter's next state; its `keypoints` are the result for this frame.
 *
 * `last` is the state after the previous frame, null for the first frame, which is returned unchanged; `seconds` is the
 * time since then; `size` is the person's in pixels, since speeds are counted in body lengths.
 */
export function oneEuro(last: Smoothed | null, keypoints: readonly Point[], seconds: number, size: number): Smoothed {
  if (!last) return { keypoints: [...keypoints], speed: keypoints.map(() => [0, 0] as const) };
  const slow = weight(SPEED_CUTOFF, seconds);
  const speed = keypoints.map(([x, y], k): Point => {
    const [before, known] = [last.keypoints[k], last.speed[k]];
    return [known[0] + slow * ((x - before[0]) / seconds - known[0]),
            known[1] + slow * ((y - before[1]) / seconds - known[1])];
  });
  const smooth = keypoints.map(([x, y], k): Point => {
    const now = weight(MIN_CUTOFF + CUTOFF_GROWTH * Math.hypot(...speed[k]) / size, seconds);
    const before = last.keypoints[k];
    return [before[0] + now * (x - before[0]), before[1] + now * (y - before[1])];
  });
  return { keypoints: smooth, speed };
}

/** Return the weight of the new value in a first-order low-pass filter with this cutoff in Hz. */
function weight(cutoff: number, seconds: number): number {
  return 1 / (1 + 1 / (2 * Math.PI * cutoff * seconds));
}
