/** What the page and its worker say to each other. */

import type { Box } from "./geometry";
import type { Schema } from "./metadata";
import type { Device } from "./network";
import type { Look } from "./predictor";

/** A model that is ready. */
export interface Ready {
  readonly schema: Schema;
  readonly inputSize: number;
  readonly stride: number;
  readonly precision: string;
  readonly source: string;
  readonly license: string;
  /** Score from which a joint counts for the next frame's box. */
  readonly followed: number;
  readonly device: Device;
  /** The device that could be chosen beside the CPU. */
  readonly gpu: boolean;
}

/** A look, and how long the search or the single look took in milliseconds. */
export interface Found extends Look {
  readonly milliseconds: number;
}

/** To the worker; each is answered by one Reply with its number. */
export type Request = { readonly number: number } & (
  | { readonly kind: "load"; readonly bytes: ArrayBuffer; readonly name: string; readonly device: Device }
  | { readonly kind: "predict"; readonly picture: ImageBitmap; readonly box: Box | null }
);

/** From the worker. `told` is what a user can mend, `failed` what only we can. */
export type Reply = { readonly number: number } & (
  { readonly value: unknown } | { readonly told: string } | { readonly failed: string }
);
