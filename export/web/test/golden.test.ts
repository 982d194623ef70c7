/** The page computes what the package computes: inputs and results in golden.json are Python's. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { calibrated } from "../src/calibration";
import { keypointColors } from "../src/drawing";
import { cropTransform, inverse, type Affine, type Box, type Point } from "../src/geometry";
import { readModelFile } from "../src/metadata";
import { crop } from "../src/pixels";
import { answer, type Pose } from "../src/poses";
import { boxIn, confidentBox, nextBox, tileBoxes } from "../src/predictor";
import { oneEuro, type Smoothed } from "../src/smoothing";

const golden = JSON.parse(readFileSync(new URL("golden.json", import.meta.url), "utf8"));

/** Return pairs of a name and a case, for test.each. */
function named(cases: any[], name: (one: any, i: number) => unknown): [string, any][] {
  return cases.map((one, i) => [String(name(one, i)), one]);
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(text, "base64"));
}

function box([x, y, w, h]: number[]): Box {
  return { x, y, w, h };
}

function expectClose(result: readonly unknown[], expected: readonly unknown[], within: number): void {
  const [one, other] = [result.flat(2) as number[], expected.flat(2) as number[]];
  expect(one.length).toBe(other.length);
  one.forEach((value, i) => expect(Math.abs(value - other[i]), `number ${i}`).toBeLessThanOrEqual(within));
}

describe("crops", () => {
  const { width, height, image, cases } = golden.crops;
  test.each(named(cases, (one) => one.box))("of box %s", (_, one) => {
    const transform = cropTransform(box(one.box), one.size);
    expectClose(transform, one.transform, 1e-6);
    expectClose(inverse(one.transform as Affine), one.inverse, 1e-6);
    const result = crop({ data: bytes(image), width, height, channels: 3 }, transform, one.size);
    const expected = bytes(one.crop);
    expectClose([...result], [...expected], 1); // grey level: not every processor rounds alike
    expect(result.filter((value, i) => value !== expected[i]).length).toBeLessThanOrEqual(expected.length / 200);
  });

  test("are the same with a fourth channel", () => {
    const rgb = bytes(image);
    const rgba = Uint8Array.from({ length: 4 * width * height },
                                 (_, i) => (i % 4 < 3 ? rgb[3 * (i >> 2) + (i % 4)] : 9));
    const transform = cropTransform(box(cases[3].box), cases[3].size);
    expect(crop({ data: rgba, width, height, channels: 4 }, transform, cases[3].size))
      .toEqual(crop({ data: rgb, width, height, channels: 3 }, transform, cases[3].size));
  });
});

test.each(named(golden.boxes, (_, i) => i))("boxes of pose %s", (_, one) => {
  const pose: Pose = { keypoints: one.keypoints, scores: one.scores, visibility: one.scores, box: box(one.box) };
  const list = (result: Box | null) => (result ? [result.x, result.y, result.w, result.h] : null);
  const confident = list(confidentBox(pose, one.width, one.height, one.least));
  expect(confident).toEqual(one.confident); // on a grid, so exact
  const next = list(nextBox(pose, one.width, one.height, one.followed));
  if (one.next) expectClose(next!, one.next, 1e-6);
  else expect(next).toBeNull();
});

test.each(named(golden.search, (one) => `${one.width} x ${one.height}`))("first boxes in an image of %s", (_, one) => {
  const list = ({ x, y, w, h }: Box) => [x, y, w, h];
  expect(list(boxIn(-0.5, -0.5, one.width, one.height))).toEqual(one.image);
  expect(tileBoxes(one.width, one.height).map(list)).toEqual(one.tiles);
});

test("smoothing", () => {
  let state: Smoothed | null = null;
  for (const { keypoints, seconds, size, smoothed } of golden.smoothing) {
    state = oneEuro(state, keypoints as Point[], seconds, size);
    expectClose(state.keypoints, smoothed, 1e-6);
  }
});

test.each(named(golden.calibration, (one) => one.curve))("curve %s", (_, one) => {
  expectClose(one.scores.map((score: number) => calibrated(one.curve, score)), one.calibrated, 1e-8);
});

test("the line of predictions.jsonl", () => {
  const { image, keypoints, scores, visibility, box: where, names, line } = golden.answer;
  const result = JSON.parse(answer(image, { keypoints, scores, visibility, box: box(where) }, names));
  expect(result).toEqual(line);
  expect(Object.keys(result.keypoints)).toEqual(names);
});

test.each(named(golden.colors, (one) => one.schema.name))("colors of %s", (_, one) => {
  expect(keypointColors(one.schema)).toEqual(one.colors.map((rgb: number[]) => `rgb(${rgb.join(" ")})`));
});

describe("an exported file", () => {
  const { file, model, decoder, card } = golden.model_file;

  test("says what it holds", async () => {
    const result = await readModelFile(bytes(file), "a.tflite");
    expect([...result.model]).toEqual([...bytes(model)]);
    expect([...result.decoder]).toEqual([...bytes(decoder)]);
    expect(result).toMatchObject({ kind: "heatmaps", precision: "float16", source: "some.keras", license: "CC0" });
    const { schema, input_size, calibration } = card.model;
    expect(result.metadata).toEqual({ inputSize: input_size, calibration, schema: {
      name: schema.name, keypoints: schema.keypoints, pairs: schema.pairs, limbs: schema.limbs } });
  });

  test.each([
    ["altered", (b: Uint8Array<ArrayBuffer>) => b.map((byte, i) => (i === 20 ? 255 : byte)),
     /^a: is damaged \(its SHA-256 begins with \w{12}, expected \w{12}\); /],
    ["cut short", (b: Uint8Array<ArrayBuffer>) => b.slice(0, -40),
     /^a: does not end with the checksum of posecascade-export, so its keypoints are unknown, or it was cut short; /],
    ["an image", () => Uint8Array.from(Buffer.from("\xff\xd8\xff\xe0JFIF")), /^a: is no \.tflite file; give a model/],
    ["empty", () => new Uint8Array(), /^a: is no \.tflite file; /],
  ] as const)("%s is refused", async (_, change, message) => {
    await expect(readModelFile(change(bytes(file)), "a")).rejects.toThrow(message);
  });
});
