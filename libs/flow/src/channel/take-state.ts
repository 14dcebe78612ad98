/**
 * What a file channel keeps in the state table (J5), encoded: the take position with what was committed above it and
 * the sink's checkpoint, and how many bytes were put below a sequence.
 *
 *   u8 version (1) · u32 big-endian length of the JSON · JSON · checkpoint bytes
 */
import { AppError, type Range } from "@millrace/base";
import type { ByteMark } from "./byte-marks.ts";
import type { Checkpoint } from "./types.ts";

const formatVersion = 1;
const prefixBytes = 5;

/** State of the takers of a channel. */
export interface TakeState {
  readonly position: number;
  /** Committed above the position. */
  readonly ranges: readonly Range[];
  /** Bytes put below the position. */
  readonly releasedBytes: number;
  readonly checkpoint: Checkpoint | undefined;
}

/** Key of a channel's take position. */
export function takeKey(channelId: string): string {
  return `channel/${channelId}/take`;
}

/** Key of a channel's count of put bytes. */
export function countedKey(channelId: string): string {
  return `channel/${channelId}/counted`;
}

/** Encodes a take state. */
export function encodeTakeState(state: TakeState): Uint8Array {
  const json = Buffer.from(
    JSON.stringify({
      position: state.position,
      ranges: state.ranges.map(({ from, to }) => [from, to]),
      releasedBytes: state.releasedBytes,
      ...(state.checkpoint === undefined ? {} : { sink: state.checkpoint.sink }),
    }),
  );
  const checkpoint = state.checkpoint?.bytes ?? new Uint8Array();
  const bytes = Buffer.alloc(prefixBytes + json.length + checkpoint.length);
  bytes[0] = formatVersion;
  bytes.writeUInt32BE(json.length, 1);
  bytes.set(json, prefixBytes);
  bytes.set(checkpoint, prefixBytes + json.length);
  return bytes;
}

/** Decodes a take state. Throws UNSUPPORTED_VERSION for a newer format. */
export function decodeTakeState(bytes: Uint8Array): TakeState {
  if (bytes[0] !== formatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `the channel's take position has format ${bytes[0]}, this software knows ${formatVersion}: it was written by a newer one`,
    );
  }
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = prefixBytes + view.readUInt32BE(1);
  const json = JSON.parse(view.toString("utf8", prefixBytes, end)) as {
    position: number;
    ranges: [number, number][];
    releasedBytes: number;
    sink?: string;
  };
  return {
    position: json.position,
    ranges: json.ranges.map(([from, to]) => ({ from, to })),
    releasedBytes: json.releasedBytes,
    checkpoint:
      json.sink === undefined ? undefined : { sink: json.sink, bytes: new Uint8Array(view.subarray(end)) },
  };
}

/** Encodes a count of put bytes. */
export function encodeCounted(mark: ByteMark): Uint8Array {
  return Buffer.from(JSON.stringify([formatVersion, mark.sequence, mark.bytes]));
}

/** Decodes a count of put bytes; undefined (count from the start) when it is of another format. */
export function decodeCounted(bytes: Uint8Array | undefined): ByteMark | undefined {
  if (bytes === undefined) return undefined;
  const [version, sequence, count] = JSON.parse(Buffer.from(bytes).toString("utf8")) as number[];
  if (version !== formatVersion || sequence === undefined || count === undefined) return undefined;
  return { sequence, bytes: count };
}
