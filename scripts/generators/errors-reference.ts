/** `docs/reference/errors.md` from the one error table of `@millrace/base`. */
import { errorTable, grpcCode } from "@millrace/base";
import { generatedNotice, table } from "../lib/markdown.ts";
import type { Generator } from "./generator.ts";

const retryMeaning: readonly (readonly [string, string])[] = [
  ["never", "The same request fails again. Change it, or what it names."],
  ["backoff", "Repeat at the same place after a growing pause."],
  ["refresh", "Fetch metadata again (the leader or the topic moved), then repeat."],
  ["afterDelay", "Repeat after the delay that the answer carries (`google.rpc.RetryInfo`)."],
  [
    "unknownOutcome",
    "The request may have taken effect. Find out before acting; idempotent producers just repeat.",
  ],
];

/** The generator of the errors page. */
export const errorsReference: Generator = {
  owns: [],
  generate: () => Promise.resolve([{ path: "docs/reference/errors.md", content: page() }]),
};

function page(): string {
  const codeName = new Map<number, string>(Object.entries(grpcCode).map(([name, code]) => [code, name]));
  const rows = Object.entries(errorTable).map(([reason, row]) => [
    `\`${reason}\``,
    codeName.get(row.grpc) ?? String(row.grpc),
    row.retry,
    row.kafka === -1 ? "-" : String(row.kafka),
    row.text,
  ]);
  return `# Errors

${generatedNotice("libs/core/base/src/errors.ts")}

Every error carries a reason. On the wire it is \`google.rpc.ErrorInfo\` in the trailer \`grpc-status-details-bin\`; the
message says what happened, where, and what to do.

${table(["Reason", "gRPC status", "Retry", "Kafka code", "Meaning"], rows)}

## Retry classes

${table(["Class", "What a caller does"], retryMeaning)}
`;
}
