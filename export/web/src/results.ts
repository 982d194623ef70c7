/** The pose as text: a table of keypoints next to the images, and one sentence for screen readers. */

import { HIDDEN_BELOW, keypointColors, type Choice } from "./drawing";
import type { Schema } from "./metadata";
import type { Pose } from "./poses";

/** Return how a keypoint is drawn. */
export function stateOf(pose: Pose, keypoint: number, minScore: number): "visible" | "occluded" | "not drawn" {
  if (pose.scores[keypoint] < minScore) return "not drawn";
  return pose.visibility[keypoint] >= HIDDEN_BELOW ? "visible" : "occluded";
}

/** Return a keypoint's name in words. */
export function inWords(name: string): string {
  return name.replaceAll("_", " ");
}

/** Return one sentence about the pose. */
export function summary(pose: Pose, names: readonly string[], minScore: number): string {
  const states = names.map((_, k) => stateOf(pose, k, minScore));
  const count = (state: string) => states.filter((one) => one === state).length;
  const occluded = names.filter((_, k) => states[k] === "occluded").map(inWords);
  const which = occluded.length ? ` (${occluded.join(", ")})` : "";
  const rest = count("not drawn") ? `, ${count("not drawn")} not drawn (score below ${minScore.toFixed(2)})` : "";
  return `${names.length} keypoints: ${count("visible")} visible, ${occluded.length} occluded${which}${rest}.`;
}

/** The rows of the table; they stay when their content changes, so that a button keeps the focus. */
export class Table {
  private rows: { row: HTMLTableRowElement; button: HTMLButtonElement; cells: HTMLTableCellElement[] }[] = [];

  /** `chosen` is called with the keypoint whose button was pressed. */
  constructor(private readonly body: HTMLTableSectionElement, private readonly chosen: (keypoint: number) => void) {}

  /** Make the rows of a model's keypoints. */
  reset(schema: Schema): void {
    const colors = keypointColors(schema);
    this.rows = schema.keypoints.map((name, k) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = inWords(name);
      button.style.setProperty("--keypoint", colors[k]);
      button.addEventListener("click", () => this.chosen(k));
      head.append(button);
      const cells = Array.from({ length: 5 }, () => document.createElement("td"));
      row.append(head, ...cells);
      return { row, button, cells };
    });
    this.body.replaceChildren(...this.rows.map(({ row }) => row));
  }

  /** Show a pose. */
  fill(pose: Pose, choice: Choice): void {
    this.rows.forEach(({ row, button, cells }, k) => {
      const state = stateOf(pose, k, choice.minScore);
      const [x, y] = pose.keypoints[k];
      const texts = [x.toFixed(1), y.toFixed(1), pose.scores[k].toFixed(2), pose.visibility[k].toFixed(2), state];
      texts.forEach((text, i) => (cells[i].textContent = text));
      row.dataset.state = state;
      button.setAttribute("aria-pressed", String(choice.keypoint === k));
    });
  }
}
