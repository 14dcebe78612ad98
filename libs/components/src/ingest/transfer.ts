/**
 * One stream of one sender, as the receiver serves it (rules H1-H3).
 *
 * Batches are put in the order they come; each is answered when it is durable. While the channel is full they wait
 * here, bounded by the stream's credit: the sender sees no answer, keeps its records, and its own channel fills.
 */
import { AppError, invariant } from "@millrace/base";
import { decodeRecords, type Intake, type Offering, type SinkRecord } from "@millrace/flow";
import type { HandshakeReply } from "@millrace/proto/common";
import {
  Durability,
  type TransferBatch,
  type TransferOpen,
  type TransferRequest,
  type TransferResponse,
} from "@millrace/proto/ingest";
import type { Duplex } from "@millrace/rpc";
import {
  checkCurrent,
  formatLedger,
  isOver,
  type LedgerState,
  missingRanges,
  openLedger,
  parseLedger,
  type TransferSender,
  withHeld,
  withResolved,
} from "./hop-ledger.ts";

/** Longest time a batch waits for room before it is asked for again, ms: practically until the stream ends. */
const roomWaitMs = 24 * 3600 * 1000;

/** Counters of the source. */
export interface TransferCounters {
  duplicates: number;
  possibleDuplicates: number;
}

/** What a stream is served with. */
export interface TransferParts {
  readonly stream: Duplex<TransferResponse, TransferRequest>;
  readonly intake: Intake;
  readonly signal: AbortSignal;
  readonly creditBytes: number;
  /** Id of this agent's data directory (H3). */
  readonly directoryId: string;
  readonly counters: TransferCounters;
  /** Answers the handshake or throws. */
  readonly greet: (open: TransferOpen) => HandshakeReply;
}

/** Serves one stream until it ends. */
export class Transfer {
  readonly #parts: TransferParts;
  #sender: TransferSender | undefined;
  #ledgerKey = "";
  /** The ledger as last read or made, by the identity of its bytes: nothing is parsed per put. */
  #known: { readonly bytes: Uint8Array; readonly state: LedgerState } | undefined;
  #isOpened = false;
  #unansweredBytes = 0;

  constructor(parts: TransferParts) {
    this.#parts = parts;
  }

  async serve(): Promise<void> {
    const broken = Promise.withResolvers<never>();
    broken.promise.catch(() => undefined);
    const received = this.#parts.stream.receive(({ message }) => {
      if (message?.$case === "open") this.#open(message.value).catch(broken.reject);
      else if (message?.$case === "batch") this.#take(message.value).catch(broken.reject);
      else if (message?.$case === "resolved")
        this.#resolve(message.value.resolvedThrough).catch(broken.reject);
      else broken.reject(new AppError("INVALID_REQUEST", "a message of the transfer is empty"));
    });
    await Promise.race([received, broken.promise]);
  }

  /** H3: the session is noted durably before the sender learns what is held. */
  async #open(open: TransferOpen): Promise<void> {
    if (this.#sender !== undefined) throw new AppError("INVALID_REQUEST", "a transfer is opened once");
    const { intake, stream, directoryId } = this.#parts;
    const handshake = this.#parts.greet(open);
    if (open.receiverDirectoryId !== "" && open.receiverDirectoryId !== directoryId) {
      throw new AppError(
        "HOP_REFUSED",
        `this is agent ${directoryId}, the sender looks for ${open.receiverDirectoryId}`,
      );
    }
    const sender = senderOf(open);
    this.#sender = sender;
    this.#ledgerKey = `${ledgerPrefix(sender)}${sender.channelId}`;
    if (intake.durability !== "fsync" && !open.allowVolatile) {
      throw new AppError(
        "HOP_REFUSED",
        "this agent's channels are not durable: use file channels, or allow it with allowVolatile at the sender",
      );
    }
    await this.#offer(() => ({
      records: [],
      notes: [this.#note(openLedger(this.#ledger(), sender)), ...this.#oldNotes(sender)],
    }));
    this.#isOpened = true;
    const held = this.#currentLedger().held.map(({ from, to }) => ({ from, to }));
    const durability = intake.durability === "fsync" ? Durability.FSYNC : Durability.VOLATILE;
    stream.write({
      message: {
        $case: "opened",
        value: { handshake, directoryId, held, durability },
      },
    });
  }

  async #take(batch: TransferBatch): Promise<void> {
    if (!this.#isOpened) throw new AppError("INVALID_REQUEST", "a batch came before the transfer was opened");
    const bytes = batch.batch.byteLength;
    if (this.#unansweredBytes > 0 && this.#unansweredBytes + bytes > this.#parts.creditBytes) {
      throw new AppError(
        "CREDIT_EXCEEDED",
        `more than ${this.#parts.creditBytes} bytes are unanswered on this stream`,
      );
    }
    this.#unansweredBytes += bytes;
    try {
      this.#answer(batch.correlationId, await this.#put(batch));
    } catch (thrown) {
      const error = AppError.from(thrown);
      if (!isAboutTheBatch(error)) throw error;
      this.#refuse(batch.correlationId, error);
    } finally {
      this.#unansweredBytes -= bytes;
    }
  }

  /** Puts what of the batch is not held yet; resolves with how many records were, when all of it is durable. */
  async #put(batch: TransferBatch): Promise<number> {
    const from = batch.firstSequence;
    const to = from + batch.recordCount;
    const records = decode(batch);
    let duplicateCount = 0;
    await this.#offer(
      () => {
        // Checked and written in one synchronous step: a late request of a dead connection cannot land (H3).
        const ledger = this.#currentLedger();
        checkCurrent(ledger, this.#sender as TransferSender);
        const missing = missingRanges(ledger, from, to);
        const fresh = missing.flatMap((range) => records.slice(range.from - from, range.to - from));
        duplicateCount = records.length - fresh.length;
        // Without records too: its durability proves that of the put it repeats.
        return { records: fresh, notes: [this.#note(withHeld(ledger, from, to))] };
      },
      { records: records.length, bytes: batch.batch.byteLength },
    );
    this.#parts.counters.duplicates += duplicateCount;
    if (batch.possibleDuplicate) this.#parts.counters.possibleDuplicates += records.length - duplicateCount;
    return duplicateCount;
  }

  async #resolve(through: number): Promise<void> {
    if (!this.#isOpened || through <= this.#currentLedger().resolvedThrough) return;
    await this.#offer(() => {
      const ledger = this.#currentLedger();
      checkCurrent(ledger, this.#sender as TransferSender);
      return { records: [], notes: [this.#note(withResolved(ledger, through))] };
    });
  }

  async #offer(
    prepare: () => Offering,
    room?: { readonly records: number; readonly bytes: number },
  ): Promise<void> {
    const { intake, signal } = this.#parts;
    const options = { waitMs: roomWaitMs, signal, ...(room === undefined ? {} : { room }) };
    while ((await intake.offer(prepare, options)) === "full") signal.throwIfAborted();
  }

  /** The ledger as committed: the state table is the one truth, also while puts are under way. */
  #ledger(): LedgerState | undefined {
    const bytes = this.#parts.intake.note(this.#ledgerKey);
    if (bytes === undefined) return undefined;
    if (this.#known?.bytes !== bytes) this.#known = { bytes, state: parseLedger(bytes) };
    return this.#known.state;
  }

  /** Removes ledgers of the sender's channels that ended with its earlier starts. */
  #oldNotes(sender: TransferSender): { key: string; value: null }[] {
    return [...this.#parts.intake.notes(ledgerPrefix(sender))]
      .filter(([key, bytes]) => key !== this.#ledgerKey && isOver(parseLedger(bytes), sender.startNumber))
      .map(([key]) => ({ key, value: null }));
  }

  #currentLedger(): LedgerState {
    const ledger = this.#ledger();
    invariant(ledger !== undefined, "an opened transfer has a ledger");
    return ledger;
  }

  #note(ledger: LedgerState): { key: string; value: Uint8Array } {
    const value = formatLedger(ledger);
    this.#known = { bytes: value, state: ledger };
    return { key: this.#ledgerKey, value };
  }

  #answer(correlationId: number, duplicateCount: number): void {
    this.#parts.stream.write({
      message: { $case: "result", value: { correlationId, error: undefined, duplicateCount } },
    });
  }

  #refuse(correlationId: number, { reason, message, metadata }: AppError): void {
    const error = { reason, message, metadata: { ...metadata } };
    this.#parts.stream.write({
      message: { $case: "result", value: { correlationId, error, duplicateCount: 0 } },
    });
  }
}

function ledgerPrefix({ agentId }: TransferSender): string {
  return `hop/${agentId}.`;
}

function senderOf(open: TransferOpen): TransferSender {
  const { agentId, channelId, starts, startNumber, session, resolvedThrough, volatileChannel } = open;
  if (agentId === "" || channelId === "" || starts.length === 0) {
    throw new AppError("INVALID_REQUEST", "a transfer is opened with agent id, channel id and start history");
  }
  const agentName = open.handshake?.nodeId ?? "";
  return {
    agentId,
    agentName,
    channelId,
    starts,
    startNumber,
    session,
    resolvedThrough,
    isVolatile: volatileChannel,
  };
}

/** Errors that concern one batch; all others end the stream. */
function isAboutTheBatch({ reason }: AppError): boolean {
  return (
    reason === "INVALID_RECORD" ||
    reason === "RECORD_CORRUPT" ||
    reason === "RECORD_TOO_LARGE" ||
    reason === "LIMIT_EXCEEDED"
  );
}

function decode(batch: TransferBatch): SinkRecord[] {
  const records: SinkRecord[] = [];
  const undecodable = decodeRecords(batch.batch, 0, records);
  if (undecodable !== undefined) throw AppError.from(undecodable.error);
  if (records.length !== batch.recordCount || batch.recordCount === 0) {
    throw new AppError(
      "INVALID_RECORD",
      `the batch says ${batch.recordCount} records and holds ${records.length}`,
    );
  }
  return records;
}
