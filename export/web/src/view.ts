/** The page's elements, and how a look is put into them. */

import { drawPose, type Choice } from "./drawing";
import { after, inverse, type Affine } from "./geometry";
import type { Found, Ready } from "./messages";
import { drawMaps } from "./maps";
import type { Picture } from "./picture";
import type { Pose } from "./poses";
import { spoken, summary, Table } from "./results";

const LONGEST = 1600; // px of the canvas with the picture

/** What is on the page: a picture, and what was found in it, in the pixels of the picture's file. */
export interface Shown {
  readonly picture: Picture;
  readonly found: Found;
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
  joint: element<HTMLSelectElement>("#joint"),
  score: element<HTMLInputElement>("#score"),
  device: element<HTMLSelectElement>("#device"),
  video: element<HTMLVideoElement>("video"),
  views: [...document.querySelectorAll<HTMLInputElement>("input[name=view]")],
};

const places = {
  stage: element("#stage"), results: element("#results"), error: element("#error"), status: element("#status"),
  speed: element("#speed"), model: element("#model"), scoreValue: element<HTMLOutputElement>("#score-value"),
};

const table = new Table(element<HTMLTableSectionElement>("tbody"), (joint) => {
  page.joint.value = choice().joint === joint ? "" : String(joint);
  page.joint.dispatchEvent(new Event("change"));
});

/** What the user chose to see of a pose. */
export function choice(): Choice {
  return { leastScore: Number(page.score.value), joint: page.joint.value === "" ? null : Number(page.joint.value) };
}

/** One line that says what is wrong; null takes it away. */
export function tell(error: string | null): void {
  places.error.hidden = error === null;
  places.error.textContent = error ?? "";
}

/** What the page is doing, read aloud; the same words are not read twice. */
export function say(status: string): void {
  if (places.status.textContent !== status) places.status.textContent = status;
}

/** A model was taken. */
export function showModel(ready: Ready, name: string): void {
  const { schema, inputSize, precision, source, license } = ready;
  const size = `${schema.keypoints.length} joints, ${inputSize} px`;
  places.model.textContent = `Model: ${source} (${name}, ${precision}), ${size}. ` +
                             `Terms of the weights: ${license || "not told"}.`;
  const all = new Option("all", "");
  page.joint.replaceChildren(all, ...schema.keypoints.map((joint, k) => new Option(spoken(joint), String(k))));
  page.device.value = ready.device;
  page.device.disabled = false;
  page.device.options[1].disabled = !ready.gpu;
  table.reset(schema);
}

/** A picture whose pose is not yet known. */
export function showPicture(picture: Picture): void {
  delete places.stage.dataset.empty;
  places.results.hidden = true;
  for (const view of page.views) panel(view.value).hidden = view.value !== "skeleton";
  drawPicture(picture);
}

/** A pose, by what the user chose to see of it. */
export function show(shown: Shown, ready: Ready, speed: string): void {
  const { found, picture, pose } = shown;
  const chosen = choice();
  delete places.stage.dataset.empty;
  places.results.hidden = false;
  places.speed.textContent = speed;
  places.scoreValue.value = chosen.leastScore.toFixed(2);
  let panels = 0;
  for (const view of page.views) {
    const there = view.value === "skeleton" || found.maps[view.value as "parts" | "heatmaps"] !== undefined;
    view.disabled = !there;
    panel(view.value).hidden = !(there && view.checked);
    panels += Number(there && view.checked);
  }
  places.stage.dataset.panels = String(panels);
  const toCanvas = drawPicture(picture);
  drawPose(canvasOf("skeleton"), pose, ready.schema, toCanvas, chosen);
  for (const stage of ["parts", "heatmaps"] as const) {
    const maps = found.maps[stage];
    if (!maps || panel(stage).hidden) continue;
    drawMaps(canvasOf(stage), found, maps, chosen);
    const what = stage === "parts" ? "visibility" : "scores";
    panel(stage).querySelector(".value")!.textContent = chosen.joint === null ? "" :
      `${spoken(ready.schema.keypoints[chosen.joint])}: ${pose[what][chosen.joint].toFixed(2)}.`;
  }
  table.fill(pose, chosen);
}

/** The sentence about the pose, for the status line. */
export function told(shown: Shown, ready: Ready): string {
  const sentence = summary(shown.pose, ready.schema.keypoints, choice().leastScore);
  if (shown.found.maps.parts) return sentence;
  return `${sentence} This model has no part detector, so no part maps and no visibility of its own.`;
}

/** Draw the picture alone; the way from its file's pixels to the canvas's. */
function drawPicture({ bitmap, toFile }: Picture): Affine {
  const context = canvasOf("skeleton");
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  context.canvas.width = Math.round(bitmap.width * scale);
  context.canvas.height = Math.round(bitmap.height * scale);
  context.fillStyle = "white";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
  const shift = (scale - 1) / 2; // the same edges, so the centres of first pixels differ
  return after([scale, 0, shift, 0, scale, shift], inverse(toFile));
}

function panel(view: string): HTMLElement {
  return element(`#panel-${view}`);
}

function canvasOf(view: string): CanvasRenderingContext2D {
  return panel(view).querySelector("canvas")!.getContext("2d")!;
}
