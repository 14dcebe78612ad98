/**
 * The receiver's ledger of one sender's channel (rules L1, H2, H3), pure.
 *
 * It knows which of the sender's sequences are in this agent's log: the ranges at or above `resolvedThrough`, and
 * everything below, which counts as held for ever. It is stored with every put, in the same transaction, so it is
 * never ahead of the records nor behind them.
 */
import { AppError, type Range, RangeSet } from "@millrace/base";

/** Who opens a transfer. */
export interface TransferSender {
  readonly agentId: string;
  readonly agentName: string;
  readonly channelId: string;
  /** Start history of the sender's directory, oldest first, this start last. */
  readonly starts: readonly string[];
  readonly startNumber: number;
  readonly session: number;
  readonly resolvedThrough: number;
  /** True: the channel ends with this start of the sender. */
  readonly isVolatile: boolean;
}

/** What is stored. */
export interface LedgerState {
  readonly v: 1;
  /** Last start id seen of the sender. */
  readonly start: string;
  readonly startNumber: number;
  readonly session: number;
  readonly resolvedThrough: number;
  readonly held: readonly Range[];
  /** True: no later start of the sender uses this channel. */
  readonly isVolatile: boolean;
}

/** Reads a stored ledger. */
export function parseLedger(bytes: Uint8Array): LedgerState {
  return JSON.parse(Buffer.from(bytes).toString()) as LedgerState;
}

/** The stored form of a ledger. */
export function formatLedger(state: LedgerState): Uint8Array {
  return Buffer.from(JSON.stringify(state));
}

/** The ledger after a sender has opened. Throws LINEAGE_REFUSED for a copy, STALE_SESSION for an older session. */
export function openLedger(state: LedgerState | undefined, sender: TransferSender): LedgerState {
  const start = sender.starts.at(-1) ?? "";
  if (state === undefined) return trimmed({ v: 1, start, ...numbersOf(sender), held: [] });
  if (!sender.starts.includes(state.start)) {
    throw new AppError(
      "LINEAGE_REFUSED",
      `the directory of agent ${sender.agentName} (${sender.agentId}) is a copy or an older state of one that has sent to this agent since: ` +
        "nothing was taken. Go on with the newest copy, or give this one an identity of its own: millrace agent identity --new DIR",
      { metadata: { agentId: sender.agentId } },
    );
  }
  checkCurrent(state, sender);
  const resolvedThrough = Math.max(state.resolvedThrough, sender.resolvedThrough);
  return trimmed({ ...state, start, ...numbersOf(sender), resolvedThrough });
}

/** Throws STALE_SESSION when a newer start or session of the sender is known: a late request of a dead connection. */
export function checkCurrent(
  state: LedgerState,
  sender: { readonly startNumber: number; readonly session: number },
): void {
  const isOlder =
    sender.startNumber < state.startNumber ||
    (sender.startNumber === state.startNumber && sender.session < state.session);
  if (!isOlder) return;
  throw new AppError(
    "STALE_SESSION",
    `start ${sender.startNumber}, session ${sender.session} of the sender is over: start ${state.startNumber}, session ${state.session} is known`,
  );
}

/** The parts of [from, to) that are not held; below `resolvedThrough` everything is held (H2). */
export function missingRanges(state: LedgerState, from: number, to: number): Range[] {
  return new RangeSet(state.held).missing(
    Math.max(from, state.resolvedThrough),
    Math.max(to, state.resolvedThrough),
  );
}

/** The ledger with [from, to) held. */
export function withHeld(state: LedgerState, from: number, to: number): LedgerState {
  const held = new RangeSet(state.held);
  held.add(Math.max(from, state.resolvedThrough), Math.max(to, state.resolvedThrough));
  return { ...state, held: held.ranges };
}

/** The ledger after the sender has resolved everything below `through`. */
export function withResolved(state: LedgerState, through: number): LedgerState {
  return through <= state.resolvedThrough ? state : trimmed({ ...state, resolvedThrough: through });
}

/** True when no sender will ever open this ledger again: its channel was in memory and ended with its start. */
export function isOver(state: LedgerState, startNumber: number): boolean {
  return state.isVolatile && state.startNumber < startNumber;
}

function numbersOf(sender: TransferSender): {
  startNumber: number;
  session: number;
  resolvedThrough: number;
  isVolatile: boolean;
} {
  return {
    startNumber: sender.startNumber,
    session: sender.session,
    resolvedThrough: sender.resolvedThrough,
    isVolatile: sender.isVolatile,
  };
}

function trimmed(state: LedgerState): LedgerState {
  const held = new RangeSet(state.held);
  held.removeBelow(state.resolvedThrough);
  return { ...state, held: held.ranges };
}
