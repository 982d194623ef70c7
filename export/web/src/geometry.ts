/**
 * Boxes and affine transforms, as in posecascade/geometry.py.
 *
 * A point is (x, y); the center of the top left pixel is (0, 0). A box is tight around the person; its crop is a square
 * of CROP_PADDING times the longer side around the same center.
 */

export const CROP_PADDING = 1.25;

export type Point = readonly [x: number, y: number];

/** Left, top, width, height in pixels of the image. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

/** p -> A p + t, row by row: [a, b, tx, c, d, ty]. */
export type Affine = readonly [number, number, number, number, number, number];

/** Return the side of the box's square crop in pixels of the image. */
export function cropSide(box: Box): number {
  return CROP_PADDING * Math.max(box.w, box.h);
}

/** Return the transform from pixels of the image to those of the crop of `size` x `size`. */
export function cropTransform(box: Box, size: number): Affine {
  const scale = size / cropSide(box);
  const middle = (size - 1) / 2;
  return [scale, 0, middle - scale * (box.x + box.w / 2), 0, scale, middle - scale * (box.y + box.h / 2)];
}

/** Transform a point. */
export function transformed(map: Affine, [x, y]: Point): Point {
  return [map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5]];
}

/** Invert a transform whose linear part is regular. */
export function inverse([a, b, tx, c, d, ty]: Affine): Affine {
  const det = a * d - b * c;
  return [d / det, -b / det, (b * ty - d * tx) / det, -c / det, a / det, (c * tx - a * ty) / det];
}

/** Compose two transforms: `second` after `first`. */
export function after(second: Affine, first: Affine): Affine {
  const [tx, ty] = transformed(second, [first[2], first[5]]);
  return [second[0] * first[0] + second[1] * first[3], second[0] * first[1] + second[1] * first[4], tx,
          second[3] * first[0] + second[4] * first[3], second[3] * first[1] + second[4] * first[4], ty];
}

/** Return by how much a transform enlarges lengths. */
export function scaleOf(map: Affine): number {
  return Math.sqrt(Math.abs(map[0] * map[4] - map[1] * map[3]));
}

/** Return the transform from an image's pixels to those of its copy shrunk `factor` times by averaging blocks. */
export function shrinkTransform(factor: number): Affine {
  const shift = -(factor - 1) / 2 / factor;
  return [1 / factor, 0, shift, 0, 1 / factor, shift];
}

/** Return the tight box of one point or more, at least `least` pixels wide and high. */
export function boxAround(keypoints: readonly Point[], least: number): Box {
  const [left, right] = range(keypoints.map(([x]) => x));
  const [top, bottom] = range(keypoints.map(([, y]) => y));
  const w = Math.max(right - left, least);
  const h = Math.max(bottom - top, least);
  return { x: (left + right) / 2 - w / 2, y: (top + bottom) / 2 - h / 2, w, h };
}

function range(values: number[]): [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

/** Return the area of the intersection over that of the union. */
export function iou(a: Box, b: Box): number {
  const width = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
  const both = Math.max(width, 0) * Math.max(height, 0);
  return both / (a.w * a.h + b.w * b.h - both);
}
