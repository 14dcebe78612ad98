/** Whether a request may be served by this node: pure decisions over what is hosted and what the request knows. */
import { AppError } from "@millrace/base";

/** What a node knows of a partition it hosts. */
export interface LeadershipState {
  /** `topic-3`, for messages. */
  readonly label: string;
  /** Leader as the metadata tells it; "" when there is none. */
  readonly leaderId: string;
  /** host:port of that leader for clients; "" when unknown. */
  readonly leaderAddress: string;
  /** Leader epoch as the metadata tells it. */
  readonly leaderEpoch: number;
  /** Epoch under which this node serves; undefined while it does not. */
  readonly servingEpoch: number | undefined;
  /** True when the metadata names this node as leader. */
  readonly isToldToLead: boolean;
}

/**
 * Checks a request's leader epoch (-1 = not told) against the partition. Returns the epoch it is served under.
 * Throws NOT_LEADER with the leader as hint, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NODE_STARTING.
 */
export function checkLeadership(state: LeadershipState, requestEpoch: number): number {
  const { label, leaderEpoch, servingEpoch } = state;
  const metadata = {
    leaderId: state.leaderId,
    leaderEpoch: String(leaderEpoch),
    leaderAddress: state.leaderAddress,
  };
  if (!state.isToldToLead) {
    const where = state.leaderId === "" ? "it has no leader now" : `its leader is ${state.leaderId}`;
    throw new AppError("NOT_LEADER", `this node does not lead ${label}: ${where}; refresh the metadata`, {
      metadata,
    });
  }
  if (servingEpoch === undefined)
    throw new AppError("NODE_STARTING", `${label} is being opened; try again`, { metadata });
  if (requestEpoch >= 0 && requestEpoch < servingEpoch) {
    throw new AppError(
      "FENCED_LEADER_EPOCH",
      `${label}: the request knows leader epoch ${requestEpoch}, it is ${servingEpoch} now; refresh the metadata`,
      { metadata },
    );
  }
  if (requestEpoch > servingEpoch) {
    throw new AppError(
      "UNKNOWN_LEADER_EPOCH",
      `${label}: the request knows leader epoch ${requestEpoch}, this node has heard of ${servingEpoch}; try again`,
      { metadata },
    );
  }
  return servingEpoch;
}
