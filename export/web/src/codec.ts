/**
 * Maps to joints, as posecascade/codec.py decodes them: four decoders, and the value of a map at a point.
 *
 * Points are (x, y) in pixels of the crop; the centre of cell u at stride s lies at s * u + (s - 1) / 2.
 */

import type { Point } from "./geometry";

const SOFT_WINDOW = 2.0; // cells: sigma of the window in `soft`
const SOFT_REACH = 6; // cells: where it ends
const SOFT_ROUNDS = 12;
const SOFT_STEP = 1.5; // cells: the furthest it goes from the highest cell per axis
const LEAST_TOTAL = 1e-12;
const QUARTER = 0.25; // cells
const DARK_SIGMA = 1.0; // cells
const LEAST_LOGARITHM = 1e-10;
const LEAST_DETERMINANT = 1e-9;
const DARK_STEP = 1.0; // cells

/** One map per joint: cell (x, y) of joint k is data[(y * width + x) * joints + k]. */
export interface Maps {
  readonly data: Float32Array;
  readonly width: number;
  readonly height: number;
  readonly joints: number;
}

/** Joints in pixels of the crop, and the highest value of each one's map. */
export interface Decoded {
  readonly points: Point[];
  readonly peaks: number[];
}

type Step = (maps: Maps, joint: number, x: number, y: number) => Point;

/** Names as in a model's metadata. */
export const DECODERS: Readonly<Record<string, (maps: Maps, stride: number) => Decoded>> = {
  argmax: decoder(() => [0, 0]),
  quarter: decoder(quarter),
  dark: decoder(dark),
  soft: decoder(soft),
};

/** The map read bilinearly at one point for each joint; points outside read the nearest edge cell. */
export function valueAt(maps: Maps, points: readonly Point[], stride: number): number[] {
  return points.map((point, joint) => {
    const [x, y] = [clipped((point[0] - (stride - 1) / 2) / stride, 0, maps.width - 1),
                    clipped((point[1] - (stride - 1) / 2) / stride, 0, maps.height - 1)];
    const [left, top] = [Math.min(Math.floor(x), Math.max(maps.width - 2, 0)),
                         Math.min(Math.floor(y), Math.max(maps.height - 2, 0))];
    const [right, down] = [x - left, y - top];
    const upper = at(maps, joint, left, top) * (1 - right) + at(maps, joint, left + 1, top) * right;
    const lower = at(maps, joint, left, top + 1) * (1 - right) + at(maps, joint, left + 1, top + 1) * right;
    return upper * (1 - down) + lower * down;
  });
}

/** Each joint at its map's highest cell (the first of several), moved by `step` in cells. */
function decoder(step: Step) {
  return (maps: Maps, stride: number): Decoded => {
    const points: Point[] = [];
    const peaks: number[] = [];
    for (let joint = 0; joint < maps.joints; joint++) {
      let best = joint;
      for (let i = joint; i < maps.data.length; i += maps.joints) if (maps.data[i] > maps.data[best]) best = i;
      const cell = (best - joint) / maps.joints;
      const [x, y] = [cell % maps.width, Math.floor(cell / maps.width)];
      const [dx, dy] = step(maps, joint, x, y);
      points.push([(x + dx) * stride + (stride - 1) / 2, (y + dy) * stride + (stride - 1) / 2]);
      peaks.push(maps.data[best]);
    }
    return { points, peaks };
  };
}

/** A quarter of a cell towards the higher neighbour on each axis (Newell et al. 2016). */
function quarter(maps: Maps, joint: number, x: number, y: number): Point {
  const across = at(maps, joint, x + 1, y) - at(maps, joint, x - 1, y);
  const along = at(maps, joint, x, y + 1) - at(maps, joint, x, y - 1);
  return between(maps, x, y, [QUARTER * Math.sign(across), QUARTER * Math.sign(along)]);
}

/** One Newton step on the logarithm of the smoothed map (Zhang et al. 2020, "DARK"). */
function dark(maps: Maps, joint: number, x: number, y: number): Point {
  const side = Math.exp(-0.5 / DARK_SIGMA ** 2);
  const taps = [side, 1, side].map((tap) => tap / (1 + 2 * side));
  const log = (right: number, down: number) => {
    let sum = 0;
    for (let v = -1; v <= 1; v++) {
      for (let u = -1; u <= 1; u++) sum += taps[v + 1] * taps[u + 1] * at(maps, joint, x + right + u, y + down + v);
    }
    return Math.log(Math.max(sum, LEAST_LOGARITHM));
  };
  const here = log(0, 0);
  const [east, west, south, north] = [log(1, 0), log(-1, 0), log(0, 1), log(0, -1)];
  const [dx, dy] = [(east - west) / 2, (south - north) / 2];
  const [dxx, dyy] = [east - 2 * here + west, south - 2 * here + north];
  const dxy = (log(1, 1) - log(-1, 1) - log(1, -1) + log(-1, -1)) / 4;
  const determinant = dxx * dyy - dxy * dxy;
  if (!(determinant > LEAST_DETERMINANT && dxx < 0)) return [0, 0];
  return between(maps, x, y, [clipped((dxy * dy - dyy * dx) / determinant, -DARK_STEP, DARK_STEP),
                              clipped((dxy * dx - dxx * dy) / determinant, -DARK_STEP, DARK_STEP)]);
}

/**
 * The mean place under the squared map times a Gaussian window, re-centred until it rests.
 *
 * Near an edge only those cells count whose mirror image about the highest cell is on the map too.
 */
function soft(maps: Maps, joint: number, x: number, y: number): Point {
  const reachX = Math.min(SOFT_REACH, x, maps.width - 1 - x);
  const reachY = Math.min(SOFT_REACH, y, maps.height - 1 - y);
  let [dx, dy] = [0, 0];
  for (let round = 0; round < SOFT_ROUNDS; round++) {
    let [total, sumX, sumY] = [0, 0, 0];
    for (let v = -reachY; v <= reachY; v++) {
      const weightY = Math.exp(-0.5 * ((v - dy) / SOFT_WINDOW) ** 2);
      for (let u = -reachX; u <= reachX; u++) {
        const value = Math.max(at(maps, joint, x + u, y + v), 0);
        const weight = value * value * weightY * Math.exp(-0.5 * ((u - dx) / SOFT_WINDOW) ** 2);
        total += weight;
        sumX += weight * u;
        sumY += weight * v;
      }
    }
    dx = clipped(sumX / Math.max(total, LEAST_TOTAL), -SOFT_STEP, SOFT_STEP);
    dy = clipped(sumY / Math.max(total, LEAST_TOTAL), -SOFT_STEP, SOFT_STEP);
  }
  return [dx, dy];
}

/** The step, but none along an axis where the cell lies at the map's edge. */
function between(maps: Maps, x: number, y: number, [dx, dy]: Point): Point {
  return [x > 0 && x < maps.width - 1 ? dx : 0, y > 0 && y < maps.height - 1 ? dy : 0];
}

/** Edge values repeat beyond the map. */
function at(maps: Maps, joint: number, x: number, y: number): number {
  const [column, row] = [clipped(x, 0, maps.width - 1), clipped(y, 0, maps.height - 1)];
  return maps.data[(row * maps.width + column) * maps.joints + joint];
}

function clipped(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
