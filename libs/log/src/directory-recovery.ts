/**
 * From what is on disk to logs that serve: checkpoint, journal, replay, logs (J2, J4, J5, J6).
 *
 * Nothing is served and no offset is assigned until all of it is done and the checkpoint that follows has fsynced what was
 * kept. A crash anywhere in here changes nothing: the next start does the same again.
 */
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { type JournalCheckpoint, readCheckpoint } from "./checkpoints.ts";
import { entryKind, type JournalEntry } from "./journal-format.ts";
import { type JournalScan, revisitFile, scanJournal } from "./journal-scan.ts";
import type { LogContext } from "./log-context.ts";
import { type LoadInput, loadLog } from "./log-loader.ts";
import {
  createLogFolder,
  deletedSuffix,
  folderTopicId,
  logFolder,
  type RegisteredLog,
  registeredLogs,
  setAside,
  straySuffix,
} from "./log-registry.ts";
import { PartitionLog } from "./partition-log.ts";
import { Replayer, type ReplayLog } from "./replay.ts";
import type { StateTable } from "./state-table.ts";
import type { RecoveryReport } from "./types.ts";

/** The recovered directory. */
export interface Recovered {
  readonly scan: JournalScan;
  readonly lastEntry: number;
  readonly logs: readonly PartitionLog[];
  /** Registrations of logs whose removal is finished now; internal keys that say nothing any more. */
  readonly obsoleteKeys: readonly string[];
  readonly report: Omit<RecoveryReport, "durationMs">;
}

/** Recovers the directory at `path` into `state` and logs. */
export async function recoverDirectory(
  context: LogContext,
  path: string,
  directoryId: string,
  state: StateTable,
): Promise<Recovered> {
  const { disk, files } = context;
  const journalPath = join(path, "journal");
  await removeTemporaries(context, [path, journalPath, join(path, "topics")]);
  const checkpoint = await readCheckpoint(disk, journalPath);
  const firstBases = new Map([...checkpoint.marks].map(([number, mark]) => [number, mark.firstSegmentBase]));
  let replayedEntries = 0;
  const { throughEntry } = checkpoint;
  const scan = await scanJournal(disk, journalPath, { directoryId, throughEntry }, (entry, found) => {
    readState(state, entry);
    if (found.entryNumber <= throughEntry || entry.kind === entryKind.state) return;
    replayedEntries++;
    if (entry.kind !== entryKind.drop) return;
    firstBases.set(entry.logNumber, Math.max(firstBases.get(entry.logNumber) ?? 0, entry.firstSegmentBase));
  });
  if (scan.tornAt !== undefined) context.emit({ kind: "journalTornEntry", ...scan.tornAt });
  if (scan.used.length === 0 && throughEntry > 0) {
    throw new AppError(
      "RECORD_LOST_ON_DISK",
      `${journalPath} has no journal, but a checkpoint through entry ${throughEntry}`,
    );
  }
  const registered = registeredLogs(state);
  const living = registered.filter((log) => !log.isDeleted);
  await prepareFolders(context, path, registered);
  const replayLogs = replayLogsOf(path, living, checkpoint, firstBases);
  const replayer = new Replayer(disk, files, replayLogs);
  for (const file of scan.used.filter((each) => each.lastEntry > throughEntry)) {
    const entries: JournalEntry[] = [];
    await revisitFile(disk, file, (entry, found) => {
      if (found.entryNumber > throughEntry) entries.push(entry);
    });
    for (const entry of entries) await replayer.apply(entry);
    await replayer.finish();
  }
  const isClean = checkpoint.isClean && replayedEntries === 0;
  const loaded = await loadLogs(context, path, living, replayLogs, isClean);
  const deletedKeys = registered.filter((log) => log.isDeleted).map((log) => log.number);
  return {
    scan,
    lastEntry: Math.max(scan.lastEntry, throughEntry),
    logs: loaded.logs,
    obsoleteKeys: [...loaded.obsoleteKeys, ...deletedKeys.map((number) => registrationKey(number))],
    report: {
      wasClean: isClean,
      replayedEntries,
      replayedBytes: replayer.bytes,
      tornTails: loaded.tornTails,
      corruptRanges: loaded.logs.flatMap((log) =>
        log.quarantine.ranges.map(({ fromOffset, toOffset }) => ({ log: log.label, fromOffset, toOffset })),
      ),
    },
  };
}

function registrationKey(number: number): string {
  return `\u0000log/${number}`;
}

function readState(state: StateTable, entry: JournalEntry): void {
  if (entry.kind === entryKind.state) state.reset(entry.state);
  else if (entry.kind === entryKind.append) {
    state.apply(entry.state);
    state.applyJournaled(entry.state);
  }
}

function replayLogsOf(
  path: string,
  living: readonly RegisteredLog[],
  checkpoint: JournalCheckpoint,
  firstBases: ReadonlyMap<number, number>,
): Map<number, ReplayLog> {
  return new Map(
    living.map(({ number, id }) => {
      const mark = checkpoint.marks.get(number);
      const replayLog: ReplayLog = {
        directory: join(path, logFolder(id)),
        firstSegmentBase: firstBases.get(number) ?? 0,
        startOffset: mark?.startOffset ?? 0,
        recoveryPoint: mark?.recoveryPoint ?? 0,
        provenEnd: mark?.recoveryPoint ?? 0,
      };
      return [number, replayLog];
    }),
  );
}

/** Leftovers of interrupted atomic replacements. */
async function removeTemporaries(context: LogContext, folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    for (const name of await context.disk.list(folder)) {
      if (name.endsWith(".tmp")) await context.disk.removeFile(join(folder, name));
    }
  }
}

/** Finishes removals, refuses folders of another identity, moves aside what no log claims. */
async function prepareFolders(
  context: LogContext,
  path: string,
  registered: readonly RegisteredLog[],
): Promise<void> {
  const { disk } = context;
  const living = new Map(registered.filter((log) => !log.isDeleted).map((log) => [logFolder(log.id), log]));
  for (const parent of ["topics", "channels"]) {
    for (const name of await disk.list(join(path, parent))) {
      const folder = join(parent, name);
      const full = join(path, folder);
      if ((await disk.stat(full))?.kind !== "directory") continue;
      if (name.endsWith(deletedSuffix)) await disk.removeTree(full);
      else if (!living.has(folder) && !name.endsWith(straySuffix))
        await removeOrSetAside(context, full, folder, registered);
    }
  }
  for (const [folder, { id }] of living) {
    const full = join(path, folder);
    if ((await disk.stat(full)) === undefined) await createLogFolder(disk, path, id);
    else await checkFolderIdentity(context, full, id);
  }
}

async function checkFolderIdentity(context: LogContext, path: string, id: PartitionLog["id"]): Promise<void> {
  if (id.kind !== "topic") return;
  const topicId = await folderTopicId(context.disk, path);
  if (topicId === id.topicId) return;
  throw new AppError(
    "LINEAGE_REFUSED",
    `${path} holds topic id ${topicId ?? "(none)"}, but this directory's journal has ${id.topicId} there: put the right folder back`,
  );
}

/** A folder no living log claims: of a removed log, of a creation that was interrupted (empty), or foreign. */
async function removeOrSetAside(
  context: LogContext,
  full: string,
  folder: string,
  registered: readonly RegisteredLog[],
): Promise<void> {
  const { disk } = context;
  const removed = registered.find((log) => log.isDeleted && logFolder(log.id) === folder);
  const isRemoved =
    removed !== undefined &&
    (removed.id.kind === "channel" || (await folderTopicId(disk, full)) === removed.id.topicId);
  if (isRemoved || !(await hasSegmentBytes(context, full))) {
    await disk.removeTree(await setAside(disk, full, deletedSuffix));
    return;
  }
  context.emit({ kind: "strayDirectory", path: await setAside(disk, full, straySuffix) });
}

async function hasSegmentBytes(context: LogContext, path: string): Promise<boolean> {
  for (const name of await context.disk.list(path)) {
    if (name.endsWith(".log") && ((await context.disk.stat(join(path, name)))?.sizeBytes ?? 0) > 0)
      return true;
  }
  return false;
}

async function loadLogs(
  context: LogContext,
  path: string,
  living: readonly RegisteredLog[],
  replayLogs: ReadonlyMap<number, ReplayLog>,
  isClean: boolean,
): Promise<{ logs: PartitionLog[]; tornTails: RecoveryReport["tornTails"]; obsoleteKeys: string[] }> {
  const logs: PartitionLog[] = [];
  const tornTails: { log: string; fromOffset: number; bytes: number }[] = [];
  const obsoleteKeys: string[] = [];
  for (const { number, id, config } of living) {
    const log = new PartitionLog(context, number, id, config, join(path, logFolder(id)));
    const replayLog = replayLogs.get(number) as ReplayLog;
    const { recoveryPoint, startOffset, firstSegmentBase, provenEnd } = replayLog;
    const load: LoadInput = { mark: { recoveryPoint, startOffset, firstSegmentBase }, provenEnd, isClean };
    const result = await loadLog(log, load);
    obsoleteKeys.push(...result.obsoleteKeys);
    if (result.torn !== undefined) {
      const { fromOffset, bytes } = result.torn;
      tornTails.push({ log: log.label, fromOffset, bytes });
      context.emit({ kind: "tornTailCut", log: log.label, fromOffset, bytes });
    }
    for (const segment of log.segments) if (segment.isDirty) context.noteDirty(log, segment);
    // Names made by replay or an interrupted start are made durable with the rest.
    log.hasNewNames = true;
    logs.push(log);
  }
  return { logs, tornTails, obsoleteKeys };
}
