/** The camera: frames, and the pose followed from one to the next as posecascade/video.py follows it. */

import type { Box } from "./geometry";
import type { Found } from "./messages";
import type { Pose } from "./poses";
import { nextBox } from "./predictor";
import { oneEuro, type Smoothed } from "./smoothing";
import { Told } from "./told";

const WHY: Readonly<Record<string, string>> = {
  NotAllowedError: "the camera may not be used; allow it in the browser's settings for this page",
  NotFoundError: "there is no camera; connect one, or choose a photo",
  NotReadableError: "the camera is in use elsewhere; close the other program",
};

/**
 * The pictures of the camera that faces "user" or "environment", where there are two; throws Told where there is none,
 * or it may not be used.
 */
export async function opened(video: HTMLVideoElement, facing: string): Promise<MediaStream> {
  if (!navigator.mediaDevices) {
    throw new Told("the camera can be used only over https or on this machine itself; choose a photo");
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: false, video: { facingMode: facing, width: { ideal: 640 }, height: { ideal: 480 } } });
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    throw new Told(WHY[name] ?? `the camera does not start (${String(error)}); choose a photo`);
  }
}

/** Let the camera go. */
export function close(video: HTMLVideoElement): void {
  (video.srcObject as MediaStream | null)?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

/** Resolves with the next frame that the video shows. */
export function nextFrame(video: HTMLVideoElement): Promise<ImageBitmap> {
  return new Promise((done, failed) => {
    const take = () => createImageBitmap(video).then(done, failed);
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(take);
    else requestAnimationFrame(take);
  });
}

/** Follows one person: where to look next, and the smoothed pose. */
export class Follower {
  private smoothed: Smoothed | null = null;
  private before = 0;
  /** The next frame's box; null where the person is looked for. */
  box: Box | null = null;

  /** The pose of a frame of `width` x `height` pixels taken at `milliseconds`, smoothed; `least` as in `nextBox`. */
  follow(found: Found, width: number, height: number, milliseconds: number, least: number): Pose {
    const { pose } = found;
    const seconds = Math.max((milliseconds - this.before) / 1000, 1e-3);
    this.smoothed = oneEuro(this.box && this.smoothed, pose.points, seconds, Math.max(pose.box.w, pose.box.h));
    this.before = milliseconds;
    const smooth = { ...pose, points: this.smoothed.points };
    this.box = nextBox(smooth, width, height, least);
    return smooth;
  }
}

/** Frames a second, of the last second. */
export class Rate {
  private times: number[] = [];

  /** Count a frame; the rate so far. */
  count(milliseconds: number): number {
    this.times = [...this.times.filter((time) => time > milliseconds - 1000), milliseconds];
    const span = milliseconds - this.times[0];
    return span > 0 ? (1000 * (this.times.length - 1)) / span : 0;
  }
}
