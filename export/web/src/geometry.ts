/**
 * Boxes and affine maps, as posecascade/geometry.py has them.
 *
 * A point is (x, y), the centre of the top left pixel is (0, 0). A box is tight round the person; its crop is a square
 * of CROP_PADDING times the longer side round the middle.
 */

export const CROP_PADDING = 1.25;

export type Point = readonly [x: number, y: number];

/** Left, top, width, height in pixels of the picture. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

/** p -> A p + t, row by row: [a, b, tx, c, d, ty]. */
export type Affine = readonly [number, number, number, number, number, number];

/** Side of the box's square crop, pixels of the picture. */
export function sideOf(box: Box): number {
  return CROP_PADDING * Math.max(box.w, box.h);
}

/** From pixels of the picture to those of the crop of `size` x `size`. */
export function cropTransform(box: Box, size: number): Affine {
  const scale = size / sideOf(box);
  const middle = (size - 1) / 2;
  return [scale, 0, middle - scale * (box.x + box.w / 2), 0, scale, middle - scale * (box.y + box.h / 2)];
}

/** The point carried over. */
export function carried(map: Affine, [x, y]: Point): Point {
  return [map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5]];
}

/** The way back; the linear part must be regular. */
export function inverse([a, b, tx, c, d, ty]: Affine): Affine {
  const det = a * d - b * c;
  return [d / det, -b / det, (b * ty - d * tx) / det, -c / det, a / det, (c * tx - a * ty) / det];
}

/** `second` applied to what `first` gives. */
export function after(second: Affine, first: Affine): Affine {
  const [tx, ty] = carried(second, [first[2], first[5]]);
  return [second[0] * first[0] + second[1] * first[3], second[0] * first[1] + second[1] * first[4], tx,
          second[3] * first[0] + second[4] * first[3], second[3] * first[1] + second[4] * first[4], ty];
}

/** Length after over length before. */
export function zoomOf(map: Affine): number {
  return Math.sqrt(Math.abs(map[0] * map[4] - map[1] * map[3]));
}

/** From pixels of a picture to those of its copy shrunk `factor` times, blocks of pixels averaged. */
export function shrinkTransform(factor: number): Affine {
  const shift = -(factor - 1) / 2 / factor;
  return [1 / factor, 0, shift, 0, 1 / factor, shift];
}

/** The tight box of one point or more, at least `least` pixels wide and high about its centre. */
export function boxRound(points: readonly Point[], least: number): Box {
  const [left, right] = range(points.map(([x]) => x));
  const [top, bottom] = range(points.map(([, y]) => y));
  const w = Math.max(right - left, least);
  const h = Math.max(bottom - top, least);
  return { x: (left + right) / 2 - w / 2, y: (top + bottom) / 2 - h / 2, w, h };
}

function range(values: number[]): [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

/** Area of the intersection over that of the union. */
export function overlap(a: Box, b: Box): number {
  const width = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
  const both = Math.max(width, 0) * Math.max(height, 0);
  return both / (a.w * a.h + b.w * b.h - both);
}
