/** What the data directory reports, as log lines, counters and readiness. */
import { AppError } from "@millrace/base";
import type { LogEvent } from "@millrace/log";
import type { Telemetry } from "@millrace/telemetry";
import * as events from "./events.ts";

const dataAtRisk = new Set<LogEvent["kind"]>(["corruptionQuarantined", "logFailed", "strayDirectory"]);

/** Turns events of the directory into telemetry; `onOffline` hears of its end. */
export class DirectoryReports {
  readonly #telemetry: Telemetry;
  readonly #onOffline: (error: AppError) => void;

  constructor(telemetry: Telemetry, onOffline: (error: AppError) => void) {
    this.#telemetry = telemetry;
    this.#onOffline = onOffline;
    telemetry.readiness.set("disk", { ready: true });
  }

  take(event: LogEvent): void {
    const { kind, ...details } = event;
    const declaration = dataAtRisk.has(kind) ? events.directoryAlarm : events.directoryEvent;
    this.#telemetry.emit(declaration, { kind, details: JSON.stringify(details) });
    const { readiness } = this.#telemetry;
    if (event.kind === "directoryOffline") {
      readiness.set("disk", { ready: false, reason: `data directory offline: ${event.message}` });
      this.#telemetry.emit(events.directoryOffline, { error: event.message });
      this.#onOffline(new AppError("STORAGE_FAILED", event.message));
    } else if (event.kind === "diskFull") {
      readiness.set("disk", { ready: false, reason: `disk full: puts into ${event.path} wait for room` });
    } else if (event.kind === "diskUsableAgain") {
      readiness.set("disk", { ready: true });
    }
  }
}
