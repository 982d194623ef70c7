/** A picture file to what the page shows and the model sees. */

import { inverse, shrinkTransform, type Affine } from "./geometry";
import { Told } from "./told";

const MOST_PIXELS = 2 ** 24; // what a canvas may have on every phone; larger pictures are shrunk by two, repeatedly

/** A picture upright, and the way from its pixels to those of the file where it had to be shrunk. */
export interface Picture {
  readonly bitmap: ImageBitmap;
  readonly name: string;
  readonly toFile: Affine;
}

/** Throws Told where the file is no picture that this browser can decode. */
export async function decoded(file: Blob, name: string): Promise<Picture> {
  // As posecascade reads pictures: turned as the EXIF tag says, numbers as they are stored.
  const options: ImageBitmapOptions = { imageOrientation: "from-image", colorSpaceConversion: "none",
                                        premultiplyAlpha: "none" };
  try {
    const whole = await createImageBitmap(file, options);
    const factor = factorFor(whole.width, whole.height);
    if (factor === 1) return { bitmap: whole, name, toFile: shrinkTransform(1) };
    const bitmap = await createImageBitmap(whole, {
      resizeWidth: Math.ceil(whole.width / factor), resizeHeight: Math.ceil(whole.height / factor),
      resizeQuality: "high" });
    whole.close();
    return { bitmap, name, toFile: inverse(shrinkTransform(factor)) };
  } catch {
    throw new Told(`${name}: is no picture that this browser can show; save it as JPEG or PNG`);
  }
}

/** By how much a picture's sides are divided so that a canvas can have it: 1, 2, 4, ... */
export function factorFor(width: number, height: number): number {
  let factor = 1;
  while (Math.ceil(width / factor) * Math.ceil(height / factor) > MOST_PIXELS) factor *= 2;
  return factor;
}
