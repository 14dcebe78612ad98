/** What the log tells about itself: one typed union, turned into log lines and metrics by whoever opens the directory. */

/** An event of a data directory. `log` is the label of a log; offsets, bytes and milliseconds as named. */
export type LogEvent =
  | { readonly kind: "segmentRolled"; readonly log: string; readonly baseOffset: number }
  | {
      readonly kind: "segmentsDeleted";
      readonly log: string;
      readonly count: number;
      readonly bytes: number;
      readonly records: number;
      readonly reason: "start" | "size" | "time";
    }
  | {
      readonly kind: "tornTailCut";
      readonly log: string;
      readonly fromOffset: number;
      readonly bytes: number;
    }
  | {
      readonly kind: "corruptionQuarantined";
      readonly log: string;
      readonly fromOffset: number;
      readonly toOffset: number;
      readonly where: string;
    }
  | { readonly kind: "indexRebuilt"; readonly log: string; readonly baseOffset: number }
  | { readonly kind: "logFailed"; readonly log: string; readonly message: string }
  | { readonly kind: "strayDirectory"; readonly path: string }
  | { readonly kind: "journalFileBegun"; readonly generation: number; readonly isReused: boolean }
  | { readonly kind: "journalTornEntry"; readonly generation: number; readonly position: number }
  | { readonly kind: "journalRecycled"; readonly generation: number }
  | {
      readonly kind: "checkpointed";
      readonly throughEntry: number;
      readonly syncedFiles: number;
      readonly durationMs: number;
    }
  | { readonly kind: "directoryOffline"; readonly message: string }
  | { readonly kind: "diskFull"; readonly path: string }
  | { readonly kind: "diskUsableAgain"; readonly pausedMs: number }
  | { readonly kind: "clockJumped"; readonly byMs: number }
  | {
      readonly kind: "producerForgotten";
      readonly log: string;
      readonly producerId: number;
      readonly why: "expired" | "limit";
    };
