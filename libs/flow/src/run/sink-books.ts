/**
 * What a sink keeps in the state table: its notes, the records it refused above the take position, and the number of
 * its configuration.
 *
 *   sink/<name>/note/<key>              bytes             the sink's own (receivers in use, routing generations)
 *   sink/<name>/refused/<channelId>     [[from, to], ...] refused for good: never given again (A5)
 *   sink/<name>/refused-count/<channelId> number          how many that were, ever (S1)
 *   sink/<name>/generation              [number, hash]    grows with each change of its configuration
 */
import { type Range, RangeSet } from "@millrace/base";
import type { DataDirectory, StateChange } from "@millrace/log";

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Books of one sink and its channel. */
export class SinkBooks {
  readonly #directory: DataDirectory;
  readonly #notePrefix: string;
  readonly #refusedKey: string;
  readonly #refusedCountKey: string;
  readonly #generationKey: string;
  readonly #refused: RangeSet;
  #refusedCount: number;

  constructor(directory: DataDirectory, sink: string, channelId: string) {
    this.#directory = directory;
    this.#notePrefix = `sink/${sink}/note/`;
    this.#refusedKey = `sink/${sink}/refused/${channelId}`;
    this.#refusedCountKey = `sink/${sink}/refused-count/${channelId}`;
    this.#generationKey = `sink/${sink}/generation`;
    const count = directory.getState(this.#refusedCountKey);
    this.#refusedCount = count === undefined ? 0 : Number(decoder.decode(count));
    const bytes = directory.getState(this.#refusedKey);
    const ranges = bytes === undefined ? [] : (JSON.parse(decoder.decode(bytes)) as [number, number][]);
    this.#refused = new RangeSet(ranges.map(([from, to]): Range => ({ from, to })));
  }

  /** True when the record was refused before and is not given again. */
  isRefused(offset: number): boolean {
    return !this.#refused.isEmpty && this.#refused.has(offset);
  }

  get hasRefused(): boolean {
    return !this.#refused.isEmpty;
  }

  /** Records refused ever. */
  get refusedCount(): number {
    return this.#refusedCount;
  }

  /** Notes a refusal; the changes go into the same durable step as the dead letter. What is delivered is forgotten. */
  refuse(offset: number, position: number): StateChange[] {
    this.#refusedCount++;
    this.#refused.add(offset, offset + 1);
    this.#refused.removeBelow(position);
    const ranges = this.#refused.ranges.map(({ from, to }) => [from, to]);
    return [
      { key: this.#refusedKey, value: encoder.encode(JSON.stringify(ranges)) },
      { key: this.#refusedCountKey, value: encoder.encode(String(this.#refusedCount)) },
    ];
  }

  note(key: string): Uint8Array | undefined {
    return this.#directory.getState(this.#notePrefix + key);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    const found = new Map<string, Uint8Array>();
    for (const stateKey of this.#directory.stateKeys(this.#notePrefix + prefix)) {
      const bytes = this.#directory.getState(stateKey);
      if (bytes !== undefined) found.set(stateKey.slice(this.#notePrefix.length), bytes);
    }
    return found;
  }

  /** In the journal before it returns, so before every later put; resolves when durable. */
  setNotes(notes: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void> {
    const changes = notes.map(({ key, value }) => ({ key: this.#notePrefix + key, value }));
    return this.#directory.commit([], changes).durable;
  }

  /** Number of the configuration whose hash this is: the saved one's when equal, else the next, durable on return. */
  async generation(configHash: string): Promise<number> {
    const saved = this.#directory.getState(this.#generationKey);
    const [number, hash] =
      saved === undefined ? [0, ""] : (JSON.parse(decoder.decode(saved)) as [number, string]);
    if (hash === configHash) return number;
    const value = encoder.encode(JSON.stringify([number + 1, configHash]));
    await this.#directory.commit([], [{ key: this.#generationKey, value }]).durable;
    return number + 1;
  }
}
