/** LiteRT.js with one model: a crop in, maps out. Runs in the worker. */

import { isWebGPUSupported, loadAndCompile, loadLiteRt, Tensor, type CompiledModel } from "@litertjs/core";
import type { Maps } from "./codec";
import type { Sealed } from "./metadata";
import type { Outputs, Run } from "./predictor";
import { firstLine, Told } from "./told";
import { unpacked } from "./unpack";

/** What a model can run on: WebAssembly, or WebGPU. */
export type Device = "wasm" | "webgpu";

/** A model that is ready, and how to let it go. */
export interface Network {
  readonly run: Run;
  /** The largest difference that a GPU's maps have from the CPU's on one crop; 0 on the CPU. */
  readonly distance: number;
  readonly delete: () => void;
}

const GPU_DISTANCE = 0.05; // of maps in 0..1: beyond it a GPU's driver computes something else
const OUTPUTS = ["parts", "heatmaps"] as const;

interface Hooks {
  instantiateWasm: (imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance) => void) => void;
  print: () => void;
  printErr: () => void;
}

let started: Promise<unknown> | null = null;

/**
 * LiteRT's WebAssembly, once.
 *
 * A load that fails may be tried again.
 */
function start(): Promise<unknown> {
  const hooks: Hooks = {
    instantiateWasm: (imports, done) => {
      instantiated(imports).then(done, (error) => failed(error));
    },
    print: () => {}, // LiteRT's account of itself
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
  const wasm = new Response(await unpacked(packed), { headers: { "Content-Type": "application/wasm" } });
  return (await WebAssembly.instantiateStreaming(wasm, imports)).instance;
}

/** The model compiled for the device; Told where the browser or the device cannot. */
export async function compiled(sealed: Sealed, device: Device): Promise<Network> {
  try {
    await (started ??= start());
  } catch (error) {
    started = null;
    throw new Told(`the runtime did not load (${firstLine(error)}); reload the page, or take a newer browser`);
  }
  const cpu = await network(sealed, "wasm");
  if (device === "wasm") return { ...cpu, distance: 0 };
  try {
    const gpu = await network(sealed, device);
    return { ...gpu, distance: await distanceOf(gpu.run, cpu.run, sealed.metadata.inputSize, () => gpu.delete()) };
  } finally {
    cpu.delete();
  }
}

async function network(sealed: Sealed, device: Device): Promise<Omit<Network, "distance">> {
  let model: CompiledModel;
  try {
    model = await loadAndCompile(sealed.model, { accelerator: device, gpuOptions: { precision: "fp32" } });
  } catch (error) {
    throw new Told(device === "wasm"
      ? `the model cannot be run in a browser (${firstLine(error)}); give another file of the export`
      : `the GPU cannot run this model (${firstLine(error)}); choose the CPU`);
  }
  const [input] = model.getInputDetails();
  const run = async (crop: Uint8Array): Promise<Outputs> => {
    const values = input.dtype === "uint8" ? Uint8Array.from(crop) : Float32Array.from(crop);
    const given = new Tensor(values, [...input.shape]);
    try {
      const answer = await model.run({ [input.name]: given });
      const found: Partial<Record<"parts" | "heatmaps", Maps>> = {};
      for (const name of OUTPUTS) if (answer[name]) found[name] = await mapsOf(answer[name]);
      return found;
    } finally {
      given.delete();
    }
  };
  return { run, delete: () => model.delete() };
}

/** The tensor's values as maps, finite; the tensor is let go. */
async function mapsOf(tensor: Tensor): Promise<Maps> {
  const [, height, width, joints] = tensor.type.layout.dimensions;
  const here = await tensor.moveTo("wasm");
  // A copy, since the runtime's memory is used again; a diverged model must not make NaN of a joint.
  const data = Float32Array.from(await here.data(), (v) => (Number.isFinite(v) ? v : v > 0 ? 1 : 0));
  here.delete();
  return { data, width, height, joints };
}

/** Where a GPU gives other maps than the CPU, its result is not shown. */
async function distanceOf(gpu: Run, cpu: Run, size: number, letGo: () => void): Promise<number> {
  const crop = Uint8Array.from({ length: 3 * size * size }, (_, i) => (i * 7919) % 251);
  const [one, other] = [await gpu(crop), await cpu(crop)];
  let most = 0;
  for (const name of OUTPUTS) {
    one[name]?.data.forEach((value, i) => (most = Math.max(most, Math.abs(value - other[name]!.data[i]))));
  }
  if (most > GPU_DISTANCE) {
    letGo();
    throw new Told(`the GPU's maps differ from the CPU's by ${most.toFixed(2)}; choose the CPU`);
  }
  return most;
}

/** Whether there is a GPU to choose. */
export async function hasGpu(): Promise<boolean> {
  if (!isWebGPUSupported()) return false;
  return (await navigator.gpu.requestAdapter()) !== null;
}
