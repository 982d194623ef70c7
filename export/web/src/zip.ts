/** Reads the stored members of the ZIP at the end of an exported .tflite file. */

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const MEMBER = 0x04034b50;
const END_SIZE = 22; // bytes of the end record before its comment

/** The members by name, and where the first of them begins. */
export interface Zip {
  readonly members: ReadonlyMap<string, Uint8Array>;
  readonly start: number;
}

/** Read the ZIP at the end of the bytes, whose comment has `comment` bytes; throws RangeError if there is none. */
export function readZip(bytes: Uint8Array, comment: number): Zip {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.byteLength - comment - END_SIZE;
  expect(view.getUint32(end, true) === END, "no end record");
  const members = new Map<string, Uint8Array>();
  let [entry, start] = [view.getUint32(end + 16, true), end];
  for (let count = view.getUint16(end + 10, true); count > 0; count--) {
    expect(view.getUint32(entry, true) === ENTRY, "a damaged list");
    expect(view.getUint16(entry + 10, true) === 0, "a compressed member");
    const [size, name] = [view.getUint32(entry + 20, true), view.getUint16(entry + 28, true)];
    const at = view.getUint32(entry + 42, true);
    expect(view.getUint32(at, true) === MEMBER, "a misplaced member");
    const from = at + 30 + view.getUint16(at + 26, true) + view.getUint16(at + 28, true);
    expect(from + size <= end, "a member that is too long");
    members.set(new TextDecoder().decode(bytes.subarray(entry + 46, entry + 46 + name)),
                bytes.subarray(from, from + size));
    start = Math.min(start, at);
    entry += 46 + name + view.getUint16(entry + 30, true) + view.getUint16(entry + 32, true);
  }
  return { members, start };
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new RangeError(`its ZIP has ${otherwise}`);
}
