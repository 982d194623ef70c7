/** The worker as the page calls it. */

import type { Box } from "./geometry";
import type { Found, Ready, Reply, Request } from "./messages";
import type { Device } from "./network";
import { Told } from "./told";

type Without<T> = T extends unknown ? Omit<T, "number"> : never;

/** Starts a worker; calls are answered in their order, and throw Told where a user can mend it. */
export class Engine {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url));
  private readonly waiting = new Map<number, { done: (value: unknown) => void; failed: (error: Error) => void }>();
  private count = 0;

  constructor() {
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
      const call = this.waiting.get(data.number)!;
      this.waiting.delete(data.number);
      if ("value" in data) call.done(data.value);
      else call.failed("told" in data ? new Told(data.told) : new Error(data.failed));
    });
    this.worker.addEventListener("error", () => {
      for (const call of this.waiting.values()) {
        call.failed(new Told("the page's worker did not start; reload the page, or take a newer browser"));
      }
      this.waiting.clear();
    });
  }

  /** Take another model; the one before stays where this throws. */
  load(bytes: ArrayBuffer, name: string, device: Device): Promise<Ready> {
    return this.call({ kind: "load", bytes, name, device }, []) as Promise<Ready>;
  }

  /** The pose in the box, or of a person who is looked for; the picture goes to the worker. */
  predict(picture: ImageBitmap, box: Box | null): Promise<Found> {
    return this.call({ kind: "predict", picture, box }, [picture]) as Promise<Found>;
  }

  private call(request: Without<Request>, transfer: Transferable[]): Promise<unknown> {
    const number = this.count++;
    return new Promise((done, failed) => {
      this.waiting.set(number, { done, failed });
      this.worker.postMessage({ ...request, number }, transfer);
    });
  }
}
