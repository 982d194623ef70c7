/** Unpacks fetched files in the page, not on the server, so that any static host serves them. */

const MAGIC = [0x1f, 0x8b];

/** Return the response's body without gzip, or unchanged if the host has unpacked it already. */
export async function gunzipped(response: Response): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const [ahead, body] = response.body!.tee();
  const reader = ahead.getReader();
  const { value } = await reader.read();
  void reader.cancel();
  const packed = value !== undefined && MAGIC.every((byte, i) => value[i] === byte);
  return packed ? body.pipeThrough(new DecompressionStream("gzip")) : body;
}
