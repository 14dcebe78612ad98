export {
  type CommitEntry,
  type ListedFile,
  type ResumePosition,
  readCommitLog,
  type Totals,
} from "./file/commit-log.ts";
export { components } from "./registry.ts";
