/** The worker: keeps the model, answers with poses, so that the page never waits. */

import { calibrated } from "./calibration";
import { unsealed, type Sealed } from "./metadata";
import type { Found, Ready, Reply, Request } from "./messages";
import { compiled, hasGpu, type Device, type Network } from "./network";
import type { Pixels } from "./pixels";
import { FOLLOWED, look, search } from "./predictor";
import { firstLine, Told } from "./told";

let current: { sealed: Sealed; network: Network } | null = null;
let canvas: OffscreenCanvas | null = null;

async function load(bytes: ArrayBuffer, name: string, device: Device): Promise<Ready> {
  const sealed = await unsealed(new Uint8Array(bytes), name);
  if (sealed.kind !== "heatmaps") {
    throw new Told(`${name}: gives joints alone, and this page shows maps; give the file of the same export whose ` +
                   "name begins with heatmaps");
  }
  const network = await compiled(sealed, device); // the one before stays where this fails
  current?.network.delete();
  current = { sealed, network };
  const { metadata, precision, source, license } = sealed;
  const followed = calibrated(metadata.calibration, FOLLOWED);
  return { ...metadata, precision, source, license, followed, device, gpu: await hasGpu() };
}

async function predict(picture: ImageBitmap, box: Parameters<typeof look>[3] | null): Promise<Found> {
  const pixels = pixelsOf(picture);
  if (!current) throw new Told("there is no model; drop a .tflite file that posecascade-export wrote");
  const { network, sealed } = current;
  const started = performance.now();
  const found = box ? await look(network.run, sealed.metadata, pixels, box)
                    : await search(network.run, sealed.metadata, pixels);
  return { ...found, milliseconds: performance.now() - started };
}

/** The picture's bytes, transparency laid on white; the picture is let go. */
function pixelsOf(picture: ImageBitmap): Pixels {
  const { width, height } = picture;
  if (canvas?.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true })!;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  picture.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

async function answered(request: Request): Promise<Reply> {
  const { number } = request;
  try {
    const value = request.kind === "load" ? await load(request.bytes, request.name, request.device)
                                          : await predict(request.picture, request.box);
    return { number, value };
  } catch (error) {
    return error instanceof Told ? { number, told: error.message } : { number, failed: firstLine(error) };
  }
}

// One after the other: a model serves one call at a time.
let last: Promise<void> = Promise.resolve();
self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  last = last.then(async () => self.postMessage(await answered(data)));
});
