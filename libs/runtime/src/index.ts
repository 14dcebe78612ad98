export { createFileExclusively, readWholeFile, replaceFile } from "./atomic-file.ts";
export { Backoff, type BackoffOptions, type RetryOptions, retry } from "./backoff.ts";
export { ByteBudget } from "./byte-budget.ts";
export { type Clock, systemClock, type Timer } from "./clock.ts";
export { type DirectoryLock, lockDirectory } from "./directory-lock.ts";
export { type Disk, type DiskFile, errorCode, type FileStat, type OpenMode, realDisk } from "./disk.ts";
export { idLength, isId, randomId } from "./ids.ts";
export { portInUse, portOwner } from "./port-owner.ts";
export { Shutdown } from "./shutdown.ts";
