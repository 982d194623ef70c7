/** Reads an exported .tflite file: checks its checksum and returns the model, its decoder and its metadata. */

import type { Calibration } from "./calibration";
import { firstLine, UserError } from "./errors";
import { readZip } from "./zip";

const SIDECAR = "posecascade.json";
const DECODER = "decoder.tflite";
const FORMAT = 1;
const MARK = "sha256:";
const DIGITS = 64;
const AGAIN = "copy or download it again";

/** The keypoints of a model, in the order of its maps; see posecascade/schema.py. */
export interface Schema {
  readonly name: string;
  readonly keypoints: readonly string[];
  readonly pairs: readonly (readonly [left: string, right: string])[];
  readonly limbs: readonly (readonly [string, string])[];
}

/** The part of the model's metadata that is needed to run it. */
export interface Metadata {
  readonly schema: Schema;
  /** Side of the crop in pixels. */
  readonly inputSize: number;
  readonly calibration: Calibration;
}

/** The content of an exported file. */
export interface ModelFile {
  readonly model: Uint8Array<ArrayBuffer>;
  /** The model that makes keypoints of the maps; empty if the file holds none. */
  readonly decoder: Uint8Array<ArrayBuffer>;
  readonly metadata: Metadata;
  /** "heatmaps" or "keypoints". */
  readonly kind: string;
  readonly precision: string;
  /** The file it was made from. */
  readonly source: string;
  readonly license: string;
}

/** Read an exported file; throws UserError, which begins with the file's `name`, if it is damaged or foreign. */
export async function readModelFile(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<ModelFile> {
  await check(bytes, name);
  let card: Record<string, unknown>;
  let start: number;
  let decoder: Uint8Array<ArrayBuffer>;
  try {
    const zip = readZip(bytes, MARK.length + DIGITS);
    start = zip.start;
    decoder = Uint8Array.from(zip.members.get(DECODER) ?? []);
    card = JSON.parse(new TextDecoder().decode(zip.members.get(SIDECAR)));
  } catch (error) {
    throw new UserError(`${name}: ${SIDECAR} cannot be read (${firstLine(error)}); export the model again`);
  }
  const source = card.source as { file?: unknown } | undefined;
  return {
    model: bytes.subarray(0, start), decoder, metadata: metadataFrom(card.model, name), kind: String(card.kind),
    precision: String(card.precision), source: String(source?.file ?? name), license: String(card.license ?? ""),
  };
}

async function check(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<void> {
  const text = (from: number, to?: number) => new TextDecoder("latin1").decode(bytes.subarray(from, to));
  if (text(4, 8) !== "TFL3") {
    throw new UserError(`${name}: is no .tflite file; give a model that posecascade-export wrote`);
  }
  const [, expected] = /^sha256:([0-9a-f]{64})$/.exec(text(-MARK.length - DIGITS)) ?? [];
  if (!expected) {
    throw new UserError(`${name}: does not end with the checksum of posecascade-export, so its keypoints are ` +
                        `unknown, or it was cut short; give a model that posecascade-export wrote, or ${AGAIN}`);
  }
  if (!crypto.subtle) return; // not available over plain HTTP from another machine
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.subarray(0, -DIGITS)));
  const actual = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (actual !== expected) {
    throw new UserError(`${name}: is damaged (its SHA-256 begins with ${actual.slice(0, 12)}, expected ` +
                        `${expected.slice(0, 12)}); ${AGAIN}`);
  }
}

function metadataFrom(value: unknown, name: string): Metadata {
  const card = (value ?? {}) as Record<string, unknown>;
  const need = (holds: boolean, key: string) => {
    if (holds) return;
    const value = JSON.stringify(card[key]) ?? "nothing";
    throw new UserError(`${name}: '${key}' holds ${value.slice(0, 80)}, which this page cannot use; export the model ` +
                        "again");
  };
  const curve = (card.calibration ?? [1, 0]) as number[]; // files exported before 2026-11-25 have none
  need(card.format === FORMAT, "format");
  need(isCount(card.input_size), "input_size");
  need(Array.isArray(curve) && curve.length === 2 && curve.every(Number.isFinite) && curve[0] > 0, "calibration");
  const schema = card.schema as Partial<Record<keyof Schema, unknown>> | null;
  need(typeof schema?.name === "string" && isNames(schema.keypoints) && schema.keypoints.length > 0, "schema");
  const keypoints = schema!.keypoints as string[];
  const namePairs = (key: "pairs" | "limbs") => {
    const pairs = (schema![key] ?? []) as [string, string][];
    need(Array.isArray(pairs) && pairs.every((pair) => isNames(pair) && pair.length === 2 &&
                                                       pair.every((one) => keypoints.includes(one))), "schema");
    return pairs;
  };
  return {
    schema: { name: String(schema!.name), keypoints, pairs: namePairs("pairs"), limbs: namePairs("limbs") },
    inputSize: card.input_size as number, calibration: [curve[0], curve[1]],
  };
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0;
}

function isNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === "string");
}
