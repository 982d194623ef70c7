/** An error that the user can fix; its message is one line that is shown as it is. */
export class UserError extends Error {}

/** Return the first line of whatever was thrown. */
export function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] || "no reason given";
}
