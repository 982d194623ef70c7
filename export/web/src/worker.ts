/** The worker: runs the model, so that the page stays responsive. */

import { calibrated } from "./calibration";
import { readModelFile, type ModelFile } from "./metadata";
import type { TimedPrediction, Ready, Reply, Request } from "./messages";
import { compiled, hasGpu, type Device, type Network } from "./network";
import type { Pixels } from "./pixels";
import { FOLLOWED, predictCrop, search } from "./predictor";
import { firstLine, UserError } from "./errors";

let current: { file: ModelFile; network: Network } | null = null;
let canvas: OffscreenCanvas | null = null;

async function load(bytes: ArrayBuffer, name: string, device: Device): Promise<Ready> {
  const file = await readModelFile(new Uint8Array(bytes), name);
  if (file.kind !== "heatmaps") {
    throw new UserError(`${name}: gives no maps, which this page shows; give the file of the same export whose name ` +
                        "begins with heatmaps");
  }
  if (!file.decoder.length) {
    throw new UserError(`${name}: holds no decoder (exported before 2026-12); export the model again`);
  }
  const network = await compiled(file, device); // if this fails, the previous model stays
  current?.network.delete();
  current = { file, network };
  const { metadata, precision, source, license } = file;
  const followed = calibrated(metadata.calibration, FOLLOWED);
  return { ...metadata, precision, source, license, followed, device, gpu: await hasGpu() };
}

async function predict(image: ImageBitmap, box: Parameters<typeof predictCrop>[3] | null): Promise<TimedPrediction> {
  const pixels = pixelsOf(image);
  if (!current) throw new UserError("there is no model; drop a .tflite file that posecascade-export wrote");
  const { network, file } = current;
  const started = performance.now();
  const prediction = box ? await predictCrop(network.run, file.metadata, pixels, box)
                         : await search(network.run, file.metadata, pixels);
  return { ...prediction, milliseconds: performance.now() - started };
}

/** Return the image's bytes, transparency over white; the image is closed. */
function pixelsOf(image: ImageBitmap): Pixels {
  const { width, height } = image;
  if (canvas?.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true })!;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  image.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

async function answered(request: Request): Promise<Reply> {
  const { number } = request;
  try {
    const value = request.kind === "load" ? await load(request.bytes, request.name, request.device)
                                          : await predict(request.image, request.box);
    return { number, value };
  } catch (error) {
    return error instanceof UserError ? { number, userError: error.message }
                                      : { number, failure: firstLine(error) };
  }
}

// One call after the other: a model can run one at a time.
let last: Promise<void> = Promise.resolve();
self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  last = last.then(async () => self.postMessage(await answered(data)));
});
