/**
 * The descriptor set of all protos, read once: which access option each RPC declares, and the raw file descriptors for
 * the reflection service. Only the few fields that are needed are read; the files themselves are passed on as they are.
 */
import { readFileSync } from "node:fs";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { invariant } from "@millrace/base";
import { descriptorSetUrl } from "@millrace/proto";
import { Access } from "@millrace/proto/common";

/** Number of the method option (millrace.common.v1.access). */
const accessOption = 50801;

/** One .proto file. */
export interface ProtoFile {
  readonly name: string;
  readonly dependencies: readonly string[];
  /** The serialized FileDescriptorProto. */
  readonly bytes: Uint8Array;
}

/** What the descriptor set tells. */
export interface Descriptors {
  /** By name of the file. */
  readonly files: ReadonlyMap<string, ProtoFile>;
  /** Full names of messages, enums, services, methods and extensions -> file. */
  readonly symbols: ReadonlyMap<string, ProtoFile>;
  /** Extended message -> extension number -> file. */
  readonly extensions: ReadonlyMap<string, ReadonlyMap<number, ProtoFile>>;
  /** gRPC path (`/package.Service/Method`) -> declared access. Methods without the option are absent. */
  readonly access: ReadonlyMap<string, Access>;
  /** gRPC paths of all methods. */
  readonly methods: readonly string[];
}

let cached: Descriptors | undefined;

/** The descriptors of this system's protos. */
export function loadDescriptors(): Descriptors {
  cached ??= parseDescriptorSet(readFileSync(descriptorSetUrl));
  return cached;
}

/** Parses a serialized google.protobuf.FileDescriptorSet. */
export function parseDescriptorSet(set: Uint8Array): Descriptors {
  const files = new Map<string, ProtoFile>();
  const symbols = new Map<string, ProtoFile>();
  const extensions = new Map<string, Map<number, ProtoFile>>();
  const access = new Map<string, Access>();
  const methods: string[] = [];
  for (const bytes of fieldsOf(set).bytes(1)) {
    const fields = fieldsOf(bytes);
    const file: ProtoFile = { name: fields.text(1), dependencies: fields.texts(3), bytes };
    files.set(file.name, file);
    const scope = fields.text(2);
    addTypes(fields, scope, { message: 4, enumeration: 5, extension: 7 }, file, symbols, extensions);
    for (const service of fields.bytes(6)) {
      const serviceFields = fieldsOf(service);
      const serviceName = joined(scope, serviceFields.text(1));
      symbols.set(serviceName, file);
      for (const method of serviceFields.bytes(2)) {
        const methodFields = fieldsOf(method);
        const name = methodFields.text(1);
        symbols.set(`${serviceName}.${name}`, file);
        const path = `/${serviceName}/${name}`;
        methods.push(path);
        const option = methodFields.bytes(4).flatMap((options) => fieldsOf(options).bytes(accessOption))[0];
        if (option !== undefined) access.set(path, Access.decode(option));
      }
    }
  }
  invariant(files.size > 0, "the descriptor set holds files");
  return { files, symbols, extensions, access, methods };
}

/** Adds the messages (with what is nested in them), enums and extensions of a file or message. */
function addTypes(
  fields: Fields,
  scope: string,
  numbers: { readonly message: number; readonly enumeration: number; readonly extension: number },
  file: ProtoFile,
  symbols: Map<string, ProtoFile>,
  extensions: Map<string, Map<number, ProtoFile>>,
): void {
  for (const message of fields.bytes(numbers.message)) {
    const inner = fieldsOf(message);
    const name = joined(scope, inner.text(1));
    symbols.set(name, file);
    addTypes(inner, name, { message: 3, enumeration: 4, extension: 6 }, file, symbols, extensions);
  }
  for (const enumeration of fields.bytes(numbers.enumeration)) {
    symbols.set(joined(scope, fieldsOf(enumeration).text(1)), file);
  }
  for (const extension of fields.bytes(numbers.extension)) {
    const inner = fieldsOf(extension);
    symbols.set(joined(scope, inner.text(1)), file);
    const extended = inner.text(2).replace(/^\./, "");
    const byNumber = extensions.get(extended) ?? new Map<number, ProtoFile>();
    extensions.set(extended, byNumber.set(inner.number(3), file));
  }
}

function joined(scope: string, name: string): string {
  return scope === "" ? name : `${scope}.${name}`;
}

/** The fields of one serialized message, by number. */
interface Fields {
  bytes(number: number): readonly Uint8Array[];
  text(number: number): string;
  texts(number: number): readonly string[];
  number(number: number): number;
}

const decoder = new TextDecoder();

function fieldsOf(message: Uint8Array): Fields {
  const chunks = new Map<number, Uint8Array[]>();
  const numbers = new Map<number, number>();
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (wireType === WireType.LengthDelimited) {
      const list = chunks.get(number) ?? [];
      list.push(reader.bytes());
      chunks.set(number, list);
    } else if (wireType === WireType.Varint) {
      numbers.set(number, Number(reader.uint64()));
    } else {
      reader.skip(wireType);
    }
  }
  const texts = (number: number): string[] =>
    (chunks.get(number) ?? []).map((bytes) => decoder.decode(bytes));
  return {
    bytes: (number) => chunks.get(number) ?? [],
    text: (number) => texts(number)[0] ?? "",
    texts,
    number: (number) => numbers.get(number) ?? 0,
  };
}
