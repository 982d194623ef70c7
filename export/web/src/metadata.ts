/** What a sealed .tflite file says of its model, after its checksum has vouched: joints, sizes, decoder and curve. */

import type { Calibration } from "./calibration";
import { DECODERS } from "./codec";
import { firstLine, Told } from "./told";
import { unzipped } from "./zip";

const SIDECAR = "posecascade.json";
const FORMAT = 1;
const MARK = "sha256:";
const DIGITS = 64;
const AGAIN = "copy or download it again";

/** The joints of a model, in the order of its maps; see posecascade/schema.py. */
export interface Schema {
  readonly name: string;
  readonly keypoints: readonly string[];
  readonly pairs: readonly (readonly [left: string, right: string])[];
  readonly limbs: readonly (readonly [string, string])[];
}

/** Of posecascade.model_metadata.Metadata, what it takes to run the model. */
export interface Metadata {
  readonly schema: Schema;
  /** Side in pixels of the crop. */
  readonly inputSize: number;
  /** Pixels of the crop per cell of a map. */
  readonly stride: number;
  readonly decoder: string;
  readonly calibration: Calibration;
}

/** A sealed file: the model for an interpreter, and what is known of it. */
export interface Sealed {
  readonly model: Uint8Array<ArrayBuffer>;
  readonly metadata: Metadata;
  /** "heatmaps" or "keypoints". */
  readonly kind: string;
  readonly precision: string;
  /** The file it was made from. */
  readonly source: string;
  readonly license: string;
}

/** What the bytes hold; throws Told, which begins with the file's `name`, where they are damaged or foreign. */
export async function unsealed(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<Sealed> {
  await check(bytes, name);
  let card: Record<string, unknown>;
  let start: number;
  try {
    const zip = unzipped(bytes, MARK.length + DIGITS);
    start = zip.start;
    card = JSON.parse(new TextDecoder().decode(zip.members.get(SIDECAR)));
  } catch (error) {
    throw new Told(`${name}: ${SIDECAR} cannot be read (${firstLine(error)}); export the model again`);
  }
  const source = card.source as { file?: unknown } | undefined;
  return {
    model: bytes.subarray(0, start), metadata: metadataFrom(card.model, name), kind: String(card.kind),
    precision: String(card.precision), source: String(source?.file ?? name), license: String(card.license ?? ""),
  };
}

async function check(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<void> {
  const text = (from: number, to?: number) => new TextDecoder("latin1").decode(bytes.subarray(from, to));
  if (text(4, 8) !== "TFL3") {
    throw new Told(`${name}: is no .tflite file; give a model that posecascade-export wrote`);
  }
  const [, said] = /^sha256:([0-9a-f]{64})$/.exec(text(-MARK.length - DIGITS)) ?? [];
  if (!said) {
    throw new Told(`${name}: does not end with the seal of posecascade-export, so its joints are unknown, or it was ` +
                   `cut short; give a model that posecascade-export wrote, or ${AGAIN}`);
  }
  if (!crypto.subtle) return; // not to be had on plain HTTP from another machine
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.subarray(0, -DIGITS)));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== said) {
    throw new Told(`${name}: is damaged (its SHA-256 begins ${found.slice(0, 12)}, its seal says ` +
                   `${said.slice(0, 12)}); ${AGAIN}`);
  }
}

function metadataFrom(value: unknown, name: string): Metadata {
  const card = (value ?? {}) as Record<string, unknown>;
  const need = (holds: boolean, key: string) => {
    if (holds) return;
    const found = JSON.stringify(card[key]) ?? "nothing";
    throw new Told(`${name}: '${key}' holds ${found.slice(0, 80)}, which this page cannot use; export the model again`);
  };
  const curve = (card.calibration ?? [1, 0]) as number[]; // files of before 2026-11-25 have none
  need(card.format === FORMAT, "format");
  need(isCount(card.input_size), "input_size");
  need(isCount(card.stride), "stride");
  need(typeof card.decoder === "string" && Object.hasOwn(DECODERS, card.decoder), "decoder");
  need(Array.isArray(curve) && curve.length === 2 && curve.every(Number.isFinite) && curve[0] > 0, "calibration");
  const schema = card.schema as Partial<Record<keyof Schema, unknown>> | null;
  need(typeof schema?.name === "string" && isNames(schema.keypoints) && schema.keypoints.length > 0, "schema");
  const joints = schema!.keypoints as string[];
  const couples = (key: "pairs" | "limbs") => {
    const found = (schema![key] ?? []) as [string, string][];
    need(Array.isArray(found) && found.every((couple) => isNames(couple) && couple.length === 2 &&
                                                         couple.every((joint) => joints.includes(joint))), "schema");
    return found;
  };
  return {
    schema: { name: String(schema!.name), keypoints: joints, pairs: couples("pairs"), limbs: couples("limbs") },
    inputSize: card.input_size as number, stride: card.stride as number, decoder: card.decoder as string,
    calibration: [curve[0], curve[1]],
  };
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0;
}

function isNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === "string");
}
