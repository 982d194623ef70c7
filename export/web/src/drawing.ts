/** A pose over a picture, in the colours and by the rules of posecascade/drawing.py. */

import { carried, type Affine } from "./geometry";
import type { Schema } from "./metadata";
import type { Pose } from "./poses";

export const LEFT = "rgb(60 140 255)";
export const RIGHT = "rgb(255 130 40)";
export const MIDDLE = "rgb(90 220 90)";
const OUTLINE = "rgb(20 20 20)";
export const HIDDEN_BELOW = 0.5; // a visibility below which a joint counts as occluded
const LIMB_WIDTH = 1 / 60; // of the pose's longer side, within LIMB_LIMITS of the picture's
const LIMB_LIMITS = [1 / 400, 1 / 80] as const;

/** What is drawn of a pose. */
export interface Choice {
  /** Joints with a lower score are left out. */
  readonly leastScore: number;
  /** The one joint that stands out, or null. */
  readonly joint: number | null;
}

/** One colour for each joint: left ones blue, right ones orange, the others green. */
export function jointColours(schema: Schema): string[] {
  return schema.keypoints.map((name) => {
    if (schema.pairs.some(([left]) => left === name)) return LEFT;
    return schema.pairs.some(([, right]) => right === name) ? RIGHT : MIDDLE;
  });
}

/**
 * Limbs and joints over a canvas: occluded joints hollow, limbs to them thin.
 *
 * `toCanvas` goes from the pose's pixels to the canvas's.
 */
export function drawPose(context: CanvasRenderingContext2D, pose: Pose, schema: Schema, toCanvas: Affine,
                         choice: Choice): void {
  const colours = jointColours(schema);
  // A canvas counts from the edge of its first pixel, we from its centre.
  const places = pose.points.map((point) => carried(toCanvas, point).map((v) => v + 0.5) as [number, number]);
  const shown = pose.scores.map((score) => score >= choice.leastScore);
  const seen = pose.visibility.map((value) => value >= HIDDEN_BELOW);
  if (!shown.some(Boolean)) return;
  const width = limbWidth(places.filter((_, k) => shown[k]), context.canvas);
  context.lineCap = "round";
  for (const [start, end] of schema.limbs.map((limb) => limb.map((name) => schema.keypoints.indexOf(name)))) {
    if (!shown[start] || !shown[end]) continue;
    const thickness = seen[start] && seen[end] ? width : width / 2;
    line(context, places[start], places[end], OUTLINE, thickness + 2);
    line(context, places[start], places[end], limbColour(colours[start], colours[end]), thickness);
  }
  places.forEach((place, k) => {
    if (shown[k]) dot(context, place, colours[k], width, seen[k]);
  });
  if (choice.joint !== null && shown[choice.joint]) ring(context, places[choice.joint], 3 * width);
}

function limbWidth(places: readonly (readonly [number, number])[], canvas: { width: number; height: number }): number {
  const spread = Math.max(...[0, 1].map((axis) => {
    const values = places.map((place) => place[axis]);
    return Math.max(...values) - Math.min(...values);
  }));
  const longer = Math.max(canvas.width, canvas.height);
  return Math.max(Math.min(Math.max(spread * LIMB_WIDTH, LIMB_LIMITS[0] * longer), LIMB_LIMITS[1] * longer), 1);
}

/** The side's colour where both ends or one end has a side, e.g. neck to left shoulder. */
function limbColour(start: string, end: string): string {
  const sides = new Set([start, end].filter((colour) => colour !== MIDDLE));
  return sides.size === 1 ? [...sides][0] : MIDDLE;
}

function line(context: CanvasRenderingContext2D, from: readonly number[], to: readonly number[], colour: string,
              width: number): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(from[0], from[1]);
  context.lineTo(to[0], to[1]);
  context.stroke();
}

function dot(context: CanvasRenderingContext2D, place: readonly [number, number], colour: string, width: number,
             filled: boolean): void {
  const radius = 0.9 * width + 1;
  disc(context, place, radius + 1, OUTLINE);
  disc(context, place, radius, colour);
  if (!filled) disc(context, place, Math.max(radius - 0.6 * width, 1), OUTLINE);
}

function disc(context: CanvasRenderingContext2D, [x, y]: readonly [number, number], radius: number,
              colour: string): void {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/** A white ring with a dark rim, which stands out on any picture. */
export function ring(context: CanvasRenderingContext2D, [x, y]: readonly [number, number], radius: number): void {
  for (const [colour, width] of [[OUTLINE, 4], ["white", 2]] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}
