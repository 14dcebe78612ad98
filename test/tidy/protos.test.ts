/** What buf cannot know about our protos: every RPC says who may call it, and every service is implemented. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { files, read, root } from "./files.ts";

interface Method {
  readonly name: string;
  readonly options?: Readonly<Record<string, { readonly resource?: string; readonly operation?: string }>>;
}

interface Image {
  readonly file: readonly {
    readonly name: string;
    readonly package: string;
    readonly service?: readonly { readonly name: string; readonly method: readonly Method[] }[];
  }[];
}

const buf = join(root, "node_modules/.bin/buf");
const image = JSON.parse(
  execFileSync(buf, ["build", "--output", "-#format=json"], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 64 << 20,
  }),
) as Image;
const services = image.file.flatMap((file) =>
  (file.service ?? []).map((service) => ({ ...service, path: `${file.package}.${service.name}` })),
);

describe("protos", () => {
  test("every RPC declares the resource and the operation that authorize() is asked about", () => {
    const methods = services.flatMap((service) =>
      service.method.map((method) => ({
        path: `${service.path}/${method.name}`,
        options: method.options ?? {},
      })),
    );
    expect(methods.length).toBeGreaterThan(20);
    const open = methods.filter(({ options }) => {
      const access = options["[millrace.common.v1.access]"];
      return access?.resource === undefined || access.operation === undefined;
    });
    expect(open.map(({ path }) => path)).toEqual([]);
  });

  test("every declared service is implemented somewhere", () => {
    const code = files.filter((path) => /^(services|libs\/(rpc|components))\/.*(?<!\.test)\.ts$/.test(path));
    const text = code.map(read).join("\n");
    const missing = services.filter(({ name }) => !text.includes(`${name}Service`));
    expect(missing.map(({ path }) => path)).toEqual([]);
  });
});
