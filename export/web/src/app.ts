/** The page: what is dropped, chosen, pasted or seen by the camera goes to the model, and its answer is shown. */

import { close, Follower, nextFrame, opened, Rate } from "./camera";
import { Engine } from "./engine";
import { shrinkTransform } from "./geometry";
import type { Ready } from "./messages";
import type { Device } from "./network";
import { decoded, type Picture } from "./picture";
import { answer } from "./poses";
import { enlarged } from "./predictor";
import { firstLine, Told } from "./told";
import { unpacked } from "./unpack";
import { page, say, show, showModel, showPicture, tell, told, type Shown } from "./view";

const MODEL = "model.tflite.gz"; // what the page starts with, beside it
const FRAMES_KEPT = 18_000; // lines of a camera's frames for the download: ten minutes of 30 a second
const SPOKEN_EVERY = 5000; // ms: a camera's poses are read aloud no more often

const engine = new Engine();
let model: { bytes: ArrayBuffer; name: string; ready: Ready } | null = null;
let shown: Shown | null = null;
let speed = "";
let lines: string[] = [];
let filming = false;
let turn = 0; // counts what the user asked for: an older answer is not shown

/** Runs what the user asked for; what goes wrong is one line on the page. */
async function attempt(task: () => Promise<void>): Promise<void> {
  tell(null);
  page.body.setAttribute("aria-busy", "true");
  try {
    await task();
  } catch (error) {
    tell(error instanceof Told ? `${capital(error.message)}.` :
         `Something went wrong here (${firstLine(error)}); reload the page, and report it if it comes again.`);
    say(shown ? told(shown, model!.ready) : model ? "Ready." : "There is no model.");
  } finally {
    page.body.removeAttribute("aria-busy");
  }
}

/** The model that the page comes with. */
async function startingModel(): Promise<ArrayBuffer> {
  let response: Response;
  try {
    response = await fetch(MODEL);
  } catch (error) {
    throw new Told(`the model cannot be loaded (${firstLine(error)}); reload the page, or drop a .tflite file`);
  }
  if (!response.ok) {
    throw new Told(`the model cannot be loaded (HTTP status ${response.status}); drop a .tflite file that ` +
                   "posecascade-export wrote");
  }
  try {
    return await new Response(await unpacked(response)).arrayBuffer();
  } catch (error) {
    throw new Told(`the model was cut short (${firstLine(error)}); reload the page`);
  }
}

async function takeModel(bytes: ArrayBuffer, name: string, device: Device): Promise<void> {
  say(`Loading ${name}.`);
  const ready = await engine.load(bytes, name, device);
  model = { bytes, name, ready };
  lines = [];
  showModel(ready, name);
  say("Ready.");
  if (shown && !filming) await find(shown.picture);
}

/** The pose in a picture. */
async function find(picture: Picture): Promise<void> {
  const asked = ++turn;
  if (shown && shown.picture !== picture) shown.picture.bitmap.close();
  shown = null;
  lines = [];
  refresh();
  showPicture(picture);
  say("Looking for the person.");
  const found = await engine.predict(await createImageBitmap(picture.bitmap), null);
  if (asked !== turn) return;
  const pose = enlarged(found.pose, picture.toFile);
  shown = { picture, found, pose };
  lines = [answer(picture.name, pose, model!.ready.schema.keypoints)];
  speed = `${found.milliseconds.toFixed(0)} ms for the search.`;
  refresh();
  say(told(shown, model!.ready));
}

/** Frames from the camera until it is stopped. */
async function film(): Promise<void> {
  await opened(page.video, page.facing.value);
  filming = true;
  const asked = ++turn;
  setCamera(true);
  lines = [];
  const [follower, rate] = [new Follower(), new Rate()];
  let spokenAt = -Infinity;
  try {
    for (let frame = 0; filming && asked === turn; frame++) {
      const bitmap = await nextFrame(page.video);
      const now = performance.now();
      const found = await engine.predict(await createImageBitmap(bitmap), follower.box);
      if (!filming || asked !== turn) break;
      const pose = follower.follow(found, bitmap.width, bitmap.height, now, model!.ready.followed);
      shown?.picture.bitmap.close();
      shown = { picture: { bitmap, name: `camera#${frame}`, toFile: shrinkTransform(1) }, found, pose };
      if (lines.length === FRAMES_KEPT) lines.shift();
      lines.push(answer(shown.picture.name, pose, model!.ready.schema.keypoints));
      const frames = rate.count(performance.now()).toFixed(0);
      speed = `${frames} frames a second, ${found.milliseconds.toFixed(0)} ms a pose.`;
      refresh();
      if (now - spokenAt > SPOKEN_EVERY) {
        say(told(shown, model!.ready));
        spokenAt = now;
      }
    }
  } finally {
    stopFilming();
  }
}

function stopFilming(): void {
  filming = false;
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
  stopFilming();
  say(`Opening ${file.name}.`);
  if (file.name.endsWith(".tflite")) {
    await takeModel(await file.arrayBuffer(), file.name, page.device.value as Device);
  } else {
    const picture = await decoded(file, file.name);
    if (!model) throw new Told("there is no model yet; wait for it, or drop a .tflite file of posecascade-export");
    await find(picture);
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
  if (file) void attempt(() => take(file));
}

function capital(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}

page.file.addEventListener("change", () => {
  takeFirst(page.file.files);
  page.file.value = ""; // so that the same file may be chosen again
});
page.camera.addEventListener("click", () => (filming ? stopFilming() : void attempt(film)));
page.facing.addEventListener("change", () => {
  if (!filming) return;
  stopFilming();
  void attempt(film);
});
page.download.addEventListener("click", download);
page.device.addEventListener("change", () => {
  if (!model) return;
  const { bytes, name, ready } = model;
  void attempt(async () => {
    try {
      await takeModel(bytes, name, page.device.value as Device);
    } catch (error) {
      page.device.value = ready.device; // where the device cannot, the one before stays
      throw error;
    }
  });
});
for (const control of [page.joint, page.score, ...page.views]) {
  control.addEventListener("change", () => {
    refresh();
    if (shown && model && !filming) say(told(shown, model.ready));
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
  if (document.hidden && filming) stopFilming(); // a camera that nobody sees is off
});

void attempt(async () => takeModel(await startingModel(), "the page's own", "wasm"));
if ("serviceWorker" in navigator && import.meta.env.PROD) void navigator.serviceWorker.register("sw.js");
