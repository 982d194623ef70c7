/** Crops as posecascade/images.py makes them with OpenCV 5: averaged blocks, then a bilinear warp, gray outside. */

import { after, transformed, inverse, shrinkTransform, scaleOf, type Affine } from "./geometry";

const { fround } = Math;
const GRAY = 127; // outside the image
const SHRINK_LIMIT = 64;

/** Bytes row by row, `channels` per pixel; the first three are red, green and blue. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  readonly channels: 3 | 4;
}

/**
 * Return the square of `size` x `size` pixels, RGB, that `transform` takes from the image.
 *
 * If it has at least twice that size in the image, a copy shrunk by a power of two is cropped. Only the part that the
 * crop shows is read.
 */
export function crop(image: Pixels, transform: Affine, size: number): Uint8Array {
  let factor = 1;
  while (factor < SHRINK_LIMIT && 1 / scaleOf(transform) >= 2 * factor) factor *= 2;
  const back = inverse(transform);
  const ends = [transformed(back, [0, 0]), transformed(back, [size - 1, size - 1])];
  // Two blocks more than the corners, for the bilinear weights; from a multiple of the factor, so that the blocks are
  // those of the complete image.
  const [left, right] = part(ends[0][0], ends[1][0], factor, image.width);
  const [top, bottom] = part(ends[0][1], ends[1][1], factor, image.height);
  if (right <= left || bottom <= top) return new Uint8Array(3 * size * size).fill(GRAY);
  const small = shrunk(image, left, top, right, bottom, factor);
  const toPicture = after([1, 0, left, 0, 1, top], inverse(shrinkTransform(factor)));
  return warp(small, after(transform, toPicture), size);
}

function part(low: number, high: number, factor: number, limit: number): [number, number] {
  const first = Math.max(Math.floor(low / factor) - 2, 0) * factor;
  return [first, Math.min((Math.ceil(high / factor) + 3) * factor, limit)];
}

/** Shrink a part of the image; both sides are rounded up, and the last pixels repeat to complete blocks. */
export function shrunk(image: Pixels, left: number, top: number, right: number, bottom: number,
                       factor: number): Pixels {
  const width = Math.ceil((right - left) / factor);
  const height = Math.ceil((bottom - top) / factor);
  const data = new Uint8Array(3 * width * height);
  const { channels } = image;
  const sums = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      sums.fill(0);
      for (let v = 0; v < factor; v++) {
        const row = Math.min(top + y * factor + v, bottom - 1) * image.width;
        for (let u = 0; u < factor; u++) {
          const at = channels * (row + Math.min(left + x * factor + u, right - 1));
          for (let c = 0; c < 3; c++) sums[c] += image.data[at + c];
        }
      }
      // OpenCV rounds halves up in blocks of two.
      const mean = (sum: number) => (factor === 2 ? (sum + 2) >> 2 : rounded(sum / (factor * factor)));
      for (let c = 0; c < 3; c++) data[3 * (y * width + x) + c] = mean(sums[c]);
    }
  }
  return { data, width, height, channels: 3 };
}

/**
 * Transform the image into `size` x `size` pixels, RGB, bilinearly.
 *
 * In 32 bits, as OpenCV computes: one gray level in one pixel can change a crop of the search.
 */
export function warp(image: Pixels, transform: Affine, size: number): Uint8Array {
  const back = inverse(transform).map(fround);
  const { data, width, height, channels } = image;
  const value = (column: number, row: number, c: number) =>
    column >= 0 && column < width && row >= 0 && row < height ? data[channels * (row * width + column) + c] : GRAY;
  const out = new Uint8Array(3 * size * size);
  for (let y = 0, at = 0; y < size; y++) {
    const [rowU, rowV] = [fround(fround(back[1] * y) + back[2]), fround(fround(back[4] * y) + back[5])];
    for (let x = 0; x < size; x++, at += 3) {
      const u = fround(back[0] * x + rowU); // rounded once, as by a fused multiply-add
      const v = fround(back[3] * x + rowV);
      const left = Math.floor(u);
      const top = Math.floor(v);
      const right = fround(u - left);
      const down = fround(v - top);
      for (let c = 0; c < 3; c++) {
        const upper = between(value(left, top, c), value(left + 1, top, c), right);
        const lower = between(value(left, top + 1, c), value(left + 1, top + 1, c), right);
        out[at + c] = rounded(between(upper, lower, down));
      }
    }
  }
  return out;
}

function between(low: number, high: number, part: number): number {
  return fround(low + part * fround(high - low));
}

/** Round to the nearest integer, ties to the even one, as OpenCV does. */
function rounded(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}
