/** `docs/reference/configuration.md`: the settings of every service, from the schema that reads them. */
import { globSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { renderReference, z } from "@millrace/config";
import { generatedNotice } from "../lib/markdown.ts";
import { root } from "../lib/run.ts";
import type { Generator } from "./generator.ts";

/** The generator of the configuration page. Each `services/<name>/src/config.ts` exports one `...ConfigSchema`. */
export const configReference: Generator = {
  owns: [],
  async generate() {
    const sections: string[] = [];
    for (const path of globSync("services/*/src/config.ts", { cwd: root }).sort()) {
      const service = path.split("/")[1] ?? "";
      const module = (await import(pathToFileURL(join(root, path)).href)) as Record<string, unknown>;
      const schema = Object.entries(module).find(([name]) => name.endsWith("ConfigSchema"))?.[1];
      if (!(schema instanceof z.ZodType)) throw new Error(`${path} exports no ...ConfigSchema`);
      sections.push(
        renderReference(schema, `millrace serve ${service}`, {
          envPrefix: `MILLRACE_${service.toUpperCase()}_`,
        }),
      );
    }
    const content = `# Configuration of the services

${generatedNotice("services/*/src/config.ts")}

A setting comes from the file of \`--config\`, from the environment, or from a flag; the later wins. \`--print-config\` shows
what is in force and where it came from.

${sections.join("\n")}`;
    return [{ path: "docs/reference/configuration.md", content }];
  },
};
