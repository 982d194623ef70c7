/** The camera: frames, and the person followed from one to the next as posecascade does it in videos. */

import type { Box } from "./geometry";
import type { TimedPrediction } from "./messages";
import type { Pose } from "./poses";
import { nextBox } from "./predictor";
import { oneEuro, type Smoothed } from "./smoothing";
import { UserError } from "./errors";

const WHY: Readonly<Record<string, string>> = {
  NotAllowedError: "the camera is blocked; allow it in the browser's settings for this page",
  NotFoundError: "there is no camera; connect one, or choose a photo",
  NotReadableError: "the camera is in use elsewhere; close the other program",
};

/**
 * Open the camera that faces "user" or "environment", if there are two; throws UserError if there is none, or if it may
 * not be used.
 */
export async function opened(video: HTMLVideoElement, facing: string): Promise<MediaStream> {
  if (!navigator.mediaDevices) {
    throw new UserError("the camera can be used only over https or on this machine itself; choose a photo");
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: false, video: { facingMode: facing, width: { ideal: 640 }, height: { ideal: 480 } } });
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    throw new UserError(WHY[name] ?? `the camera does not start (${String(error)}); choose a photo`);
  }
}

/** Release the camera. */
export function close(video: HTMLVideoElement): void {
  (video.srcObject as MediaStream | null)?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

/** Return the next frame that the video shows. */
export function nextFrame(video: HTMLVideoElement): Promise<ImageBitmap> {
  return new Promise((done, failed) => {
    const take = () => createImageBitmap(video).then(done, failed);
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(take);
    else requestAnimationFrame(take);
  });
}

/** Follows one person: the next frame's box, and the smoothed pose. */
export class Follower {
  private smoothed: Smoothed | null = null;
  private lastTime = 0;
  /** The next frame's box; null to search for the person. */
  box: Box | null = null;

  /** Smooth the pose of a frame of `width` x `height` pixels taken at `milliseconds`; `least` as in `nextBox`. */
  follow(prediction: TimedPrediction, width: number, height: number, milliseconds: number, least: number): Pose {
    const { pose } = prediction;
    const seconds = Math.max((milliseconds - this.lastTime) / 1000, 1e-3);
    this.smoothed = oneEuro(this.box && this.smoothed, pose.keypoints, seconds, Math.max(pose.box.w, pose.box.h));
    this.lastTime = milliseconds;
    const smooth = { ...pose, keypoints: this.smoothed.keypoints };
    this.box = nextBox(smooth, width, height, least);
    return smooth;
  }
}

/** Counts the frames of the last second. */
export class Rate {
  private times: number[] = [];

  /** Count a frame and return frames per second. */
  count(milliseconds: number): number {
    this.times = [...this.times.filter((time) => time > milliseconds - 1000), milliseconds];
    const span = milliseconds - this.times[0];
    return span > 0 ? (1000 * (this.times.length - 1)) / span : 0;
  }
}
