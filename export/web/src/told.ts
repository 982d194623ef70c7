/** What a user can mend: one line that says what was found, what was expected and what to do, shown as it is. */
export class Told extends Error {}

/** The first line of whatever was thrown, for the end of a told line. */
export function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] || "no reason given";
}
