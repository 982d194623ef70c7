/** The page: runs the model on dropped, chosen or pasted images and on camera frames, and shows the result. */

import { close, Follower, nextFrame, opened, Rate } from "./camera";
import { Engine } from "./engine";
import { shrinkTransform } from "./geometry";
import type { Ready } from "./messages";
import type { Device } from "./network";
import { decoded, type SourceImage } from "./image";
import { answer } from "./poses";
import { enlarged } from "./predictor";
import { firstLine, UserError } from "./errors";
import { gunzipped } from "./gunzip";
import { page, setStatus, show, showModel, showImage, setError, summaryOf, type Shown } from "./view";

const MODEL = "model.tflite.gz"; // the model that comes with the page
const FRAMES_KEPT = 18_000; // camera frames kept for the download: ten minutes at 30 frames a second
const STATUS_EVERY = 5000; // ms between two status lines of a camera, which screen readers speak

const engine = new Engine();
let model: { bytes: ArrayBuffer; name: string; ready: Ready } | null = null;
let shown: Shown | null = null;
let speed = "";
let lines: string[] = [];
let cameraOn = false;
let turn = 0; // number of the user's last request; results of earlier ones are not shown

/** Run a task; an error becomes one line on the page. */
async function reportErrors(task: () => Promise<void>): Promise<void> {
  setError(null);
  page.body.setAttribute("aria-busy", "true");
  try {
    await task();
  } catch (error) {
    setError(error instanceof UserError ? `${capital(error.message)}.` :
         `Unexpected error (${firstLine(error)}); reload the page, and report it if it happens again.`);
    setStatus(shown ? summaryOf(shown, model!.ready) : model ? "Ready." : "There is no model.");
  } finally {
    page.body.removeAttribute("aria-busy");
  }
}

/** Fetch the model that comes with the page. */
async function startingModel(): Promise<ArrayBuffer> {
  let response: Response;
  try {
    response = await fetch(MODEL);
  } catch (error) {
    throw new UserError(`the model cannot be loaded (${firstLine(error)}); reload the page, or drop a .tflite file`);
  }
  if (!response.ok) {
    throw new UserError(`the model cannot be loaded (HTTP status ${response.status}); drop a .tflite file that ` +
                   "posecascade-export wrote");
  }
  try {
    return await new Response(await gunzipped(response)).arrayBuffer();
  } catch (error) {
    throw new UserError(`the model was cut short (${firstLine(error)}); reload the page`);
  }
}

async function takeModel(bytes: ArrayBuffer, name: string, device: Device): Promise<void> {
  setStatus(`Loading ${name}.`);
  const ready = await engine.load(bytes, name, device);
  model = { bytes, name, ready };
  lines = [];
  showModel(ready, name);
  setStatus("Ready.");
  if (shown && !cameraOn) await find(shown.image);
}

/** Search for a person in an image and show the pose. */
async function find(image: SourceImage): Promise<void> {
  const asked = ++turn;
  if (shown && shown.image !== image) shown.image.bitmap.close();
  shown = null;
  lines = [];
  refresh();
  showImage(image);
  setStatus("Searching for the person.");
  const prediction = await engine.predict(await createImageBitmap(image.bitmap), null);
  if (asked !== turn) return;
  const pose = enlarged(prediction.pose, image.toFile);
  shown = { image, prediction, pose };
  lines = [answer(image.name, pose, model!.ready.schema.keypoints)];
  speed = `${prediction.milliseconds.toFixed(0)} ms for the search.`;
  refresh();
  setStatus(summaryOf(shown, model!.ready));
}

/** Run the model on camera frames until it is stopped. */
async function runCamera(): Promise<void> {
  await opened(page.video, page.facing.value);
  cameraOn = true;
  const asked = ++turn;
  setCamera(true);
  lines = [];
  const [follower, rate] = [new Follower(), new Rate()];
  let statusAt = -Infinity;
  try {
    for (let frame = 0; cameraOn && asked === turn; frame++) {
      const bitmap = await nextFrame(page.video);
      const now = performance.now();
      const prediction = await engine.predict(await createImageBitmap(bitmap), follower.box);
      if (!cameraOn || asked !== turn) break;
      const pose = follower.follow(prediction, bitmap.width, bitmap.height, now, model!.ready.followed);
      shown?.image.bitmap.close();
      shown = { image: { bitmap, name: `camera#${frame}`, toFile: shrinkTransform(1) }, prediction, pose };
      if (lines.length === FRAMES_KEPT) lines.shift();
      lines.push(answer(shown.image.name, pose, model!.ready.schema.keypoints));
      const frames = rate.count(performance.now()).toFixed(0);
      speed = `${frames} frames a second, ${prediction.milliseconds.toFixed(0)} ms a pose.`;
      refresh();
      if (now - statusAt > STATUS_EVERY) {
        setStatus(summaryOf(shown, model!.ready));
        statusAt = now;
      }
    }
  } finally {
    stopCamera();
  }
}

function stopCamera(): void {
  cameraOn = false;
  close(page.video);
  setCamera(false);
}

function setCamera(on: boolean): void {
  page.camera.setAttribute("aria-pressed", String(on));
  page.camera.textContent = on ? "Stop the camera" : "Start the camera";
}

function refresh(): void {
  page.download.disabled = lines.length === 0;
  if (shown && model) show(shown, model.ready, speed);
}

async function take(file: File): Promise<void> {
  stopCamera();
  setStatus(`Opening ${file.name}.`);
  if (file.name.endsWith(".tflite")) {
    await takeModel(await file.arrayBuffer(), file.name, page.device.value as Device);
  } else {
    const image = await decoded(file, file.name);
    if (!model) throw new UserError("there is no model yet; wait for it, or drop a .tflite file of posecascade-export");
    await find(image);
  }
}

function download(): void {
  const url = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "application/x-ndjson" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: "predictions.jsonl" });
  link.click();
  URL.revokeObjectURL(url);
}

function takeFirst(files: FileList | null | undefined): void {
  const file = files?.[0];
  if (file) void reportErrors(() => take(file));
}

function capital(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}

page.file.addEventListener("change", () => {
  takeFirst(page.file.files);
  page.file.value = ""; // so that the same file may be chosen again
});
page.camera.addEventListener("click", () => (cameraOn ? stopCamera() : void reportErrors(runCamera)));
page.facing.addEventListener("change", () => {
  if (!cameraOn) return;
  stopCamera();
  void reportErrors(runCamera);
});
page.download.addEventListener("click", download);
page.device.addEventListener("change", () => {
  if (!model) return;
  const { bytes, name, ready } = model;
  void reportErrors(async () => {
    try {
      await takeModel(bytes, name, page.device.value as Device);
    } catch (error) {
      page.device.value = ready.device; // if the device cannot run it, the previous one stays
      throw error;
    }
  });
});
for (const control of [page.keypoint, page.score, ...page.views]) {
  control.addEventListener("change", () => {
    refresh();
    if (shown && model && !cameraOn) setStatus(summaryOf(shown, model.ready));
  });
}
page.score.addEventListener("input", refresh);
document.addEventListener("paste", (event) => takeFirst(event.clipboardData?.files));
for (const kind of ["dragover", "dragleave", "drop"] as const) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    page.body.classList.toggle("dragging", kind === "dragover");
    if (kind === "drop") takeFirst(event.dataTransfer?.files);
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden && cameraOn) stopCamera(); // a camera that is not shown is stopped
});

void reportErrors(async () => takeModel(await startingModel(), "the built-in one", "wasm"));
if ("serviceWorker" in navigator && import.meta.env.PROD) void navigator.serviceWorker.register("sw.js");
