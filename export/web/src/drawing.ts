/** Draws a pose over an image, as posecascade/drawing.py does. */

import { transformed, type Affine } from "./geometry";
import type { Schema } from "./metadata";
import type { Pose } from "./poses";

export const LEFT = "rgb(60 140 255)";
export const RIGHT = "rgb(255 130 40)";
export const MIDDLE = "rgb(90 220 90)";
const OUTLINE = "rgb(20 20 20)";
export const HIDDEN_BELOW = 0.5; // keypoints with a lower visibility count as occluded
const LIMB_WIDTH = 1 / 60; // of the pose's longer side, within LIMB_LIMITS of the canvas's
const LIMB_LIMITS = [1 / 400, 1 / 80] as const;

/** What the user chose to see of a pose. */
export interface Choice {
  /** Keypoints with a lower score are not drawn. */
  readonly minScore: number;
  /** The highlighted keypoint, or null. */
  readonly keypoint: number | null;
}

/** Return one color per keypoint: left ones blue, right ones orange, the others green. */
export function keypointColors(schema: Schema): string[] {
  return schema.keypoints.map((name) => {
    if (schema.pairs.some(([left]) => left === name)) return LEFT;
    return schema.pairs.some(([, right]) => right === name) ? RIGHT : MIDDLE;
  });
}

/**
 * Draw limbs and keypoints: occluded keypoints hollow, limbs to them thin.
 *
 * `toCanvas` maps the pose's pixels to the canvas's.
 */
export function drawPose(context: CanvasRenderingContext2D, pose: Pose, schema: Schema, toCanvas: Affine,
                         choice: Choice): void {
  const colors = keypointColors(schema);
  // The origin of a canvas is the edge of its first pixel, ours is its center.
  const places = pose.keypoints.map((point) => transformed(toCanvas, point).map((v) => v + 0.5) as [number, number]);
  const shown = pose.scores.map((score) => score >= choice.minScore);
  const seen = pose.visibility.map((value) => value >= HIDDEN_BELOW);
  if (!shown.some(Boolean)) return;
  const width = limbWidth(places.filter((_, k) => shown[k]), context.canvas);
  context.lineCap = "round";
  for (const [start, end] of schema.limbs.map((limb) => limb.map((name) => schema.keypoints.indexOf(name)))) {
    if (!shown[start] || !shown[end]) continue;
    const thickness = seen[start] && seen[end] ? width : width / 2;
    line(context, places[start], places[end], OUTLINE, thickness + 2);
    line(context, places[start], places[end], limbColor(colors[start], colors[end]), thickness);
  }
  places.forEach((place, k) => {
    if (shown[k]) dot(context, place, colors[k], width, seen[k]);
  });
  if (choice.keypoint !== null && shown[choice.keypoint]) ring(context, places[choice.keypoint], 3 * width);
}

function limbWidth(places: readonly (readonly [number, number])[], canvas: { width: number; height: number }): number {
  const spread = Math.max(...[0, 1].map((axis) => {
    const values = places.map((place) => place[axis]);
    return Math.max(...values) - Math.min(...values);
  }));
  const longer = Math.max(canvas.width, canvas.height);
  return Math.max(Math.min(Math.max(spread * LIMB_WIDTH, LIMB_LIMITS[0] * longer), LIMB_LIMITS[1] * longer), 1);
}

/** Return the color of the side if one or both ends have that side, e.g. neck to left shoulder. */
function limbColor(start: string, end: string): string {
  const sides = new Set([start, end].filter((color) => color !== MIDDLE));
  return sides.size === 1 ? [...sides][0] : MIDDLE;
}

function line(context: CanvasRenderingContext2D, from: readonly number[], to: readonly number[], color: string,
              width: number): void {
  context.strokeStyle = color;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(from[0], from[1]);
  context.lineTo(to[0], to[1]);
  context.stroke();
}

function dot(context: CanvasRenderingContext2D, place: readonly [number, number], color: string, width: number,
             filled: boolean): void {
  const radius = 0.9 * width + 1;
  disc(context, place, radius + 1, OUTLINE);
  disc(context, place, radius, color);
  if (!filled) disc(context, place, Math.max(radius - 0.6 * width, 1), OUTLINE);
}

function disc(context: CanvasRenderingContext2D, [x, y]: readonly [number, number], radius: number,
              color: string): void {
  context.fillStyle = color;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/** Draw a white ring with a dark rim, which is visible on any image. */
export function ring(context: CanvasRenderingContext2D, [x, y]: readonly [number, number], radius: number): void {
  for (const [color, width] of [[OUTLINE, 4], ["white", 2]] as const) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}
