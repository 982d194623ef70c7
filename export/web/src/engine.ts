/** The page's interface to its worker. */

import type { Box } from "./geometry";
import type { TimedPrediction, Ready, Reply, Request } from "./messages";
import type { Device } from "./network";
import { UserError } from "./errors";

type Without<T> = T extends unknown ? Omit<T, "number"> : never;

/** Starts a worker; calls are answered in order, and throw UserError if the user can fix the error. */
export class Engine {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url));
  private readonly waiting = new Map<number, { done: (value: unknown) => void; failed: (error: Error) => void }>();
  private count = 0;

  constructor() {
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
      const call = this.waiting.get(data.number)!;
      this.waiting.delete(data.number);
      if ("value" in data) call.done(data.value);
      else call.failed("userError" in data ? new UserError(data.userError) : new Error(data.failure));
    });
    this.worker.addEventListener("error", () => {
      for (const call of this.waiting.values()) {
        call.failed(new UserError("the page's worker did not start; reload the page, or use a newer browser"));
      }
      this.waiting.clear();
    });
  }

  /** Load a model; if this throws, the previous one stays. */
  load(bytes: ArrayBuffer, name: string, device: Device): Promise<Ready> {
    return this.call({ kind: "load", bytes, name, device }, []) as Promise<Ready>;
  }

  /** Predict the pose in the box, or search for a person; the image is transferred to the worker. */
  predict(image: ImageBitmap, box: Box | null): Promise<TimedPrediction> {
    return this.call({ kind: "predict", image, box }, [image]) as Promise<TimedPrediction>;
  }

  private call(request: Without<Request>, transfer: Transferable[]): Promise<unknown> {
    const number = this.count++;
    return new Promise((done, failed) => {
      this.waiting.set(number, { done, failed });
      this.worker.postMessage({ ...request, number }, transfer);
    });
  }
}
