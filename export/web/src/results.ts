/** The pose as text: a table of joints beside the pictures, and one sentence for who cannot see them. */

import { HIDDEN_BELOW, jointColours, type Choice } from "./drawing";
import type { Schema } from "./metadata";
import type { Pose } from "./poses";

/** How a joint is drawn, in a word. */
export function stateOf(pose: Pose, joint: number, leastScore: number): "visible" | "occluded" | "left out" {
  if (pose.scores[joint] < leastScore) return "left out";
  return pose.visibility[joint] >= HIDDEN_BELOW ? "visible" : "occluded";
}

/** A joint's name as a reader says it. */
export function spoken(name: string): string {
  return name.replaceAll("_", " ");
}

/** One sentence about the pose. */
export function summary(pose: Pose, names: readonly string[], leastScore: number): string {
  const states = names.map((_, k) => stateOf(pose, k, leastScore));
  const count = (state: string) => states.filter((found) => found === state).length;
  const occluded = names.filter((_, k) => states[k] === "occluded").map(spoken);
  const told = occluded.length ? ` (${occluded.join(", ")})` : "";
  const left = count("left out") ? `, ${count("left out")} left out with scores below ${leastScore.toFixed(2)}` : "";
  return `${names.length} joints: ${count("visible")} visible, ${occluded.length} occluded${told}${left}.`;
}

/** The rows of a table, kept and filled anew: buttons that hold the focus must stay where they are. */
export class Table {
  private rows: { row: HTMLTableRowElement; button: HTMLButtonElement; cells: HTMLTableCellElement[] }[] = [];

  /** `chosen` is called with the joint whose button was pressed. */
  constructor(private readonly body: HTMLTableSectionElement, private readonly chosen: (joint: number) => void) {}

  /** Begin anew for a model's joints. */
  reset(schema: Schema): void {
    const colours = jointColours(schema);
    this.rows = schema.keypoints.map((name, k) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = spoken(name);
      button.style.setProperty("--joint", colours[k]);
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
      const state = stateOf(pose, k, choice.leastScore);
      const [x, y] = pose.points[k];
      const texts = [x.toFixed(1), y.toFixed(1), pose.scores[k].toFixed(2), pose.visibility[k].toFixed(2), state];
      texts.forEach((text, i) => (cells[i].textContent = text));
      row.dataset.state = state;
      button.setAttribute("aria-pressed", String(choice.joint === k));
    });
  }
}
