/** The contract between `scripts/generate.ts` and whatever produces checked-in files. */

/** One generated file: its path from the repository root and its whole content. */
export interface GeneratedFile {
  readonly path: string;
  readonly content: Uint8Array | string;
}

/**
 * A producer of checked-in files. It never writes: the driver compares and writes, so that `--check` and the real
 * run cannot differ. Output must be a function of the sources alone (no dates, no machine paths).
 */
export interface Generator {
  /** Folders, from the repository root, that belong to this generator alone: other files in them are removed. */
  readonly owns: readonly string[];
  /** Produces all files. */
  generate(): Promise<readonly GeneratedFile[]>;
}
