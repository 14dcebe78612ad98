/** What the data directory reports, as log lines, counters and readiness. */

import { AppError } from "@millrace/base";
import type { LogEvent } from "@millrace/log";
import type { Telemetry } from "@millrace/telemetry";
import * as events from "../events.ts";

/** Events that are routine: told at debug level through the directory's generic event. */
const dataAtRisk = new Set<LogEvent["kind"]>(["corruptionQuarantined", "logFailed", "strayDirectory"]);

/** Takes events from the moment the directory opens; they wait until the telemetry is there (its node id is inside). */
export class DirectoryReports {
  readonly #early: LogEvent[] = [];
  #telemetry: Telemetry | undefined;
  readonly #onOffline: (error: AppError) => void;

  constructor(onOffline: (error: AppError) => void) {
    this.#onOffline = onOffline;
  }

  /** Gives out what waited; later events go straight. */
  attach(telemetry: Telemetry): void {
    this.#telemetry = telemetry;
    telemetry.readiness.set("disk", { ready: true });
    for (const event of this.#early.splice(0)) this.take(event);
  }

  take(event: LogEvent): void {
    const telemetry = this.#telemetry;
    if (telemetry === undefined) {
      this.#early.push(event);
      return;
    }
    const { kind, ...details } = event;
    const declaration = dataAtRisk.has(kind) ? events.directoryAlarm : events.directoryEvent;
    telemetry.emit(declaration, { kind, details: JSON.stringify(details) });
    if (event.kind === "directoryOffline") {
      telemetry.readiness.set("disk", { ready: false, reason: `data directory offline: ${event.message}` });
      telemetry.emit(events.directoryOffline, { error: event.message });
      this.#onOffline(new AppError("STORAGE_FAILED", event.message));
    } else if (event.kind === "diskFull") {
      telemetry.readiness.set("disk", {
        ready: false,
        reason: `disk full: appends to ${event.path} wait for room`,
      });
    } else if (event.kind === "diskUsableAgain") {
      telemetry.readiness.set("disk", { ready: true });
    }
  }
}
