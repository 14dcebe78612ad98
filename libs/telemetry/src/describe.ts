/** The reference page of everything declared: docs/reference/telemetry.md is made from it. */
import { declarations, type EventDeclaration, type MetricDeclaration } from "./declarations.ts";

/** Markdown of the declarations of all modules loaded so far: metrics, then events. No title. */
export function describeDeclarations(): string {
  const { events, metrics } = declarations();
  return `## Metrics

Every series also carries \`service\` and \`node\`. Names follow Prometheus' habits: base units, \`_total\` for counters.

${markdownTable(["Metric", "Kind", "Labels", "Meaning"], metrics.map(metricRow))}

## Events

A log line is one JSON object: \`time\`, \`level\`, \`service\`, \`node\`, \`event\`, \`message\` and the fields below. A line with
\`suppressedCount\` stands for that many more since the line before it.

${markdownTable(["Event", "Level", "Message", "Fields", "Counter"], events.map(eventRow))}
`;
}

function metricRow(metric: MetricDeclaration): string[] {
  const labels = metric.labels.map((label) => `\`${label}\``).join(", ");
  return [`\`${metric.name}\``, metric.kind, labels, metric.help];
}

function eventRow(event: EventDeclaration): string[] {
  const fields = Object.entries(event.fields).map(([name, text]) => `\`${name}\`: ${text}`);
  const limit = event.rateLimitMs > 0 ? ` At most one line in ${event.rateLimitMs} ms.` : "";
  const counter = event.counter === undefined ? "" : `\`${event.counter.name}\``;
  return [`\`${event.name}\``, event.level, `${event.message}${limit}`, fields.join("; "), counter];
}

function markdownTable(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(headers), line(headers.map(() => "---")), ...rows.map(line)].join("\n");
}
