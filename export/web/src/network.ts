/** LiteRT.js with one model and its decoder: a crop in, maps and keypoints out. Runs in the worker. */

import { isWebGPUSupported, loadAndCompile, loadLiteRt, Tensor, type CompiledModel } from "@litertjs/core";
import { firstLine, UserError } from "./errors";
import type { Point } from "./geometry";
import { gunzipped } from "./gunzip";
import type { ModelFile } from "./metadata";

/** What a model can run on: WebAssembly, or WebGPU. */
export type Device = "wasm" | "webgpu";

/** One map per keypoint: cell (x, y) of keypoint k is data[(y * width + x) * keypoints + k]. */
export interface Maps {
  readonly data: Float32Array;
  readonly width: number;
  readonly height: number;
  readonly keypoints: number;
}

/** A model's maps by name, as far as it has them. */
export type MapsByName = Readonly<Partial<Record<"parts" | "heatmaps", Maps>>>;

/** What a model finds in a crop. */
export interface Output {
  readonly maps: MapsByName;
  /** Pixels of the crop; the center of its first pixel is (0, 0). */
  readonly keypoints: readonly Point[];
  /** 0..1, after the model's calibration. */
  readonly scores: readonly number[];
  /** 0..1: the detector's map at the keypoint; the map's peak if the model has no detector. */
  readonly visibility: readonly number[];
}

/** A crop (S, S, 3) RGB to what the model finds in it. */
export type Run = (crop: Uint8Array) => Promise<Output>;

/** A model that is ready to run. */
export interface Network {
  readonly run: Run;
  /** The largest difference between the GPU's maps and the CPU's on one crop; 0 on the CPU. */
  readonly distance: number;
  readonly delete: () => void;
}

interface MapsModel {
  readonly run: (crop: Uint8Array) => Promise<MapsByName>;
  readonly delete: () => void;
}

interface Decoder {
  readonly run: (maps: MapsByName) => Promise<Omit<Output, "maps">>;
  readonly delete: () => void;
}

const MAX_GPU_DISTANCE = 0.05; // of maps in 0..1: with a larger one the GPU's driver is wrong
const NAMES = ["parts", "heatmaps"] as const;

interface Hooks {
  instantiateWasm: (imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance) => void) => void;
  print: () => void;
  printErr: () => void;
}

let started: Promise<unknown> | null = null;

/** Load LiteRT's WebAssembly. */
function start(): Promise<unknown> {
  const hooks: Hooks = {
    instantiateWasm: (imports, done) => {
      instantiated(imports).then(done, (error) => failed(error));
    },
    print: () => {}, // LiteRT's log
    printErr: () => {},
  };
  let failed: (error: unknown) => void = () => {};
  const failure = new Promise<never>((_, reject) => (failed = reject));
  (globalThis as unknown as { Module: Hooks }).Module = hooks;
  return Promise.race([loadLiteRt(new URL("litert.js", self.location.href).href), failure]);
}

async function instantiated(imports: WebAssembly.Imports): Promise<WebAssembly.Instance> {
  const packed = await fetch(new URL("litert.wasm.gz", self.location.href));
  if (!packed.ok) throw new Error(`HTTP status ${packed.status}`);
  const wasm = new Response(await gunzipped(packed), { headers: { "Content-Type": "application/wasm" } });
  return (await WebAssembly.instantiateStreaming(wasm, imports)).instance;
}

/** Compile a model and its decoder; throws UserError if the browser or the device cannot run them. */
export async function compiled(file: ModelFile, device: Device): Promise<Network> {
  try {
    await (started ??= start());
  } catch (error) {
    started = null; // the next load tries again
    throw new UserError(`the runtime did not load (${firstLine(error)}); reload the page, or use a newer browser`);
  }
  const decoder = await decoderOf(file);
  let model: MapsModel | null = null;
  let distance = 0;
  try {
    model = await mapsModel(file.model, device);
    if (device !== "wasm") distance = await distanceToCpu(model, file);
  } catch (error) {
    decoder.delete();
    model?.delete();
    throw error;
  }
  const { run } = model;
  return {
    run: async (crop) => {
      const maps = await run(crop);
      return { maps, ...(await decoder.run(maps)) };
    },
    distance,
    delete: () => {
      model.delete();
      decoder.delete();
    },
  };
}

async function mapsModel(bytes: Uint8Array<ArrayBuffer>, device: Device): Promise<MapsModel> {
  let model: CompiledModel;
  try {
    model = await loadAndCompile(bytes, { accelerator: device, gpuOptions: { precision: "fp32" } });
  } catch (error) {
    throw new UserError(device === "wasm"
      ? `the model cannot be run in a browser (${firstLine(error)}); give another file of the export`
      : `the GPU cannot run this model (${firstLine(error)}); choose the CPU`);
  }
  const [input] = model.getInputDetails();
  const run = async (crop: Uint8Array): Promise<MapsByName> => {
    const values = input.dtype === "uint8" ? Uint8Array.from(crop) : Float32Array.from(crop);
    const answer = await runWith(model, { [input.name]: new Tensor(values, [...input.shape]) });
    const maps: Partial<Record<"parts" | "heatmaps", Maps>> = {};
    for (const name of NAMES) if (answer[name]) maps[name] = await mapsOf(answer[name]);
    return maps;
  };
  return { run, delete: () => model.delete() };
}

/** The file's decoder, compiled for the CPU: it takes a fraction of a millisecond. */
async function decoderOf(file: ModelFile): Promise<Decoder> {
  let model: CompiledModel;
  try {
    model = await loadAndCompile(file.decoder, { accelerator: "wasm" });
  } catch (error) {
    throw new UserError(`the model's decoder cannot be run in a browser (${firstLine(error)}); export the model again`);
  }
  const run = async (maps: MapsByName) => {
    const inputs = model.getInputDetails().map(({ name, shape }) => {
      const { data } = maps[name as "parts" | "heatmaps"]!;
      return [name, new Tensor(data as Float32Array<ArrayBuffer>, [...shape])] as const;
    });
    const answer = await runWith(model, Object.fromEntries(inputs));
    const places = await valuesOf(answer.keypoints);
    const scores = [...await valuesOf(answer.scores)];
    const visibility = [...await valuesOf(answer.visibility)];
    return { keypoints: scores.map((_, k): Point => [places[2 * k], places[2 * k + 1]]), scores, visibility };
  };
  return { run, delete: () => model.delete() };
}

/** Run the model and delete its inputs. */
async function runWith(model: CompiledModel, inputs: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  try {
    return await model.run(inputs);
  } finally {
    for (const tensor of Object.values(inputs)) tensor.delete();
  }
}

/** The tensor's values as maps; the tensor is deleted. */
async function mapsOf(tensor: Tensor): Promise<Maps> {
  const [, height, width, keypoints] = tensor.type.layout.dimensions;
  return { data: await valuesOf(tensor), width, height, keypoints };
}

/** A finite copy of the tensor's values: a diverged model must not give NaN; the tensor is deleted. */
async function valuesOf(tensor: Tensor): Promise<Float32Array> {
  const here = await tensor.moveTo("wasm");
  const data = Float32Array.from(await here.data(), (v) => (Number.isFinite(v) ? v : v > 0 ? 1 : 0));
  here.delete();
  return data;
}

/** How far the GPU's maps are from the CPU's; throws UserError if they differ too much to be shown. */
async function distanceToCpu(gpu: MapsModel, file: ModelFile): Promise<number> {
  const size = file.metadata.inputSize;
  const crop = Uint8Array.from({ length: 3 * size * size }, (_, i) => (i * 7919) % 251);
  const cpu = await mapsModel(file.model, "wasm");
  let most = 0;
  try {
    const [one, other] = [await gpu.run(crop), await cpu.run(crop)];
    for (const name of NAMES) {
      one[name]?.data.forEach((value, i) => (most = Math.max(most, Math.abs(value - other[name]!.data[i]))));
    }
  } finally {
    cpu.delete();
  }
  if (most > MAX_GPU_DISTANCE) {
    throw new UserError(`the GPU's maps differ from the CPU's by ${most.toFixed(2)}; choose the CPU`);
  }
  return most;
}

/** Whether the browser offers a GPU. */
export async function hasGpu(): Promise<boolean> {
  if (!isWebGPUSupported()) return false;
  return (await navigator.gpu.requestAdapter()) !== null;
}
