/** Decodes image files. */

import { inverse, shrinkTransform, type Affine } from "./geometry";
import { UserError } from "./errors";

const MAX_PIXELS = 2 ** 24; // the canvas limit of phones; larger images are halved until they fit

/** An upright image; `toFile` maps its pixels to those of the file, which may be larger. */
export interface SourceImage {
  readonly bitmap: ImageBitmap;
  readonly name: string;
  readonly toFile: Affine;
}

/** Decode an image file; throws UserError if this browser cannot. */
export async function decoded(file: Blob, name: string): Promise<SourceImage> {
  // As posecascade reads images: turned by the EXIF tag, values as stored.
  const options: ImageBitmapOptions = { imageOrientation: "from-image", colorSpaceConversion: "none",
                                        premultiplyAlpha: "none" };
  try {
    const full = await createImageBitmap(file, options);
    const factor = factorFor(full.width, full.height);
    if (factor === 1) return { bitmap: full, name, toFile: shrinkTransform(1) };
    const bitmap = await createImageBitmap(full, {
      resizeWidth: Math.ceil(full.width / factor), resizeHeight: Math.ceil(full.height / factor),
      resizeQuality: "high" });
    full.close();
    return { bitmap, name, toFile: inverse(shrinkTransform(factor)) };
  } catch {
    throw new UserError(`${name}: cannot be decoded by this browser; save it as JPEG or PNG`);
  }
}

/** Return the divisor of an image's sides, 1, 2, 4, ..., with which it fits into a canvas. */
export function factorFor(width: number, height: number): number {
  let factor = 1;
  while (Math.ceil(width / factor) * Math.ceil(height / factor) > MAX_PIXELS) factor *= 2;
  return factor;
}
