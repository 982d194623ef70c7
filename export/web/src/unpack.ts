/** Unpacks what was fetched: by the page rather than by the server, so that any static host will do. */

const MAGIC = [0x1f, 0x8b];

/** The response's body without gzip; as it is where the host has unpacked it on the way. */
export async function unpacked(response: Response): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const [ahead, body] = response.body!.tee();
  const reader = ahead.getReader();
  const { value } = await reader.read();
  void reader.cancel();
  const packed = value !== undefined && MAGIC.every((byte, i) => value[i] === byte);
  return packed ? body.pipeThrough(new DecompressionStream("gzip")) : body;
}
