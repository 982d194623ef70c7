/** Parts of the page that have no counterpart in Python: hues, summaries, sizes, the order of the search. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Follower, Rate } from "../src/camera";
import { drawPose, LEFT, RIGHT } from "../src/drawing";
import { hueOf } from "../src/maps";
import type { TimedPrediction } from "../src/messages";
import type { Metadata } from "../src/metadata";
import type { Output } from "../src/network";
import { factorFor } from "../src/image";
import type { Pose } from "../src/poses";
import { enlarged, search } from "../src/predictor";
import { inverse, shrinkTransform, type Point } from "../src/geometry";
import { stateOf, summary } from "../src/results";
import { gunzipped } from "../src/gunzip";

test("hues are OpenCV's of 180 k / K at saturation 200", () => {
  expect(hueOf(0, 4).map(Math.round)).toEqual([255, 55, 55]);
  expect(hueOf(1, 4).map(Math.round)).toEqual([155, 255, 55]);
  expect(hueOf(2, 4).map(Math.round)).toEqual([55, 255, 255]);
  expect(hueOf(3, 4).map(Math.round)).toEqual([155, 55, 255]);
});

test("an image beyond a canvas is halved until it fits", () => {
  const sizes = [[4096, 4096], [4097, 4096], [8192, 8192], [16384, 8192], [20000, 100]];
  expect(sizes.map(([width, height]) => factorFor(width, height))).toEqual([1, 2, 2, 4, 1]);
});

const pose: Pose = { keypoints: [[0, 0], [1, 1], [2, 2]], scores: [0.9, 0.25, 0.2], visibility: [0.5, 0.49, 0.9],
                     box: { x: -0.5, y: -0.5, w: 4, h: 4 } };

test("a keypoint is visible, occluded or not drawn", () => {
  expect([0, 1, 2].map((k) => stateOf(pose, k, 0.25))).toEqual(["visible", "occluded", "not drawn"]);
  expect(summary(pose, ["neck", "left_knee", "left_ankle"], 0.25)).toBe(
    "3 keypoints: 1 visible, 1 occluded (left knee), 1 not drawn (score below 0.25).");
  expect(summary(pose, ["neck", "left_knee", "left_ankle"], 0)).toBe("3 keypoints: 2 visible, 1 occluded (left knee).");
});

test("the style has rules only for states that keypoints have", () => {
  const style = readFileSync(new URL("../src/style.css", import.meta.url), "utf8");
  const states = new Set([...style.matchAll(/data-state="([^"]*)"/g)].map((found) => found[1]));
  expect([...states].sort()).toEqual(["not drawn", "occluded"]);
});

test("a pose of a shrunk image goes back to the pixels of the file", () => {
  const found = enlarged(pose, inverse(shrinkTransform(2)));
  expect(found.keypoints).toEqual([[0.5, 0.5], [2.5, 2.5], [4.5, 4.5]]);
  expect(found.box).toEqual({ x: -0.5, y: -0.5, w: 8, h: 8 });
});

describe("the search", () => {
  const names = ["a", "b", "c"];
  const metadata: Metadata = { schema: { name: "abc", keypoints: names, pairs: [], limbs: [] }, inputSize: 8,
                               calibration: [1, 0] };
  const cells: Point[] = [[2, 2], [5, 2], [3, 5]];
  /** Keypoints with these scores, one call after the other. */
  const runOf = (scores: number[]) => {
    const asked = [...scores];
    const run = async (): Promise<Output> => {
      const all = cells.map(() => Math.fround(asked[0]));
      asked.shift();
      return { maps: {}, keypoints: cells, scores: all, visibility: all };
    };
    return { run, left: () => asked.length };
  };

  test.each([
    ["takes up to two closer crops", [0.4, 0.5, 0.6, 0.7], 0.6, 1],
    ["drops a crop that is worse", [0.6, 0.4, 0.9], 0.6, 1],
    ["keeps one that is hardly worse", [0.6, 0.5, 0.45, 0.9], 0.45, 1],
    ["stops if nobody is there", [0.2, 0.9], 0.2, 1],
    ["takes the best of a long image's tiles if the scores are low", [0.29, 0.2, 0.25, 0.1, 0.9], 0.29, 1, 128],
    ["continues from a tile with higher scores", [0.39, 0.2, 0.5, 0.45, 0.7, 0.7, 0.9], 0.7, 1, 128],
    ["tries no tile if the scores are high", [0.41, 0.2, 0.9], 0.41, 1, 128],
  ])("%s", async (_, peaks, score, left, width = 64) => {
    const asked = runOf(peaks);
    const data = new Uint8Array(3 * 64 * width);
    const found = await search(asked.run, metadata, { data, width, height: 64, channels: 3 });
    expect(found.pose.scores.map((value) => Math.round(1000 * value) / 1000)).toEqual([score, score, score]);
    expect(asked.left()).toBe(left);
  });
});

test("a response that the host has unpacked is returned unchanged", async () => {
  const text = async (body: BodyInit) => new Response(await gunzipped(new Response(body))).text();
  const packed = new Response(new Blob(["maps"]).stream().pipeThrough(new CompressionStream("gzip")));
  expect(await text(await packed.arrayBuffer())).toBe("maps");
  expect(await text("maps")).toBe("maps");
});

describe("a person before the camera", () => {
  const at = (x: number, score: number) => ({ pose: {
    keypoints: [[x, 10], [x + 50, 60], [x + 100, 110]], scores: [score, score, score], visibility: [1, 1, 1],
    box: { x: 0, y: 0, w: 100, h: 100 } } }) as unknown as TimedPrediction;

  test("is followed, smoothly, until lost", () => {
    const follower = new Follower();
    expect(follower.box).toBeNull(); // the first frame is searched
    expect(follower.follow(at(0, 0.9), 640, 480, 1000, 0.15).keypoints[0]).toEqual([0, 10]);
    expect(follower.box).toEqual({ x: 0, y: 10, w: 100, h: 100 });
    const [x] = follower.follow(at(10, 0.9), 640, 480, 1040, 0.15).keypoints[0];
    expect(x).toBeGreaterThan(0);
    expect(x).toBeLessThan(10);
    expect(follower.box!.x).toBeCloseTo(x); // round what is shown
    follower.follow(at(20, 0.1), 640, 480, 1080, 0.15);
    expect(follower.box).toBeNull();
    expect(follower.follow(at(300, 0.9), 640, 480, 1120, 0.15).keypoints[0]).toEqual([300, 10]); // a new track
    follower.follow(at(310, 0.9), 640, 480, 1160, 0.95); // a curve may put the limit elsewhere
    expect(follower.box).toBeNull();
  });

  test("has frames counted over the last second", () => {
    const rate = new Rate();
    expect([0, 100, 200, 300].map((time) => rate.count(time))).toEqual([0, 10, 10, 10]);
    expect(rate.count(1250)).toBeCloseTo(1000 / 950);
  });
});

describe("a drawn pose", () => {
  const schema = { name: "two", keypoints: ["left_a", "right_a"], pairs: [["left_a", "right_a"]] as [string, string][],
                   limbs: [["left_a", "right_a"]] as [string, string][] };
  const dark = "rgb(20 20 20)";
  /** The fills and strokes of a canvas of 400 x 400 pixels, as [color, x or width, y]. */
  const drawn = (visibility: number[], scores: number[], keypoint: number | null = null) => {
    const calls = { fills: [] as unknown[][], strokes: [] as unknown[][] };
    let place: number[] = [];
    const context = {
      canvas: { width: 400, height: 400 }, fillStyle: "", strokeStyle: "", lineWidth: 0, beginPath() {},
      moveTo() {}, lineTo() {}, arc: (x: number, y: number) => (place = [x, y]),
      fill() { calls.fills.push([this.fillStyle, ...place]); },
      stroke() { calls.strokes.push([this.strokeStyle, this.lineWidth]); },
    };
    const keypoints = [[10, 20], [310, 20]] as [number, number][];
    drawPose(context as unknown as CanvasRenderingContext2D, { keypoints, scores, visibility, box: pose.box }, schema,
             [1, 0, 0, 0, 1, 0], { minScore: 0.25, keypoint });
    return calls;
  };

  test("has filled keypoints where they are seen, in the middle of their pixels", () => {
    expect(drawn([1, 1], [1, 1]).fills).toEqual([[dark, 10.5, 20.5], [LEFT, 10.5, 20.5], [dark, 310.5, 20.5],
                                                 [RIGHT, 310.5, 20.5]]);
  });

  test("has hollow keypoints, and thin limbs to them, where they are occluded", () => {
    const { fills, strokes } = drawn([1, 0.4], [1, 1]);
    expect(fills.map(([color]) => color)).toEqual([dark, LEFT, dark, RIGHT, dark]);
    expect(strokes[1][1]).toBe((drawn([1, 1], [1, 1]).strokes[1][1] as number) / 2);
  });

  test("leaves out what has a low score, and rings the chosen keypoint", () => {
    expect(drawn([1, 1], [1, 0.2])).toEqual({ fills: [[dark, 10.5, 20.5], [LEFT, 10.5, 20.5]], strokes: [] });
    expect(drawn([1, 1], [1, 0.2], 0).strokes).toEqual([[dark, 4], ["white", 2]]);
    expect(drawn([1, 1], [1, 0.2], 1).strokes).toEqual([]);
    expect(drawn([1, 1], [0, 0])).toEqual({ fills: [], strokes: [] });
  });
});
