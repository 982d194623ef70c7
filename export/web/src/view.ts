/** The page's elements, and what is shown in them. */

import { drawPose, type Choice } from "./drawing";
import { after, inverse, type Affine } from "./geometry";
import type { TimedPrediction, Ready } from "./messages";
import { drawMaps } from "./maps";
import type { SourceImage } from "./image";
import type { Pose } from "./poses";
import { inWords, summary, Table } from "./results";

const LONGEST = 1600; // px of the canvas with the image

/** What the page shows: an image, its prediction, and its pose in pixels of the file. */
export interface Shown {
  readonly image: SourceImage;
  readonly prediction: TimedPrediction;
  readonly pose: Pose;
}

function element<T extends HTMLElement>(selector: string): T {
  return document.querySelector<T>(selector)!;
}

export const page = {
  body: document.body,
  file: element<HTMLInputElement>("#file"),
  camera: element<HTMLButtonElement>("#camera"),
  facing: element<HTMLSelectElement>("#facing"),
  download: element<HTMLButtonElement>("#download"),
  keypoint: element<HTMLSelectElement>("#keypoint"),
  score: element<HTMLInputElement>("#score"),
  device: element<HTMLSelectElement>("#device"),
  video: element<HTMLVideoElement>("video"),
  views: [...document.querySelectorAll<HTMLInputElement>("input[name=view]")],
};

const outputs = {
  stage: element("#stage"), results: element("#results"), error: element("#error"), status: element("#status"),
  speed: element("#speed"), model: element("#model"), scoreValue: element<HTMLOutputElement>("#score-value"),
};

const table = new Table(element<HTMLTableSectionElement>("tbody"), (keypoint) => {
  page.keypoint.value = choice().keypoint === keypoint ? "" : String(keypoint);
  page.keypoint.dispatchEvent(new Event("change"));
});

/** Return what the user chose to see of a pose. */
export function choice(): Choice {
  const { score, keypoint } = page;
  return { minScore: Number(score.value), keypoint: keypoint.value === "" ? null : Number(keypoint.value) };
}

/** Show one line of error; null hides it. */
export function setError(error: string | null): void {
  outputs.error.hidden = error === null;
  outputs.error.textContent = error ?? "";
}

/** Set the status line, which screen readers speak; an unchanged line is not spoken again. */
export function setStatus(status: string): void {
  if (outputs.status.textContent !== status) outputs.status.textContent = status;
}

/** Show a model that was loaded. */
export function showModel(ready: Ready, name: string): void {
  const { schema, inputSize, precision, source, license } = ready;
  const size = `${schema.keypoints.length} keypoints, ${inputSize} px`;
  outputs.model.textContent = `Model: ${source} (${name}, ${precision}), ${size}. ` +
                             `License of the weights: ${license || "unknown"}.`;
  const all = new Option("all", "");
  page.keypoint.replaceChildren(all, ...schema.keypoints.map((name, k) => new Option(inWords(name), String(k))));
  page.device.value = ready.device;
  page.device.disabled = false;
  page.device.options[1].disabled = !ready.gpu;
  table.reset(schema);
}

/** Show an image whose pose is not known yet. */
export function showImage(image: SourceImage): void {
  delete outputs.stage.dataset.empty;
  outputs.results.hidden = true;
  for (const view of page.views) panel(view.value).hidden = view.value !== "skeleton";
  drawImageAlone(image);
}

/** Show a pose as the user chose to see it. */
export function show(shown: Shown, ready: Ready, speed: string): void {
  const { prediction, image, pose } = shown;
  const chosen = choice();
  delete outputs.stage.dataset.empty;
  outputs.results.hidden = false;
  outputs.speed.textContent = speed;
  outputs.scoreValue.value = chosen.minScore.toFixed(2);
  let panels = 0;
  for (const view of page.views) {
    const there = view.value === "skeleton" || prediction.maps[view.value as "parts" | "heatmaps"] !== undefined;
    view.disabled = !there;
    panel(view.value).hidden = !(there && view.checked);
    panels += Number(there && view.checked);
  }
  outputs.stage.dataset.panels = String(panels);
  const toCanvas = drawImageAlone(image);
  drawPose(canvasOf("skeleton"), pose, ready.schema, toCanvas, chosen);
  for (const stage of ["parts", "heatmaps"] as const) {
    const maps = prediction.maps[stage];
    if (!maps || panel(stage).hidden) continue;
    drawMaps(canvasOf(stage), prediction, maps, chosen);
    const what = stage === "parts" ? "visibility" : "scores";
    panel(stage).querySelector(".value")!.textContent = chosen.keypoint === null ? "" :
      `${inWords(ready.schema.keypoints[chosen.keypoint])}: ${pose[what][chosen.keypoint].toFixed(2)}.`;
  }
  table.fill(pose, chosen);
}

/** Return the sentence about the pose, for the status line. */
export function summaryOf(shown: Shown, ready: Ready): string {
  const sentence = summary(shown.pose, ready.schema.keypoints, choice().minScore);
  if (shown.prediction.maps.parts) return sentence;
  return `${sentence} This model has no part detector: no part maps, and visibility equals the confidence map's peak.`;
}

/** Draw the image without a pose; return the transform from its file's pixels to the canvas's. */
function drawImageAlone({ bitmap, toFile }: SourceImage): Affine {
  const context = canvasOf("skeleton");
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  context.canvas.width = Math.round(bitmap.width * scale);
  context.canvas.height = Math.round(bitmap.height * scale);
  context.fillStyle = "white";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
  const shift = (scale - 1) / 2; // the edges coincide, so the centers of the first pixels differ
  return after([scale, 0, shift, 0, scale, shift], inverse(toFile));
}

function panel(view: string): HTMLElement {
  return element(`#panel-${view}`);
}

function canvasOf(view: string): CanvasRenderingContext2D {
  return panel(view).querySelector("canvas")!.getContext("2d")!;
}
