/** `docs/reference/components/`: a page for every component type of the registry, and a list of them. */
import { components } from "@millrace/components";
import { renderReference } from "@millrace/config";
import { type ChannelDefinition, type ComponentDefinition, channelDefinitions } from "@millrace/flow";
import { generatedNotice, table } from "../lib/markdown.ts";
import type { GeneratedFile, Generator } from "./generator.ts";

const folder = "docs/reference/components";
const kinds = ["source", "interceptor", "sink"] as const;

/** The generator of the components' pages. */
export const componentReference: Generator = {
  owns: [folder],
  async generate() {
    const files: GeneratedFile[] = [];
    const sections: string[] = [];
    for (const kind of kinds) {
      const definitions = await definitionsOf(kind);
      const rows = definitions.map((definition) => [
        `[\`${definition.type}\`](${fileName(definition)})`,
        definition.summary,
        definition.guarantee,
      ]);
      sections.push(`## ${heading(kind)}s\n\n${table(["Type", "What it does", "Guarantee"], rows)}\n`);
      for (const definition of definitions) {
        files.push({ path: `${folder}/${fileName(definition)}`, content: page(definition) });
      }
    }
    const channelRows = channelDefinitions.map((one) => [
      `[\`${one.type}\`](${one.type}-channel.md)`,
      one.summary,
    ]);
    sections.push(`## Channels\n\n${table(["Type", "What it does"], channelRows)}\n`);
    for (const one of channelDefinitions) {
      files.push({ path: `${folder}/${one.type}-channel.md`, content: channelPage(one) });
    }
    const notice = generatedNotice("libs/components");
    files.push({
      path: `${folder}/README.md`,
      content: `# Components\n\n${notice}\n\n${sections.join("\n")}`,
    });
    return files;
  },
};

async function definitionsOf(kind: (typeof kinds)[number]): Promise<ComponentDefinition[]> {
  const loaded = await Promise.all(components.types(kind).map((type) => components[kind](type)));
  return loaded.filter((definition) => definition !== undefined);
}

function fileName(definition: ComponentDefinition): string {
  return `${definition.type.toLowerCase().replaceAll("_", "-")}-${definition.kind}.md`;
}

function heading(kind: string): string {
  return kind.charAt(0).toUpperCase() + kind.slice(1);
}

function channelPage(definition: ChannelDefinition): string {
  const aliases = definition.aliases.map((name) => `\`${name}\``).join(", ");
  return `${[
    `# Channel \`${definition.type}\``,
    generatedNotice("its definition in libs/flow"),
    definition.summary,
    `**Guarantee:** ${definition.guaranteeNote}`,
    `**Other names:** ${aliases}`,
    renderReference(definition.config, "Settings").trimEnd(),
    "## Examples",
    ...definition.examples.map(({ title, yaml }) => `${title}:\n\n\`\`\`yaml\n${yaml.trim()}\n\`\`\``),
  ].join("\n\n")}\n`;
}

function page(definition: ComponentDefinition): string {
  const aliases = (definition.aliases ?? []).map((name) => `\`${name}\``).join(", ");
  const note = definition.guaranteeNote === undefined ? "" : ` ${definition.guaranteeNote}`;
  const parts = [
    `# ${heading(definition.kind)} \`${definition.type}\``,
    generatedNotice("its definition in libs/components"),
    definition.summary,
    `**Guarantee:** ${definition.guarantee}.${note}`,
  ];
  if (aliases !== "") parts.push(`**Other names:** ${aliases}`);
  parts.push(renderReference(definition.config, "Settings").trimEnd());
  const examples = definition.examples ?? [];
  if (examples.length > 0) parts.push("## Examples");
  for (const { title, yaml } of examples) parts.push(`${title}:\n\n\`\`\`yaml\n${yaml.trim()}\n\`\`\``);
  return `${parts.join("\n\n")}\n`;
}
