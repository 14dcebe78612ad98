/** Configuration of the file sink: Flume's `file_roll` keys and ours. */
import { size, z } from "@millrace/config";

const fileName = z
  .string()
  .max(100)
  .regex(/^[A-Za-z0-9._-]*$/, "use a-z A-Z 0-9 . _ -");

/** Keys of the file sink. */
export const fileSinkSchema = z.strictObject({
  directory: z.string().min(1).describe("Folder of the published files; created when absent."),
  rollInterval: z
    .number()
    .min(0)
    .max(86_400)
    .default(30)
    .describe("Seconds after its first record at which a file is published; 0 = never by time."),
  rollSize: size()
    .default(128 * 1024 * 1024)
    .describe("Bytes at which a file is published; 0 = never by size."),
  rollCount: z
    .number()
    .int()
    .min(0)
    .default(0)
    .describe("Records at which a file is published; 0 = never by count."),
  batchSize: z.number().int().min(1).default(100).describe("Records taken from a channel at once."),
  format: z
    .enum(["text", "json"])
    .default("text")
    .describe("`text`: the value's bytes and a newline; `json`: one object a line that keeps everything."),
  newlines: z
    .enum(["escape", "keep", "reject"])
    .default("escape")
    .describe(
      "Text only: what happens to a value with a line feed inside: `\\n` for each (counted), kept, or refused.",
    ),
  serializer: z
    .string()
    .regex(/^text$/i, "only TEXT; `format: json` keeps key, headers and time")
    .default("TEXT")
    .describe("Flume's serializer."),
  prefix: fileName.default("").describe("Put before each file's name."),
  extension: fileName
    .optional()
    .describe("End of each file's name, without the dot; default `log`, or `jsonl` for json; empty = none."),
  pathManager: z
    .string()
    .regex(/^(default|rolltime)$/i, "DEFAULT or ROLLTIME")
    .default("DEFAULT")
    .describe(
      "Accepted for Flume's sake: names are made of topic, partition and first offset, not of the time.",
    ),
});

/** Configuration after validation. */
export type FileSinkConfig = z.output<typeof fileSinkSchema>;

const numericKeys = new Set(["rollInterval", "rollCount", "batchSize"]);

/** Flume's keys (`sink.directory`, `sink.pathManager.prefix`, ...) in the schema's form. Unknown ones are left to it. */
export function fromFlumeKeys(keys: ReadonlyMap<string, string>): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [key, value] of keys) {
    const name = key.replace(/^sink\./, "").replace(/^pathManager\.(prefix|extension)$/, "$1");
    found[name] = numericKeys.has(name) && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  }
  return found;
}
