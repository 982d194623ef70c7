/** The messages between the page and its worker. */

import type { Box } from "./geometry";
import type { Schema } from "./metadata";
import type { Device } from "./network";
import type { Prediction } from "./predictor";

/** A model that is ready. */
export interface Ready {
  readonly schema: Schema;
  readonly inputSize: number;
  readonly precision: string;
  readonly source: string;
  readonly license: string;
  /** Least score of a keypoint that counts for the next frame's box. */
  readonly followed: number;
  readonly device: Device;
  /** Whether a GPU can be chosen. */
  readonly gpu: boolean;
}

/** A prediction, and the time of the search or of the single crop in milliseconds. */
export interface TimedPrediction extends Prediction {
  readonly milliseconds: number;
}

/** To the worker; each is answered by one Reply with its number. */
export type Request = { readonly number: number } & (
  | { readonly kind: "load"; readonly bytes: ArrayBuffer; readonly name: string; readonly device: Device }
  | { readonly kind: "predict"; readonly image: ImageBitmap; readonly box: Box | null }
);

/** From the worker; `userError` is what a user can fix, `failure` any other error. */
export type Reply = { readonly number: number } & (
  { readonly value: unknown } | { readonly userError: string } | { readonly failure: string }
);
